"""Options of listeners and filters that only real sockets, programs and time can show."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from .conftest import PATIENCE, Start, free_ports, run_once


def connected(port: int) -> socket.socket:
    """A connection, patient."""
    peer = socket.create_connection(("127.0.0.1", port), PATIENCE)
    peer.settimeout(PATIENCE)
    return peer


def ends(peer: socket.socket) -> bool:
    """Whether the other side ends the connection without a word."""
    try:
        return peer.recv(100) == b""
    except ConnectionResetError:
        return True


def test_no_more_connections_are_taken_than_there_are_places(start: Start) -> None:
    pipy = start("pipy().listen(PORT0, { maxConnections: 1 }).replaceData(d => d)")
    with connected(pipy.ports[0]) as first, connected(pipy.ports[0]) as second:
        # The connection that looked for the listener has gone before.
        first.sendall(b"1")
        assert first.recv(10) == b"1"
        second.sendall(b"2")
        second.settimeout(0.2)
        with pytest.raises(TimeoutError):
            second.recv(10)
        first.close()
        second.settimeout(PATIENCE)
        assert second.recv(10) == b"2"


def test_a_silent_client_is_sent_away_and_the_script_is_told(start: Start) -> None:
    pipy = start(
        """
        pipy()
        .listen(PORT0, { idleTimeout: 0.2 }).handleStreamEnd(e => console.log('1st', e.error))
        .listen(PORT1, { readTimeout: '200ms' }).handleStreamEnd(e => console.log('2nd', e.error))
        """,
        ports=2,
    )
    with connected(pipy.ports[0]) as idle, connected(pipy.ports[1]) as silent:
        idle.sendall(b"x")
        assert idle.recv(10) == b"x"
        assert ends(idle)
        assert ends(silent)
    pipy.logged("1st IdleTimeout")
    pipy.logged("2nd ReadTimeout")


def test_a_connection_is_tried_again_and_loses_nothing(start: Start) -> None:
    later = free_ports(1)[0]
    pipy = start(
        f"""
        pipy()
        .listen(PORT0).connect('127.0.0.1:{later}', {{
            retryCount: -1, retryDelay: '50ms',
            onState: ob => console.log(ob.state, ob.remotePort) }})
        .listen(PORT1).connect('127.0.0.1:{later}', {{ retryCount: 2, retryDelay: 0.01 }})
          .handleStreamEnd(e => console.log('given up with', e.error))
        """,
        ports=2,
    )
    with connected(pipy.ports[0]) as patient, connected(pipy.ports[1]) as other:
        patient.sendall(b"kept")
        other.sendall(b"lost")
        pipy.logged("given up with ConnectionRefused")
        with socket.create_server(("127.0.0.1", later)) as server:
            server.settimeout(PATIENCE)
            heard = b""
            while not heard:
                # The connection that looked for the listener is tried again, too.
                with server.accept()[0] as accepted:
                    accepted.settimeout(PATIENCE)
                    heard = accepted.recv(100)
            assert heard == b"kept"
            pipy.logged(f"connected {later}")


def test_a_server_that_says_nothing_is_given_up(start: Start) -> None:
    pipy = start(
        """
        pipy()
        .listen(PORT0).connect('127.0.0.1:PORT1', { readTimeout: 0.2 })
          .handleStreamEnd(e => console.log('ended with', e.error))
        .listen(PORT1).dummy()
        """,
        ports=2,
    )
    with connected(pipy.ports[0]) as peer:
        peer.sendall(b"x")
        assert ends(peer)
    pipy.logged("ended with ReadTimeout")


def test_a_program_has_a_terminal_where_it_wants_one(tmp_path: Path) -> None:
    script = tmp_path / "main.js"
    script.write_text(
        """
        pipy().task()
          .onStart([new Data('hello\\n'), new StreamEnd])
          .exec(['sh', '-c', 'test -t 0 && test -t 1; read word; echo "got $word"; cat'], {
             pty: true, onExit: code => println('exit', code) })
          .print()
        """
    )
    done = run_once(str(script))
    assert "got hello" in done.stdout
    assert "exit 0" in done.stdout
