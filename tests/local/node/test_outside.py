"""The way out of the box: TCP to a server of the host, resets, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from box_world import Box, apply, pod, until

from fsm.standalone.box import lifecycle
from fsm.standalone.box.outside import LOCK, REQUEST_BYTES, serve
from fsm.standalone.node.gateway import Outside, Refused, may_dial, ruleset

box_test = pytest.mark.box


def host_address() -> str:
    """Find an address of this machine that is not a loopback one; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but the loopback's")
        return str(sock.getsockname()[0])


@pytest.fixture
async def server() -> AsyncIterator[tuple[str, int]]:
    """A server of the host: it tells how many bytes came, after the client has said all."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read()
        writer.write(f"{len(data)} bytes".encode())
        writer.close()

    host = host_address()
    async with await asyncio.start_server(talk, host, 0) as made:
        yield host, made.sockets[0].getsockname()[1]


SEND = """python3 -c "
import socket
s = socket.create_connection(('{host}', {port}), 5)
s.sendall(b'x' * 3000000); s.shutdown(socket.SHUT_WR)
print(s.recv(100).decode())" 2>&1"""


@box_test
async def test_a_pod_reaches_a_server_of_the_host_and_survives_a_killed_gateway(
    box: Box, namespace: str, server: tuple[str, int]
) -> None:
    apply(box, namespace, pod("p", terminationGracePeriodSeconds=0))
    box.kubectl("wait", "-n", namespace, "pod/p", "--for=condition=Ready", "--timeout=30s")
    script = SEND.format(host=server[0], port=server[1])

    async def answered() -> bool:
        return "3000000 bytes" in (await box.run(namespace, "p", script))["stdout"]

    await until(answered, "the server outside answers")
    before = box.child("gateway")["pid"]
    box.inside("kill", "-9", str(before))
    await until(answered, "the server outside answers again")
    assert box.child("gateway")["pid"] != before


def helpers(box: Box) -> list[int]:
    """Find the processes of this box's way out: those that hold its lock."""
    lock = os.stat(box.settings.state_dir / LOCK)
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or "fsm-outside" not in _name(entry):
            continue
        with contextlib.suppress(OSError):
            files = [os.stat(path) for path in (entry / "fd").iterdir()]
            if any((f.st_dev, f.st_ino) == (lock.st_dev, lock.st_ino) for f in files):
                found.append(int(entry.name))
    return sorted(found)


def _name(entry: Path) -> str:
    try:
        return (entry / "comm").read_text()
    except OSError:
        return ""


@box_test
async def test_the_way_out_survives_its_processes_and_is_mended_when_both_are_killed(
    box: Box, namespace: str, server: tuple[str, int]
) -> None:
    apply(box, namespace, pod("p", terminationGracePeriodSeconds=0))
    box.kubectl("wait", "-n", namespace, "pod/p", "--for=condition=Ready", "--timeout=30s")
    script = SEND.format(host=server[0], port=server[1])

    async def answered() -> bool:
        return "3000000 bytes" in (await box.run(namespace, "p", script))["stdout"]

    async def two() -> list[int]:
        found = helpers(box)
        return found if len(found) == 2 else []

    # One after the other, whichever is the keeper: each is replaced.
    for which in (0, 1, 0):
        before = await until(two, "both processes run")
        os.kill(before[which], signal.SIGKILL)

        async def replaced(gone: int = before[which]) -> bool:
            return gone not in await two() and bool(await two())

        await until(replaced, "the killed one is replaced")
        await until(answered, "the server outside answers")
    assert lifecycle.troubles(box.info) == []
    for pid in helpers(box):
        os.kill(pid, signal.SIGSTOP)
    for pid in helpers(box):
        os.kill(pid, signal.SIGKILL)

    async def told() -> bool:
        return "fsm up" in "".join(lifecycle.troubles(box.info))

    await until(told, "the loss is told")
    await lifecycle.up(box.settings)
    assert lifecycle.troubles(box.info) == []
    await until(answered, "the server outside answers again")
    await until(two, "both processes run")


@box_test
async def test_what_refuses_outside_is_told_at_once(box: Box, namespace: str) -> None:
    apply(box, namespace, pod("p", terminationGracePeriodSeconds=0))
    box.kubectl("wait", "-n", namespace, "pod/p", "--for=condition=Ready", "--timeout=30s")
    with socket.socket() as closed:
        closed.bind((host_address(), 0))
        host, port = closed.getsockname()
        script = SEND.format(host=host, port=port)
        said = (await box.run(namespace, "p", script))["stdout"]
    assert "ConnectionResetError" in said or "BrokenPipe" in said


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "224.0.0.1", "0.0.0.0"])
def test_loopback_and_the_like_are_never_dialled(host: str) -> None:
    assert not may_dial(host)
    assert may_dial("192.0.2.1")


async def test_sockets_come_in_order_also_after_an_answer_to_someone_before() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # What a gateway that was killed had asked for: its answer waits in the pair.
    ours.send(b"\0" * (REQUEST_BYTES - 1) + b"t")
    pid = os.fork()
    if pid == 0:
        ours.close()
        serve(theirs)
        os._exit(0)
    theirs.close()
    try:
        outside = Outside(ours)
        made = await asyncio.gather(*(outside.socket(kind) for kind in (b"t", b"u", b"t")))
        kinds = [sock.type for sock in made]
        for sock in made:
            sock.close()
        assert kinds == [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_STREAM]
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)  # noqa: ASYNC222 - it was just killed
        with pytest.raises(Refused):
            await outside.socket(b"t")
    finally:
        ours.close()


def test_rules_leave_the_cluster_to_itself(tmp_path: Path) -> None:
    from fsm.standalone.box.settings import StandaloneSettings

    text = ruleset(StandaloneSettings(state_dir=tmp_path))
    assert "ip daddr != { 10.244.0.0/16, 10.96.0.0/16, 127.0.0.0/8" in text
