"""What the API server is told from outside.

Invariants: plain values, frozen; a server reads them once at start.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ApiServerSettings:
    """How the embedded API server runs.

    Attributes:
        state_dir: holds the database, the certificates, the kubeconfig and the sockets; created
            with mode 0700 if absent.
        listen_fds: listening TCP sockets that were inherited; they are served with TLS.
        listen: addresses to bind and serve with TLS; port 0 means any free one.
        unix_socket: where to serve plain HTTP to whoever may open the file (its owner: 0600), as
            administrator; ``None`` means ``api.sock`` in the state directory.
        node_socket: the node agent's socket, for logs and port-forwards; ``None`` means
            ``node.sock`` in the state directory.
        service_cidr: the range of cluster IPs; its first address is that of this API.
        service_cidr6: the range of IPv6 cluster IPs; "" means that there are none.
        server_names: further names and addresses that the certificate must hold.
        sync_every_write: flush the disk on each write, so that a power cut too loses nothing that
            was acknowledged.
    """

    state_dir: Path
    listen_fds: list[int] = field(default_factory=list)
    listen: list[tuple[str, int]] = field(default_factory=list)
    unix_socket: Path | None = None
    node_socket: Path | None = None
    service_cidr: str = "10.96.0.0/16"
    service_cidr6: str = ""
    server_names: tuple[str, ...] = ()
    sync_every_write: bool = True

    @property
    def network(self) -> ipaddress.IPv4Network:
        """The range of cluster IPs."""
        return ipaddress.IPv4Network(self.service_cidr)

    @property
    def networks(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        """The ranges of cluster IPs, one per address family, IPv4 first."""
        if not self.service_cidr6:
            return (self.network,)
        return (self.network, ipaddress.IPv6Network(self.service_cidr6))

    @property
    def api_address(self) -> str:
        """The cluster IP of the API: the first of the range."""
        return str(self.network[1])

    @property
    def api_addresses(self) -> list[str]:
        """The cluster IPs of the API, one per address family."""
        return [str(network[1]) for network in self.networks]

    @property
    def certificate_names(self) -> list[str]:
        """All names and addresses by which clients may call the server."""
        known = [
            "127.0.0.1",
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            *self.api_addresses,
            *(host for host, _ in self.listen if host not in ("", "0.0.0.0", "::")),
            *self.server_names,
        ]
        return list(dict.fromkeys(known))
