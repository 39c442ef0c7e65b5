"""Who waits goes on when there is more, and who gives waits for who takes."""

from __future__ import annotations

import contextlib
import socket
import time

import pytest

from .conftest import PATIENCE, Start


def connected(port: int) -> socket.socket:
    """A client."""
    client = socket.create_connection(("127.0.0.1", port), PATIENCE)
    client.sendall(b"hello")
    return client


@pytest.mark.parametrize("threads", [1, 2])
def test_what_waits_for_a_quota_goes_on_when_a_script_gives_more(
    start: Start, threads: int
) -> None:
    pipy = start(
        """
        var quota = new algo.Quota(0, { key: 'shared' })
        pipy.listen(PORT0, $ => $.throttleDataRate(quota))
        pipy.listen(PORT1, $ => $.throttleConcurrency(quota))
        pipy.listen(PORT2, $ => $.replaceData(() => (quota.produce(1000), new Data('more'))))
        var later = new algo.Quota(0)
        pipy.listen(PORT3, $ => $.onStart(() => {
          new Timeout(0.2).wait().then(() => later.produce(5))
        }).throttleDataRate(later))
        """,
        f"--threads={threads}",
        "--reuse-port",
        ports=4,
    )
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connected(pipy.ports[number % 2])) for number in range(12)]
        for client in clients:
            client.settimeout(0.02)
            with pytest.raises(TimeoutError):
                client.recv(9)
            client.settimeout(PATIENCE)
        with connected(pipy.ports[2]) as giver:
            assert giver.recv(9) == b"more"
        for client in clients:
            assert client.recv(9) == b"hello"
    with connected(pipy.ports[3]) as client:
        assert client.recv(9) == b"hello"


def test_a_source_waits_for_its_client(start: Start) -> None:
    pipy = start(
        """
        var given = 0
        pipy({ _left: 500 })
        .listen(PORT0).produce(() =>
          _left-- > 0 ? (given++, new Data('x'.repeat(100000))) : new StreamEnd)
        .listen(PORT1, { bufferLimit: '64k' })
          .handleStreamEnd(end => println(end.error))
          .produce(() => _left-- > 0 ? new Data('x'.repeat(100000)) : new StreamEnd)
        .listen(PORT2).replaceData(() => new Data('' + given))
        """,
        ports=3,
    )

    def given() -> int:
        with connected(pipy.ports[2]) as asking:
            return int(asking.recv(9))

    with connected(pipy.ports[0]) as client:
        seen = [given()]
        deadline = time.monotonic() + PATIENCE
        while seen[-1] == 0 or len(seen) < 10 or seen[-1] != seen[-5]:
            assert time.monotonic() < deadline, seen
            seen.append(given())
            time.sleep(0.02)
        # What the system buffers, and what the listener does.
        assert seen[-1] < 200, seen
        heard = 0
        while more := client.recv(1 << 20):
            heard += len(more)
        assert heard == 500 * 100_000
    with connected(pipy.ports[1]):
        pipy.logged("BufferOverflow")


@pytest.mark.parametrize(
    "handshake",
    [
        "connectSOCKS('127.0.0.1:1')",
        "connectHTTPTunnel(new Message({ method: 'CONNECT', path: '127.0.0.1:1' }))",
    ],
)
def test_a_client_waits_while_the_way_is_asked_for(start: Start, handshake: str) -> None:
    pipy = start(
        f"""
        pipy()
        .listen(PORT0).{handshake}.to($ => $.muxHTTP().to($ => $.connect('127.0.0.1:PORT1')))
        .listen(PORT1).dummy()
        """,
        ports=2,
    )
    with connected(pipy.ports[0]) as client:
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.sendall(bytes(64 << 20))
