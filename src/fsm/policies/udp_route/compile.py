"""UDPRoute: what one comes to.

In: the snapshot and the route. Out: a ``Judgement``. Where sidecars cannot carry UDP nobody is kept
from sending datagrams; a route that says who may has to say that it does not help.
"""

from __future__ import annotations

from fsm.model.policy import UDPRoute
from fsm.model.snapshot import Snapshot
from fsm.policies.base import Judgement
from fsm.settings import Settings

NOT_CARRIED = (
    "the sidecars of this mesh do not run as root, and so cannot carry UDP: datagrams pass them by,"
    " to and from everyone"
)


def judge(snapshot: Snapshot, route: UDPRoute, settings: Settings) -> Judgement:
    """Say whether the route has an effect."""
    named = any(
        rule.kind == "UDPRoute" and rule.name == route.name and target.namespace == route.namespace
        for target in snapshot.targets.values()
        for rule in target.rules
    )
    if not named:
        return Judgement("NotReferenced", ("no TrafficTarget names it",))
    if not settings.proxy.carries_udp:
        return Judgement("NotCarried", (NOT_CARRIED,))
    return Judgement()
