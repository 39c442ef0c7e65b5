"""Scripts that never come to an end while their clients leave: nothing stays, and a drain ends."""

from __future__ import annotations

import signal
import socket
import struct
import time

import pytest

from .conftest import PATIENCE, Running, Start, free_ports
from .test_bad_input import facts, settles

HANGS = {
    "a wait that never comes": ".wait(() => __go)",
    "a promise that is never kept": ".handleMessageStart(() => new Promise(() => {}))",
    "a start that is never over": ".onStart(() => new Promise(() => {}))",
    "an endless loop": ".handleMessageStart(() => { for (;;) {} })",
    "a server that says nothing": ".muxHTTP().to($ => $.connect('127.0.0.1:PORT1'))",
}


def asked(pipy: Running, count: int) -> list[socket.socket]:
    """Clients that have asked for what hangs."""
    clients = [
        socket.create_connection(("127.0.0.1", pipy.ports[0]), PATIENCE) for _ in range(count)
    ]
    for client in clients:
        client.sendall(b"POST /hang HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabcde")
    return clients


def leave(clients: list[socket.socket]) -> None:
    """Every second one with a reset."""
    for number, client in enumerate(clients):
        if number % 2:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()


def begun(admin: int, pipelines: int) -> None:
    """Wait until so many pipelines live."""
    deadline = time.monotonic() + PATIENCE
    while facts(admin).get("pipy_pipeline_count", 0) < pipelines:
        assert time.monotonic() < deadline, facts(admin)
        time.sleep(0.05)


def hanging(start: Start, how: str, *flags: str) -> Running:
    return start(
        f"""
        pipy({{ __go: false }})
        .listen(PORT0).demuxHTTP().to($ => $
          .branchMessageStart(
            m => m.head.path === '/hang', $ => ${HANGS[how]}.replaceMessage(new Message('late')),
            $ => $.replaceMessage(new Message('fine'))))
        .listen(PORT1).replaceData()
        """,
        *flags,
        ports=2,
    )


@pytest.mark.parametrize("how", HANGS)
def test_clients_that_leave_what_hangs_leave_nothing_behind(start: Start, how: str) -> None:
    admin = free_ports(1)[0]
    pipy = hanging(start, how, f"--admin-port={admin}")
    assert pipy.curl("/").stdout == "fine"
    # Each loop costs half a second of the one worker.
    clients = asked(pipy, 2 if how == "an endless loop" else 20)
    if how == "an endless loop":
        pipy.logged("took longer than 500 ms")
    else:
        begun(admin, 2 * len(clients))
    leave(clients)
    settles(admin)
    assert pipy.curl("/").stdout == "fine"


@pytest.mark.parametrize("how", ["a wait that never comes", "a promise that is never kept"])
def test_what_hangs_is_given_up_when_the_process_is_asked_twice(start: Start, how: str) -> None:
    admin = free_ports(1)[0]
    pipy = hanging(start, how, f"--admin-port={admin}")
    clients = asked(pipy, 3)
    begun(admin, 6)
    pipy.process.send_signal(signal.SIGTERM)
    with socket.socket() as late:
        deadline = time.monotonic() + PATIENCE
        while late.connect_ex(("127.0.0.1", pipy.ports[0])) == 0:
            assert time.monotonic() < deadline, "it still listens"
            time.sleep(0.05)
    assert pipy.process.poll() is None, "it waits for those that it has"
    pipy.process.send_signal(signal.SIGTERM)
    assert pipy.process.wait(PATIENCE) is not None
    leave(clients)


def test_a_drain_ends_when_the_clients_of_what_hangs_have_left(start: Start) -> None:
    admin = free_ports(1)[0]
    pipy = hanging(start, "a promise that is never kept", f"--admin-port={admin}")
    clients = asked(pipy, 5)
    begun(admin, 10)
    pipy.process.send_signal(signal.SIGTERM)
    leave(clients)
    assert pipy.process.wait(PATIENCE) == 0
