"""What runs in the box beside PID 1, as data: names, commands, and the order they come in.

What comes in: settings and the file descriptors that PID 1 holds. What goes out: the ``Child``
table that ``supervise`` starts from top to bottom and stops from bottom to top.

Invariant: every child finds everything it needs in its arguments and environment, so that one that
is started again needs no help from the others.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import fsm
from fsm.standalone.box.settings import StandaloneSettings


@dataclass(frozen=True, slots=True)
class Child:
    """One supervised process.

    Attributes:
        name: also the name of its log file.
        argv: command line; the first word is a path.
        fds: file descriptors of PID 1 that it inherits under the same numbers.
        drain: whether it must be asked (SIGUSR2) to stop the Pods before the box closes.

    """

    name: str
    argv: tuple[str, ...]
    fds: tuple[int, ...] = ()
    drain: bool = False


@dataclass(frozen=True, slots=True)
class HeldSockets:
    """Sockets that outlive the child which serves them, as descriptors of PID 1.

    Attributes:
        api: listening for the API.
        dns: of the cluster DNS: UDP and TCP for each of its addresses.
        outside: the pair to ``outside``; ``None`` when Pods are to have no way out.

    """

    api: tuple[int, ...]
    dns: tuple[int, ...]
    outside: int | None = None


def children(settings: StandaloneSettings, sockets: HeldSockets) -> tuple[Child, ...]:
    """Build the table, in starting order."""
    state = str(settings.state_dir)
    api = [
        *_module("fsm.standalone.apiserver"),
        *("--state-dir", state),
        *("--service-cidr", settings.service_cidr),
        *("--service-cidr6", settings.service_cidr6),
        *(word for ip in settings.api_ips for word in ("--listen", f"[{ip}]:443")),
    ]
    if not settings.sync_every_write:
        api.append("--no-sync-every-write")
    for fd in sockets.api:
        api += ["--listen-fd", str(fd)]
    node = [
        *_module("fsm.standalone.node"),
        *("--settings", settings.to_json()),
        *("--dns-fds", ",".join(map(str, sockets.dns))),
    ]
    controllers = [*_module("fsm.standalone.workloads"), "--state-dir", state]
    gateway: tuple[Child, ...] = ()
    if sockets.outside is not None:
        words = ("--settings", settings.to_json(), "--outside-fd", str(sockets.outside))
        argv = (*_module("fsm.standalone.node.gateway"), *words)
        gateway = (Child("gateway", argv, (sockets.outside,)),)
    return (
        Child("apiserver", tuple(api), sockets.api),
        Child("kube-controllers", tuple(controllers)),
        *gateway,
        Child("node", tuple(node), sockets.dns, drain=True),
    )


def environment(box_id: str) -> dict[str, str]:
    """Build the environment of every child; ``box_id`` is new each time that a box is opened."""
    source = str(Path(fsm.__file__).resolve().parent.parent)
    paths = [source, *filter(None, os.environ.get("PYTHONPATH", "").split(":"))]
    kept = {k: v for k, v in os.environ.items() if k in ("HOME", "LANG", "LC_ALL", "TZ")}
    own_bin = str(Path(sys.executable).parent)
    return kept | {
        "PATH": f"{own_bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": ":".join(dict.fromkeys(paths)),
        "PYTHONUNBUFFERED": "1",
        "FSM_BOX_ID": box_id,
    }


def _module(name: str) -> tuple[str, ...]:
    return (sys.executable, "-m", name)
