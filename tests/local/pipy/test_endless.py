"""What a script does for ever, piece by piece: others are served, and the process can be ended."""

from __future__ import annotations

import signal
import socket

import pytest

from .conftest import PATIENCE, Running, Start, run_once

ECHO = "pipy.listen(PORT0, $ => $.replaceData(data => data))"
ENDLESS = {
    "promises": "var f = async () => { for (;;) await 0 }; f()",
    "timers": "var f = () => { setTimeout(f, 0) }; setTimeout(f, 0)",
    "timers of the past": "var f = () => new Timeout(0).wait().then(f); f()",
    "callbacks that are stopped": """
        for (var i = 0; i < 1000; i++) Promise.resolve().then(() => { for (;;) {} })
        """,
}


def _echoes(pipy: Running) -> bool:
    with socket.create_connection(("127.0.0.1", pipy.ports[0]), PATIENCE) as client:
        client.settimeout(PATIENCE)
        client.sendall(b"x")
        return client.recv(10) == b"x"


@pytest.mark.parametrize("what", ENDLESS)
def test_what_goes_on_for_ever_leaves_room_for_others(start: Start, what: str) -> None:
    pipy = start(f"{ENDLESS[what]}\n{ECHO}")
    assert _echoes(pipy)
    assert _echoes(pipy)
    pipy.process.send_signal(signal.SIGTERM)
    assert pipy.process.wait(PATIENCE) == 0


def test_a_promises_callback_that_is_stopped_is_told(start: Start) -> None:
    pipy = start(
        "pipy.listen(PORT0, $ => $.replaceData(data => (\n"
        "  Promise.resolve().then(() => { for (;;) {} }), data)))"
    )
    assert _echoes(pipy)
    log = pipy.logged("took longer than 500 ms and was stopped")
    assert "a promise's callback: /main.js:2:" in log


def test_a_time_that_no_clock_counts_is_for_ever(start: Start) -> None:
    pipy = start(
        """
        pipy()
        .listen(PORT0, { idleTimeout: 1e19, readTimeout: '99999999999999d', writeTimeout: 1e19 })
        .replaceData(data => data)
        .connect('127.0.0.1:PORT1', { idleTimeout: 1e19, connectTimeout: 1e19, readTimeout: 1e19 })
        .wait(() => true, { timeout: 1e19 })
        .listen(PORT1, { idleTimeout: 1e19 }).replaceData(data => data)
        """,
        ports=2,
    )
    assert _echoes(pipy)
    done = run_once("-e", "new Timeout(1e19).wait(), setTimeout(() => 0, 1e300), pipy.exit()")
    assert done.returncode == 0
    assert "panicked" not in done.stderr + pipy.log
