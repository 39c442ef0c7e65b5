"""Every knob of the standalone world, typed, with its default and its meaning.

What comes in: the environment, once, through ``StandaloneSettings.default``. What goes out: a
frozen value that is passed along, also to PID 1 of the box as JSON (``to_json``, ``from_json``).

Invariants: no secret is in here; ``check`` finds all problems at once, before anything is started.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

#: Where the gateway answers DNS inside the box: a loopback address of its own.
OUTSIDE_DNS = "127.0.0.53"


class SettingsError(ValueError):
    """A setting cannot work; the message lists every problem with a hint."""


@dataclass(frozen=True, slots=True)
class StandaloneSettings:
    """How one standalone world is laid out.

    Attributes:
        state_dir: where everything durable and every log lives. Default: ``$FSM_HOME``, else
            ``/var/lib/fsm`` for root, ``$XDG_STATE_HOME/fsm`` (``~/.local/state/fsm``) for a user.
        api_port: TCP port of the API on 127.0.0.1 of the host; 0 means any free one.
        pod_cidr: IPv4 network that Pods get their addresses from. Its first address is the node.
        service_cidr: IPv4 network of ClusterIPs. Its first address is the API's.
        pod_cidr6: IPv6 network of the Pods' second addresses; "" means that there is no IPv6.
        service_cidr6: IPv6 network of ClusterIPs; "" exactly when ``pod_cidr6`` is.
        dns_ip: address of the cluster DNS, inside ``service_cidr``.
        cluster_domain: suffix of service names.
        node_name: name of the one Node.
        mesh_name: name of the mesh that the control plane serves.
        image_map: an additional image map file; ``None`` means only ``state_dir/images.yaml``.
        upstream_dns: resolvers for names outside the cluster domain, addresses.
        outside: whether Pods reach TCP servers, and names, outside the box, and the host reaches
            LoadBalancer and NodePort Services.
        expose: IPv4 address of the host on which those Services answer; ``0.0.0.0`` means all of
            them, and so everybody who reaches this machine.
        sync_every_write: whether the store flushes the disk at each write, to survive power cuts.
        up_timeout_s: how long ``up`` waits for the node to be ready, seconds.
        down_timeout_s: how long ``down`` lets Pods end by themselves, seconds.

    """

    state_dir: Path
    api_port: int = 6443
    pod_cidr: str = "10.244.0.0/16"
    service_cidr: str = "10.96.0.0/16"
    pod_cidr6: str = "fd00:10:244::/64"
    service_cidr6: str = "fd00:10:96::/112"
    dns_ip: str = "10.96.0.10"
    cluster_domain: str = "cluster.local"
    node_name: str = "fsm"
    mesh_name: str = "fsm"
    image_map: Path | None = None
    upstream_dns: tuple[str, ...] = ()
    outside: bool = True
    expose: str = "127.0.0.1"
    sync_every_write: bool = True
    up_timeout_s: float = 60.0
    down_timeout_s: float = 15.0

    @classmethod
    def default(cls, **changes: Any) -> StandaloneSettings:
        """Build settings from the environment; ``changes`` override single fields."""
        values: dict[str, Any] = {"state_dir": default_state_dir(), "upstream_dns": _resolvers()}
        if image_map := os.environ.get("FSM_IMAGES"):
            values["image_map"] = Path(image_map)
        return cls(**values | changes)

    @property
    def node_ip(self) -> str:
        """Address of the node: the first host address of the Pod network."""
        return str(ipaddress.IPv4Network(self.pod_cidr)[1])

    @property
    def node_ip6(self) -> str:
        """IPv6 address of the node; "" without IPv6."""
        return str(ipaddress.IPv6Network(self.pod_cidr6)[1]) if self.pod_cidr6 else ""

    @property
    def node_ips(self) -> tuple[str, ...]:
        """Addresses of the node, one per family."""
        return tuple(filter(None, (self.node_ip, self.node_ip6)))

    @property
    def service_networks(self) -> tuple[tuple[str, str], ...]:
        """Per family: the network of ClusterIPs, and the address of the node."""
        both = ((self.service_cidr, self.node_ip), (self.service_cidr6, self.node_ip6))
        return tuple((network, node) for network, node in both if network)

    def pod_ip6(self, ip: str) -> str:
        """Return the IPv6 address of the Pod that has this IPv4 address; "" without IPv6.

        It is the address with the same place in its network, so that people see what belongs
        together, and nobody has to give out two.
        """
        if not self.pod_cidr6:
            return ""
        place = int(ipaddress.IPv4Address(ip)) - int(
            ipaddress.IPv4Network(self.pod_cidr).network_address
        )
        return str(ipaddress.IPv6Network(self.pod_cidr6)[place])

    @property
    def api_ip(self) -> str:
        """ClusterIP of the Service ``kubernetes``: the first address of the Service network."""
        return str(ipaddress.IPv4Network(self.service_cidr)[1])

    @property
    def api_ips(self) -> tuple[str, ...]:
        """ClusterIPs of the Service ``kubernetes``, one per family."""
        other = str(ipaddress.IPv6Network(self.service_cidr6)[1]) if self.service_cidr6 else ""
        return tuple(filter(None, (self.api_ip, other)))

    @property
    def dns_ips(self) -> tuple[str, ...]:
        """Addresses of the cluster DNS: the same place in the networks of both families."""
        if not self.service_cidr6:
            return (self.dns_ip,)
        place = int(ipaddress.IPv4Address(self.dns_ip)) - int(
            ipaddress.IPv4Network(self.service_cidr).network_address
        )
        return (self.dns_ip, str(ipaddress.IPv6Network(self.service_cidr6)[place]))

    @property
    def resolvers(self) -> tuple[str, ...]:
        """What the cluster DNS asks for names outside the cluster domain."""
        return (OUTSIDE_DNS,) if self.outside and self.upstream_dns else self.upstream_dns

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            SettingsError: with one line per problem.

        """
        problems = list(self._problems())
        if problems:
            raise SettingsError("\n".join(problems))

    def _problems(self) -> list[str]:
        found: list[str] = []
        nets: dict[str, ipaddress.IPv4Network] = {}
        for name in ("pod_cidr", "service_cidr"):
            try:
                nets[name] = ipaddress.IPv4Network(getattr(self, name))
            except ValueError as error:
                found.append(f"{name} {getattr(self, name)!r} is not an IPv4 network: {error}")
        if len(nets) == 2:
            pods, services = nets["pod_cidr"], nets["service_cidr"]
            if pods.overlaps(services):
                found.append(f"pod_cidr {pods} and service_cidr {services} overlap")
            if pods.prefixlen > 28 or services.prefixlen > 28:
                found.append("pod_cidr and service_cidr need at least 16 addresses each (/28)")
            try:
                if ipaddress.IPv4Address(self.dns_ip) not in services:
                    found.append(f"dns_ip {self.dns_ip} is not in service_cidr {services}")
            except ValueError:
                found.append(f"dns_ip {self.dns_ip!r} is not an IPv4 address")
        found += self._problems6()
        try:
            ipaddress.IPv4Address(self.expose)
        except ValueError:
            found.append(f"expose {self.expose!r} is not an IPv4 address of this machine")
        if not 0 <= self.api_port <= 65535:
            found.append(f"api_port {self.api_port} is not a port number (0 to 65535)")
        path = self.state_dir.absolute()
        # Inside the box these are other file systems, so files there would not be seen.
        if any(path.is_relative_to(hidden) for hidden in ("/run", "/var/run", "/proc", "/dev")):
            found.append(f"the state directory {path} must not be below /run, /proc or /dev")
        # Containers see the state directory empty: what they run must not be in there.
        needed = (Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parent)
        if any(place.is_relative_to(path) for place in needed):
            found.append(f"the state directory {path} must not contain fsm itself or its Python")
        # LIMIT 107 bytes: the longest path of a unix socket (unix(7)); `node.sock` lives there.
        if len(str(path / "node.sock").encode()) > 107:
            found.append(
                f"the state directory {path} is too long for sockets in it (at most 97 bytes)"
                "\nhint: choose a shorter one with FSM_HOME"
            )
        return found

    def _problems6(self) -> list[str]:
        if not self.pod_cidr6 and not self.service_cidr6:
            return []
        nets = {}
        for name in ("pod_cidr6", "service_cidr6"):
            try:
                nets[name] = ipaddress.IPv6Network(getattr(self, name))
            except ValueError as error:
                return [f"{name} {getattr(self, name)!r} is not an IPv6 network: {error}"]
        pods, services = nets["pod_cidr6"], nets["service_cidr6"]
        found = []
        if pods.overlaps(services):
            found.append(f"pod_cidr6 {pods} and service_cidr6 {services} overlap")
        with contextlib.suppress(ValueError):
            if pods.num_addresses < ipaddress.IPv4Network(self.pod_cidr).num_addresses:
                found.append(f"pod_cidr6 {pods} has fewer addresses than pod_cidr {self.pod_cidr}")
        if services.prefixlen > 124:
            found.append(f"service_cidr6 {services} needs at least 16 addresses (/124)")
        with contextlib.suppress(ValueError):
            first = ipaddress.IPv4Network(self.service_cidr).network_address
            if int(ipaddress.IPv4Address(self.dns_ip)) - int(first) >= services.num_addresses:
                found.append(f"service_cidr6 {services} has no place for that of dns_ip")
        return found

    def to_json(self) -> str:
        """Write the settings as JSON text."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> StandaloneSettings:
        """Read what ``to_json`` wrote; fields of other versions are ignored."""
        values = {k: v for k, v in json.loads(text).items() if k in {f.name for f in fields(cls)}}
        values["state_dir"] = Path(values["state_dir"])
        values["image_map"] = Path(values["image_map"]) if values.get("image_map") else None
        values["upstream_dns"] = tuple(values.get("upstream_dns") or ())
        return cls(**values)


def default_state_dir() -> Path:
    """Where the state lives when nobody says otherwise; see ``StandaloneSettings.state_dir``."""
    if home := os.environ.get("FSM_HOME"):
        return Path(home).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/fsm")
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "fsm"


def _resolvers() -> tuple[str, ...]:
    # Read on the host: inside the box /run, where systemd keeps the real file, is another one.
    try:
        lines = Path("/etc/resolv.conf").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return ()
    words = [line.split() for line in lines]
    return tuple(w[1] for w in words if len(w) > 1 and w[0] == "nameserver")
