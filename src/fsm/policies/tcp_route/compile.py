"""TCPRoute and UDPRoute: whether one means a port.

In: the route and a port of the destination's Pods. Out: yes or no. Not here: who may connect.
"""

from __future__ import annotations

from fsm.model.policy import TCPRoute, UDPRoute


def admits(route: TCPRoute | UDPRoute, port: int) -> bool:
    """Tell whether connections, or datagrams, to this port of a Pod are meant."""
    return not route.ports or port in route.ports
