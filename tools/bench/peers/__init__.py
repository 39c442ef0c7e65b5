"""The proxies that are measured, in the order of the table.

``PEERS`` is the one list. The first is ours; ratios are ours divided by each of the others.
"""

from tools.bench.peers.base import Installed, Job, Peer, Proxy
from tools.bench.peers.envoy import Envoy
from tools.bench.peers.haproxy import HAProxy
from tools.bench.peers.nginx import Nginx
from tools.bench.peers.pipy import Pipy

PEERS: tuple[Peer, ...] = (Pipy(), Nginx(), HAProxy(), Envoy())

__all__ = ["PEERS", "Installed", "Job", "Peer", "Proxy"]
