"""The documents' HTTP tunnel, word by word, with curl on one side, and with pipy on both."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from .conftest import EXAMPLES, PATIENCE, PIPY, Start, free_port


@pytest.fixture
def ports(start: Start, tmp_path: Path) -> tuple[int, int, int]:
    """The ports of server, proxy and client."""
    folder = tmp_path / "example"
    shutil.copytree(EXAMPLES / "04-http-tunnel", folder)
    server, proxy, client = free_port(), free_port(), free_port()
    for name, known, port in (("server.js", "8081", server), ("main.js", "(80)", proxy)):
        text = (folder / name).read_text()
        assert known in text
        chosen = f"({port})" if known.startswith("(") else str(port)
        (folder / name).write_text(text.replace(known, chosen))
    start(server, PIPY, folder / "server.js")
    start(proxy, PIPY, folder / "main.js")
    start(
        client,
        PIPY,
        folder / "client.js",
        CLIENT=f"127.0.0.1:{client}",
        PROXY=f"127.0.0.1:{proxy}",
        TARGET=f"127.0.0.1:{server}",
    )
    return server, proxy, client


def curl_until(text: str, *args: str) -> None:
    """Give curl a line to send, and wait until it shows what came back."""
    process = subprocess.Popen(
        ["curl", "-sSN", "-m", str(PATIENCE), *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(b"hello\n")
        process.stdin.flush()
        assert process.stdout.readline().decode() == text
    finally:
        process.kill()
        process.stdin.close()
        process.stdout.close()
        process.wait(PATIENCE)


def test_curl_speaks_through_the_tunnel(ports: tuple[int, int, int]) -> None:
    server, proxy, _client = ports
    tunnel = ("-p", "-x", f"http://127.0.0.1:{proxy}")
    curl_until("Hi, TCP!\n", *tunnel, f"telnet://127.0.0.1:{server}")


def test_a_program_without_http_speaks_through_both_sides(ports: tuple[int, int, int]) -> None:
    _server, _proxy, client = ports
    curl_until("Hi, TCP!\n", f"telnet://127.0.0.1:{client}")


def test_several_tunnels_at_a_time_are_apart(ports: tuple[int, int, int]) -> None:
    _server, _proxy, client = ports
    tunnels = [socket.create_connection(("127.0.0.1", client), timeout=PATIENCE) for _ in range(5)]
    for number, tunnel in enumerate(tunnels):
        for _ in range(number):
            tunnel.sendall(b"x")
            assert tunnel.makefile("rb").readline() == b"Hi, TCP!\n"
    for tunnel in tunnels:
        tunnel.close()


def test_what_is_no_tunnel_is_not_found(ports: tuple[int, int, int]) -> None:
    _server, proxy, _client = ports
    url = f"http://127.0.0.1:{proxy}/"
    answer = subprocess.run(
        ["curl", "-sS", "-w", "%{http_code}", url],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert answer.stdout == "Not Found!\n404"
