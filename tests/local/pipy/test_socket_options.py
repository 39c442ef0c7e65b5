"""Options about sockets: how much may wait, how long, how often, how many at once."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import PATIENCE, Start, run_once
from .test_filter_options import connected, ends

MUCH = 48 << 20
PIECE = bytes(1 << 20)
GIVES = ".onStart(() => new Array(48).fill(new Data('a'.repeat(1 << 20))))"
TOLD = ".handleStreamEnd(end => println('ended', end.error))"


@contextlib.contextmanager
def deaf(backlog: int = 8) -> Iterator[int]:
    """The port of a server that takes nothing of what it is sent."""
    with socket.socket() as server:
        # As little as the kernel allows to wait on its side.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        server.bind(("127.0.0.1", 0))
        server.listen(backlog)
        yield server.getsockname()[1]


def gives(peer: socket.socket, patience: float) -> bool:
    """Whether the other side takes more than the kernel buffers."""
    peer.settimeout(patience)
    try:
        for _ in range(MUCH // len(PIECE)):
            peer.sendall(PIECE)
    except TimeoutError:
        return False
    return True


def test_what_a_server_does_not_take_holds_up_whoever_sends_it(start: Start) -> None:
    with deaf() as port:
        pipy = start(
            f"""
            pipy()
            .listen(PORT0).connect('127.0.0.1:{port}', {{ congestionLimit: '64k' }})
            .listen(PORT1).connect('127.0.0.1:{port}', {{ congestionLimit: '64m' }})
            """,
            ports=2,
        )
        with connected(pipy.ports[0]) as held, connected(pipy.ports[1]) as free:
            assert gives(free, PATIENCE)
            assert not gives(held, 1.0)


def test_what_a_client_does_not_take_holds_up_whoever_sends_it(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        port = server.getsockname()[1]
        pipy = start(
            f"""
            pipy()
            .listen(PORT0, {{ congestionLimit: '64k' }}).connect(() => '127.0.0.1:{port}')
            .listen(PORT1, {{ congestionLimit: '64m' }}).connect(() => '127.0.0.1:{port}')
            """,
            ports=2,
        )
        for number, free in ((0, False), (1, True)):
            with connected(pipy.ports[number]) as client:
                client.sendall(b"begin")
                accepted = server.accept()[0]
                with accepted:
                    accepted.settimeout(PATIENCE)
                    # The connection that looked for the listener has said nothing.
                    while not accepted.recv(9):
                        accepted.close()
                        accepted = server.accept()[0]
                    assert gives(accepted, PATIENCE if free else 1.0) is free
                accepted.close()


@pytest.mark.parametrize(
    ("option", "said"),
    [("bufferLimit: '1m'", "BufferOverflow"), ("writeTimeout: 0.2", "WriteTimeout")],
)
def test_a_server_that_takes_nothing_is_given_up(tmp_path: Path, option: str, said: str) -> None:
    script = tmp_path / "main.js"
    with deaf() as port:
        script.write_text(f"pipy().task(){GIVES}.connect('127.0.0.1:{port}', {{ {option} }}){TOLD}")
        assert f"ended {said}" in run_once(str(script)).stdout


@pytest.mark.parametrize(
    ("option", "said"),
    [("bufferLimit: '1m'", "BufferOverflow"), ("writeTimeout: 0.2", "WriteTimeout")],
)
def test_a_client_that_takes_nothing_is_given_up(start: Start, option: str, said: str) -> None:
    pipy = start(
        f"""
        var much = new Array(48).fill(new Data('a'.repeat(1 << 20)))
        pipy.listen(PORT0, {{ {option} }}, $ => $
          .handleStreamEnd(end => println('ended', end.error)).replaceData(() => much))
        """
    )
    with connected(pipy.ports[0]) as client:
        client.sendall(b"x")
        pipy.logged(f"ended {said}")


def test_a_server_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    script = tmp_path / "main.js"
    with deaf(backlog=0) as port, contextlib.ExitStack() as stack:
        for _ in range(4):
            # The kernel answers no connection when as many wait as may.
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        script.write_text(
            f"""
            pipy().task().onStart(new Data('x'))
              .connect('127.0.0.1:{port}', {{ connectTimeout: '200ms' }}){TOLD}
            """
        )
        assert "ended ConnectionTimeout" in run_once(str(script)).stdout


def test_a_connection_on_which_nothing_moves_ends(start: Start) -> None:
    with deaf() as port:
        pipy = start(
            f"pipy().listen(PORT0).connect('127.0.0.1:{port}', {{ idleTimeout: 0.2 }}){TOLD}"
        )
        with connected(pipy.ports[0]) as client:
            client.sendall(b"x")
            assert ends(client)
        pipy.logged("ended IdleTimeout")


def test_a_connection_is_tried_again_as_often_and_as_late_as_is_said(tmp_path: Path) -> None:
    script = tmp_path / "main.js"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    script.write_text(
        f"""
        ((tries = [], note = state => state === 'connecting' && tries.push(Date.now())) =>
        pipy().task().onStart(new Data('x'))
          .connect('127.0.0.1:{port}', {{
            retryCount: 3, retryDelay: '100ms', onState: outbound => note(outbound.state) }})
          .handleStreamEnd(end => println(
            end.error, tries.length, tries.slice(1).every((at, i) => at - tries[i] >= 95)))
        )()
        """
    )
    assert run_once(str(script)).stdout.strip() == "ConnectionRefused 4 true"


def test_a_port_has_so_many_places_on_all_threads_together(start: Start) -> None:
    pipy = start(
        "pipy().listen(PORT0, { maxPortConnections: 1 }).replaceData(d => d)", "--threads=3"
    )
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connected(pipy.ports[0])) for _ in range(6)]
        heard = threading.Semaphore(0)
        served = []

        def talk(client: socket.socket) -> None:
            client.sendall(b"x")
            client.recv(10)
            served.append(client)
            heard.release()

        threads = [threading.Thread(target=talk, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        for count in range(1, len(clients) + 1):
            # One at a time: the next is served when the one before has left.
            assert heard.acquire(timeout=PATIENCE)
            assert len(served) == count
            served[-1].close()
        for thread in threads:
            thread.join(PATIENCE)


def _timers(port: int) -> set[str]:
    """Which timers the kernel has for the connections that a port has accepted."""
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    found = [row.split() for row in rows]
    # Established; its own side of the connection.
    mine = [row for row in found if row[3] == "01" and row[1].endswith(f":{port:04X}")]
    return {row[5].split(":")[0] for row in mine}


@pytest.mark.parametrize(("keeps", "timer"), [("true", "02"), ("false", "00")])
def test_vanished_clients_are_looked_for_unless_told_otherwise(
    start: Start, keeps: str, timer: str
) -> None:
    pipy = start(f"pipy().listen(PORT0, {{ keepAlive: {keeps} }}).replaceData(d => d)")
    with connected(pipy.ports[0]) as client:
        client.sendall(b"x")
        assert client.recv(9) == b"x"
        deadline = time.monotonic() + PATIENCE
        # Until the answer is acknowledged there is another one.
        while (found := _timers(pipy.ports[0])) != {timer}:
            assert time.monotonic() < deadline, found
            time.sleep(0.02)
