"""The machine around the box: what is on it before, and must be on it, no more, after.

A box that is killed must take with it every process, namespace, link, firewall table, mount and
socket. Here they are listed as the kernel lists them, reduced to what a box could leave.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from dataclasses import fields as fields_of
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Traces:
    """Lists of things, each as text that tells them apart."""

    links: frozenset[str]
    addresses: frozenset[str]
    tables: frozenset[str]
    mounts: frozenset[str]
    namespaces: frozenset[str]
    processes: frozenset[str]
    named: frozenset[str]

    def beyond(self, before: Traces, mark: str) -> dict[str, list[str]]:
        """What is there now and was not before; of processes only those that carry ``mark``.

        Others may come and go on the machine meanwhile, and namespaces may belong to them.
        """
        found = {}
        for field in fields_of(self):
            new = sorted(getattr(self, field.name) - getattr(before, field.name))
            if field.name in ("processes", "mounts", "namespaces"):
                new = [line for line in new if mark in line]
            if new:
                found[field.name] = new
        return found


def look(mark: str) -> Traces:
    """List what is on this machine; ``mark`` is the state directory of the box in question."""
    return Traces(
        links=_lines("ip", "-br", "link", words=1),
        addresses=_lines("ip", "-br", "addr", words=1),
        tables=_lines("nft", "list", "tables", words=3),
        mounts=frozenset(Path("/proc/self/mounts").read_text().splitlines()),
        namespaces=_namespaces(mark),
        processes=frozenset(f"{pid} {' '.join(argv)}" for pid, argv in _processes(mark)),
        named=_lines("ip", "netns", "list", words=1),
    )


def listening(port: int) -> bool:
    """Whether something listens on a TCP port of this machine's IPv4 (state 0A in proc(5))."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(int(r[1].split(":")[1], 16) == port and r[3] == "0A" for r in rows)


def _lines(*argv: str, words: int) -> frozenset[str]:
    env = os.environ | {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=env, timeout=20)
    # Without privileges nft says nothing: then there is nothing that we could have left either.
    return frozenset(" ".join(line.split()[:words]) for line in done.stdout.splitlines())


def family(pid: int) -> frozenset[tuple[int, int]]:
    """A process and all that descend from it, each by pid and start time (proc(5), fields 4, 22).

    In a box nobody escapes this: orphans are given to its PID 1 (pid_namespaces(7)).
    """
    table = _table()
    found = {pid}
    while more := {p for p, (parent, _) in table.items() if parent in found} - found:
        found |= more
    return frozenset((p, table[p][1]) for p in found if p in table)


def alive(processes: frozenset[tuple[int, int]]) -> set[int]:
    """Those of some processes that still are, and are no zombies."""
    return {pid for pid, (_, start) in _table().items() if (pid, start) in processes}


def _table() -> dict[int, tuple[int, int]]:
    """Parent and start time of every process that is no zombie."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] not in "ZX":
            found[int(entry.name)] = (int(fields[1]), int(fields[19]))
    return found


def _processes(mark: str) -> list[tuple[int, list[str]]]:
    """Processes whose command line or environment names the state directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            argv = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            text = "\0".join(argv) + (entry / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if mark in text:
            found.append((int(entry.name), [*argv[:4], mark]))
    return found


def _namespaces(mark: str) -> frozenset[str]:
    found = set()
    for pid, _ in _processes(mark):
        for kind in ("mnt", "net", "pid", "user"):
            try:
                found.add(f"{os.readlink(f'/proc/{pid}/ns/{kind}')} {mark}")
            except OSError:
                continue
    return frozenset(found)
