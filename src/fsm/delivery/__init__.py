"""Hands certificates and configurations to proxies, and hears what became of them.

What comes in: compiled configurations, a certificate authority, the world's Pods (``World``). What
goes out: the protocol of ``docs/reference/delivery.md`` on port 15128.

``registry`` knows every connected proxy, ``server`` leads each call to its answer, ``polls`` knows
who waits for one, ``http`` and ``channel`` speak HTTP/1.1 over TLS, ``credentials`` decides who may
ask, ``tls`` keeps the server's own certificate fresh, ``failing`` hears of plugins, ``metrics``
counts.

Invariants: a proxy gets its own configuration and no other; a change wakes only the proxies whose
configuration it changes.
Not done here: compiling (``fsm.compile``), deciding when (``fsm.controllers``).
"""

from fsm.delivery.credentials import PodFacts, World
from fsm.delivery.failing import Failing, FailingPlugins
from fsm.delivery.registry import Change, Compiled, ProxyKey, ProxyRegistry
from fsm.delivery.server import DeliveryServer

__all__ = [
    "Change",
    "Compiled",
    "DeliveryServer",
    "Failing",
    "FailingPlugins",
    "PodFacts",
    "ProxyKey",
    "ProxyRegistry",
    "World",
]
