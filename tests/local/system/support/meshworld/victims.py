"""Finds the processes of a box by what they are, and kills them without warning."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from typing import Any

from meshworld.shell import Shell
from meshworld.waiting import until


def agent_view(shell: Shell) -> list[Any]:
    """What the node agent runs: Pods with their addresses, links, and processes."""
    wire = http.client.HTTPConnection("node", timeout=10)
    with socket.socket(socket.AF_UNIX) as wire.sock:
        wire.sock.settimeout(10)
        wire.sock.connect(str(shell.state / "node.sock"))
        wire.request("GET", "/pods")
        found: list[Any] = json.loads(wire.getresponse().read())
    return found


def container(shell: Shell, namespace: str, app: str, name: str) -> int:
    """The first process of a container (the one that starts and reaps), as the box numbers it."""

    def look() -> int:
        pods = {p["metadata"]["uid"] for p in shell.pods(namespace, app)}
        (mine,) = [p for p in agent_view(shell) if p["uid"] in pods]
        return int(mine["processes"][name])

    return until(look, f"{name} of {namespace}/{app} runs")


def application(shell: Shell, namespace: str, app: str, name: str) -> int:
    """The process of a container that does its work."""
    parent = container(shell, namespace, app, name)
    return int(shell.inside("pgrep", "-P", str(parent)).split()[0])


def child(shell: Shell, name: str) -> dict[str, Any]:
    """A child of the box's PID 1, as that last wrote it down."""
    children = json.loads((shell.state / "supervisor.json").read_text())["children"]
    found: dict[str, Any] = children[name]
    return found


def kill(shell: Shell, *pids: int) -> None:
    """SIGKILL, and the processes are gone when this returns."""
    shell.inside("kill", "-9", *map(str, pids))
    until(lambda: not _alive(shell, *pids), f"{pids} are gone")


def kill_child(shell: Shell, name: str) -> None:
    """Kill a child of PID 1, and wait until PID 1 has started another."""
    before = child(shell, name)
    kill(shell, before["pid"])

    def replaced() -> bool:
        now = child(shell, name)
        return now["pid"] not in (None, before["pid"]) and now["restarts"] > before["restarts"]

    until(replaced, f"{name} is started again")


def _alive(shell: Shell, *pids: int) -> bool:
    with contextlib.suppress(AssertionError):
        states = shell.inside("ps", "-o", "stat=", "-p", ",".join(map(str, pids))).split()
        return any(not state.startswith("Z") for state in states)
    return False
