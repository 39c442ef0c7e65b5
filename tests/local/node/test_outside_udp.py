"""Datagrams on their way out of the box: to servers of the host, back to who asked, and no more."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from box_world import Box, apply, pod, until
from test_outside import host_address

from fsm.standalone.box.settings import StandaloneSettings
from fsm.standalone.node import outside_udp
from fsm.standalone.node.gateway import may_dial
from fsm.standalone.node.outside_udp import SESSIONS_MAX, Datagrams, ruleset

CLIENT = ("10.244.0.9", 4000)
SERVER = ("192.0.2.7", 53)


class Echo:
    """A server of the host that says who asked; ``stranger`` answers in its place, uncalled."""

    def __init__(self, host: str) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sock.bind((host, 0))
        self.stranger = socket.socket(family, socket.SOCK_DGRAM)
        self.stranger.bind((host, 0))
        self.address = self.sock.getsockname()[:2]
        self.askers: set[Any] = set()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                data, who = self.sock.recvfrom(65535)
                if not data:
                    return
            except OSError:
                return
            self.askers.add(who)
            self.stranger.sendto(b"from somebody else", who)
            self.sock.sendto(data.upper(), who)

    def close(self) -> None:
        self.sock.sendto(b"", self.address)
        self.sock.close()
        self.stranger.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    made = Echo(host_address())
    yield made
    made.close()


ASK = """python3 -c "
import socket
s = socket.socket(socket.AF_INET6 if ':' in '{host}' else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout({limit_s})
for n in range({times}):
    s.sendto(b'x%d' % n * {size}, ('{host}', {port}))
    data, who = s.recvfrom(65535)
    print(len(data), data[:2].decode(), who[0], who[1])
" 2>&1"""


def host_address6() -> str:
    """Find an IPv6 address of this machine that is not a loopback one, where it has a way out."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("2001:db8::1", 9))
        except OSError:
            pytest.skip("this machine has no way to IPv6 addresses")
        return str(sock.getsockname()[0])


async def answers(box: Box, namespace: str, echo: Echo, times: int = 1, size: int = 1) -> list[str]:
    host, port = echo.address
    script = ASK.format(host=host, port=port, times=times, size=size, limit_s=10)

    async def all_came() -> list[str] | None:
        outcome = await box.run(namespace, "p", script)
        lines: list[str] = outcome["stdout"].splitlines()
        return lines if outcome["exitCode"] == 0 else None

    found: list[str] = await until(all_came, "the server outside answers")
    return found


@pytest.mark.box
async def test_a_pod_asks_outside_and_hears_whom_it_asked(
    box: Box, namespace: str, echo: Echo
) -> None:
    apply(box, namespace, pod("p", terminationGracePeriodSeconds=0))
    box.kubectl("wait", "-n", namespace, "pod/p", "--for=condition=Ready", "--timeout=30s")
    host, port = echo.address
    lines = await answers(box, namespace, echo, times=3)
    assert lines == [f"2 X{n} {host} {port}" for n in range(3)]
    # One socket of the host's for one of the Pod's.
    assert len(echo.askers) == 1
    # More than fits a packet: fragments go both ways.
    assert (await answers(box, namespace, echo, size=10_000))[0].startswith("20000 X0 ")
    before = box.child("gateway")["pid"]
    box.inside("kill", "-9", str(before))
    await answers(box, namespace, echo)
    assert box.child("gateway")["pid"] != before


@pytest.mark.box
async def test_a_pod_asks_outside_over_ipv6(box: Box, namespace: str) -> None:
    echo = Echo(host_address6())
    try:
        apply(box, namespace, pod("p", terminationGracePeriodSeconds=0))
        box.kubectl("wait", "-n", namespace, "pod/p", "--for=condition=Ready", "--timeout=30s")
        lines = await answers(box, namespace, echo)
        assert lines == ["2 X0 {} {}".format(*echo.address)]
    finally:
        echo.close()


@pytest.mark.box
async def test_the_host_itself_and_the_cluster_are_not_asked(box: Box, namespace: str) -> None:
    apply(box, namespace, pod("p", terminationGracePeriodSeconds=0))
    box.kubectl("wait", "-n", namespace, "pod/p", "--for=condition=Ready", "--timeout=30s")
    loopback = Echo("127.0.0.1")
    try:
        for host in ("127.0.0.1", box.settings.node_ip):
            script = ASK.format(host=host, port=loopback.address[1], times=1, size=1, limit_s=0.5)
            assert (await box.run(namespace, "p", script))["exitCode"] != 0
        port = outside_udp.PORT
        script = ASK.format(host=box.settings.node_ip, port=port, times=1, size=1, limit_s=0.5)
        assert (await box.run(namespace, "p", script))["exitCode"] != 0
        assert not loopback.askers
    finally:
        loopback.close()


class Sockets:
    """Pairs in the place of the host's sockets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.far: list[socket.socket] = []
        self.answered: list[tuple[bytes, Any]] = []
        monkeypatch.setattr(outside_udp, "_transparent", lambda address: self)

    async def make(self, kind: bytes) -> Any:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for sock in (ours, theirs):
            sock.setblocking(False)
        self.far.append(theirs)
        return Connected(ours)

    def sendto(self, data: bytes, client: Any) -> None:
        self.answered.append((data, client))

    def close(self) -> None:
        pass


class Connected:
    """A socket that is connected already."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.send, self.recv = sock.send, sock.recv
        self.fileno, self.close = sock.fileno, sock.close

    def connect(self, address: Any) -> None:
        pass


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> Sockets:
    return Sockets(monkeypatch)


async def there(found: list[Any]) -> bool:
    return bool(found)


async def heard(sock: socket.socket) -> bytes:
    async with asyncio.timeout(10):
        return await asyncio.get_running_loop().sock_recv(sock, 100)


async def test_sessions_end_when_silent_and_make_room_when_full(
    sockets: Sockets, tmp_path: Path
) -> None:
    made = Datagrams(StandaloneSettings(tmp_path), sockets.make, may_dial)
    made.take(b"a", CLIENT, SERVER)
    made.take(b"b", CLIENT, SERVER)
    await until(lambda: there(sockets.far), "there is a socket of the host's")
    far = sockets.far[0]
    assert [await heard(far), await heard(far)] == [b"a", b"b"]
    far.send(b"c")
    await until(lambda: there(sockets.answered), "the answer came")
    assert sockets.answered == [(b"c", CLIENT)]
    seen_at = made._sessions[CLIENT, SERVER].seen_at
    made.expire(seen_at + 119)
    assert len(made._sessions) == 1
    made.expire(seen_at + 121)
    assert not made._sessions
    assert not made._names
    for number in range(SESSIONS_MAX + 5):
        made.take(b"x", ("10.244.0.9", 10_000 + number), SERVER)
    assert len(made._sessions) == SESSIONS_MAX
    assert (("10.244.0.9", 10_004), SERVER) not in made._sessions
    made.expire(float("inf"))
    assert not made._sessions
    for sock in sockets.far:
        sock.close()


async def test_what_may_not_be_asked_is_dropped(sockets: Sockets, tmp_path: Path) -> None:
    settings = StandaloneSettings(tmp_path)
    made = Datagrams(settings, sockets.make, may_dial)
    for host in ("127.0.0.1", "169.254.169.254", "255.255.255.255", settings.node_ip, "::1"):
        made.take(b"x", CLIENT, (host, 53))
    assert not made._sessions


def test_rules_leave_the_cluster_to_itself(tmp_path: Path) -> None:
    settings = StandaloneSettings(tmp_path)
    text = ruleset(settings)
    assert "ip daddr != { 10.244.0.0/16, 10.96.0.0/16, 127.0.0.0/8" in text
    assert "tproxy to 10.244.0.1:15998" in text
    assert "ip6 daddr" not in text
    assert "ip6 daddr != { fd00:10:244::/64, fd00:10:96::/112" in ruleset(settings, ipv6=True)
