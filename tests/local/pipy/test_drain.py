"""Ending while clients are there that never close: a drain waits for what moves alone."""

from __future__ import annotations

import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from .conftest import PATIENCE, Start
from .test_more_filters import reach
from .test_repo_secure import pki

__all__ = ["pki"]

HUBS = {
    "a hub": """
        var hub = new pipeline.Hub
        pipy.listen(PORT0, $ => $.swap(hub))
        """,
    "a hub that is asked for": """
        ((swap = new Swap) => pipy().listen(PORT0).link(() => swap))()
        """,
    "a hub behind other filters": """
        var hub = new pipeline.Hub
        pipy.listen(PORT0, $ => $
          .handleData(() => {})
          .branch(() => true, $ => $.swap(hub), $ => $)
          .handleStreamEnd(end => println('end', end.error)))
        """,
}


@pytest.mark.parametrize("hub", HUBS)
def test_clients_at_a_hub_do_not_hold_a_drain(start: Start, hub: str) -> None:
    pipy = start(HUBS[hub])
    with ExitStack() as stack:
        address = ("127.0.0.1", pipy.ports[0])
        clients = [
            stack.enter_context(socket.create_connection(address, PATIENCE)) for _ in range(3)
        ]
        for client in clients:
            # Some filters ask where they lead to when something comes.
            client.sendall(b"?")
        for other in clients[1:]:
            reach(clients[0], other)
        pipy.process.send_signal(signal.SIGTERM)
        # Nobody closes: the process ends all the same.
        assert pipy.process.wait(PATIENCE) == 0
        for client in clients:
            assert set(client.makefile("rb").read()) <= set(b"?")


def test_a_client_that_was_told_the_end_and_stays_does_not_hold_a_drain(start: Start) -> None:
    pipy = start("pipy().listen(PORT0).replaceData(data => [data, new StreamEnd])")
    with socket.create_connection(("127.0.0.1", pipy.ports[0]), PATIENCE) as client:
        client.sendall(b"x")
        assert client.makefile("rb").read() == b"x"
        pipy.process.send_signal(signal.SIGTERM)
        assert pipy.process.wait(PATIENCE) == 0


def test_a_client_of_tls_that_says_nothing_does_not_hold_a_drain(start: Start, pki: Path) -> None:
    pipy = start(
        f"""
        pipy().listen(PORT0).acceptTLS({{ certificate: {{
          cert: new crypto.Certificate(os.readFile('{pki}/server.pem')),
          key: new crypto.PrivateKey(os.readFile('{pki}/server.key')) }} }}).to($ => $)
        """
    )
    with socket.create_connection(("127.0.0.1", pipy.ports[0]), PATIENCE) as client:
        client.settimeout(PATIENCE)
        pipy.process.send_signal(signal.SIGTERM)
        assert client.recv(1) == b""
        assert pipy.process.wait(PATIENCE) == 0
