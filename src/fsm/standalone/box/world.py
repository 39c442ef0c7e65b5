"""What PID 1 does to the fresh namespaces before anything else runs: mounts and network.

What comes in: settings. What goes out: a box in which ``/proc`` shows only the box, ``/run`` is
private and empty, the loopback carries the node's, the API's and the DNS's address, packets are
forwarded, and everything in the Pod network that is not a Pod is unreachable at once; over IPv4
and, where the kernel can, IPv6.

Invariants: the loopback, not a dummy link, carries the addresses, because many small kernels have
no dummy driver; nothing here depends on being root outside. Not done here: links and routes of
single Pods (``node.network``) and firewall rules (``node.service_rules``).
"""

from __future__ import annotations

import os
import socket
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from fsm.standalone.box import syscalls
from fsm.standalone.box.settings import StandaloneSettings

#: Kernel settings of the box's own network namespace, below /proc/sys.
_SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/ip_unprivileged_port_start": "0",
    # Packets of local processes to a ClusterIP are routed to `lo` before they are rewritten.
    "net/ipv4/conf/all/route_localnet": "1",
}
_SYSCTLS6 = {
    "net/ipv6/conf/all/disable_ipv6": "0",
    "net/ipv6/conf/default/disable_ipv6": "0",
    "net/ipv6/conf/all/forwarding": "1",
}
#: What the rules of Services need; a kernel may have IPv6 without it.
_NAT6 = (
    "table ip6 fsm-try { chain try { type nat hook prerouting priority -100; }; }\n"
    "delete table ip6 fsm-try\n"
)
#: What the way out for datagrams needs (``node.outside_udp``); a kernel may lack it.
_TPROXY = (
    "table ip fsm-try { chain try { type filter hook prerouting priority -150;"
    " meta l4proto udp tproxy to 127.0.0.1:1; }; }\n"
    "delete table ip fsm-try\n"
)
#: Packet mark of datagrams that are going out, and the routing table that leads them to us.
UDP_MARK = 0x2000
_UDP_ROUTES = 132


class WorldError(Exception):
    """The box cannot be furnished; the message says which step failed and why."""


@dataclass(frozen=True, slots=True)
class Furnished:
    """What came of it: the settings that hold from here on, and what people should know."""

    settings: StandaloneSettings
    notes: tuple[str, ...] = ()


def furnish(settings: StandaloneSettings) -> Furnished:
    """Set up mounts and network of the box; PID 1 calls this once.

    Returns:
        The settings, without IPv6 where this kernel cannot have it in the box.

    Raises:
        WorldError: a step failed.

    """
    try:
        _mounts()
        syscalls.set_hostname(settings.node_name)
    except OSError as error:
        raise WorldError(f"cannot set up the mounts of the box: {error}") from error
    for name, value in _SYSCTLS.items():
        try:
            Path("/proc/sys", name).write_text(value)
        except OSError as error:
            raise WorldError(f"cannot set {name.replace('/', '.')}={value}: {error}") from error
    _ip_batch(
        [
            "link set lo up",
            f"addr add {settings.node_ip}/32 dev lo",
            *(f"addr add {ip}/32 dev lo" for ip in (settings.api_ip, settings.dns_ip)),
            f"route add {settings.service_cidr} dev lo src {settings.node_ip}",
            f"route add unreachable {settings.pod_cidr}",
        ]
    )
    notes = []
    if settings.pod_cidr6:
        try:
            _furnish6(settings)
        except (OSError, WorldError) as error:
            notes.append(f"no IPv6 in the box, Pods and Services have IPv4 addresses only: {error}")
            settings = replace(settings, pod_cidr6="", service_cidr6="")
    if settings.outside:
        try:
            _furnish_datagrams(settings)
        except WorldError as error:
            notes.append(f"no UDP to the outside, but for DNS: {error}")
    return Furnished(settings, tuple(notes))


def _furnish6(settings: StandaloneSettings) -> None:
    if not Path("/proc/net/if_inet6").exists():
        raise WorldError("the kernel has none, or it is switched off (ipv6.disable)")
    for name, value in _SYSCTLS6.items():
        Path("/proc/sys", name).write_text(value)
    _run(["nft", "-f", "-"], _NAT6)
    _ip_batch(
        [
            *(
                f"addr add {ip}/128 dev lo nodad"
                for ip in (settings.node_ip6, settings.api_ips[1], settings.dns_ips[1])
            ),
            f"route add {settings.service_cidr6} dev lo src {settings.node_ip6}",
            f"route add unreachable {settings.pod_cidr6}",
        ]
    )


def _furnish_datagrams(settings: StandaloneSettings) -> None:
    _run(["nft", "-f", "-"], _TPROXY)
    for family in ("-4", "-6") if settings.pod_cidr6 else ("-4",):
        lines = (
            f"rule add fwmark {UDP_MARK:#x}/{UDP_MARK:#x} lookup {_UDP_ROUTES}",
            f"route add local default dev lo table {_UDP_ROUTES}",
        )
        _run(["ip", family, "-batch", "-"], "\n".join(lines) + "\n")


def dns_sockets(address: str) -> tuple[socket.socket, socket.socket]:
    """Bind the UDP and the TCP socket of the cluster DNS at one of its addresses.

    PID 1 holds them so that queries wait in the kernel, instead of failing, while the node agent
    is being restarted.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM)
    tcp = socket.socket(family, socket.SOCK_STREAM)
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        udp.bind((address, 53))
        tcp.bind((address, 53))
        tcp.listen(128)
    except OSError as error:
        raise WorldError(f"cannot listen for DNS on [{address}]:53: {error}") from error
    return udp, tcp


def _mounts() -> None:
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.mount(
        "proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    )
    syscalls.mount("tmpfs", "/run", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=755")
    if os.path.realpath("/var/run") != "/run" and os.path.isdir("/var/run"):
        syscalls.bind("/run", "/var/run")
    # `ip netns` wants its directory to be a shared mount; making it here keeps that inside.
    for path in ("/run/netns", "/run/fsm/pods", "/run/fsm/root", "/run/lock"):
        os.makedirs(path, mode=0o755, exist_ok=True)


def _ip_batch(lines: list[str]) -> None:
    _run(["ip", "-batch", "-"], "\n".join(lines) + "\n")


def _run(command: list[str], feed: str) -> None:
    name = command[0]
    package = {"ip": "iproute2", "nft": "nftables"}[name]
    try:
        done = subprocess.run(
            command, input=feed, text=True, capture_output=True, timeout=10, check=False
        )
    except FileNotFoundError as error:
        raise WorldError(
            f"cannot find `{name}`\nhint: install {package} (Debian: apt-get install {package})"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise WorldError(f"`{name}` did not answer within 10 seconds") from error
    if done.returncode:
        raise WorldError(f"cannot set up the network of the box: {done.stderr.strip()}")
