"""The documents' plugins for identity and access, word by word, between two sides as in a mesh."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import EXAMPLES, PATIENCE, PIPY, Start, free_port

TOKEN = "2f1acc6c3a606b082e5eef5e54414ffb"


def curl(port: int, path: str, *args: str) -> str:
    """The answer's body, and its status behind it."""
    url = f"http://127.0.0.1:{port}{path}"
    command = ["curl", "-sS", "-m", "10", "-w", "%{http_code}", *args, url]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE, check=True
    ).stdout


@pytest.fixture
def ports(start: Start, tmp_path: Path) -> tuple[int, int]:
    """The port of the client's side and that of the server's, with the verifier at work."""
    folder = tmp_path / "example"
    shutil.copytree(EXAMPLES / "02-token-plugins", folder)
    client, server, verifier = free_port(), free_port(), free_port()
    for name in ("ext-auth.js", "config.json"):
        file = folder / name
        file.write_text(file.read_text().replace("8079", str(verifier)))
    start(verifier, PIPY, folder / "ext-auth.js")
    start(client, PIPY, folder / "main.js", CLIENT_PORT=str(client), SERVER_PORT=str(server))
    return client, server


def test_who_has_the_token_is_let_through(ports: tuple[int, int]) -> None:
    client, _server = ports
    assert curl(client, "/get") == f"GET /get {TOKEN}\n200"


def test_who_has_none_or_a_wrong_one_is_not(ports: tuple[int, int]) -> None:
    _client, server = ports
    assert curl(server, "/get") == "Unauthorized!401"
    assert curl(server, "/get", "-H", "x-iam-token: guessed") == "Unauthorized!401"
    assert curl(server, "/get?a=1", "-H", f"x-iam-token: {TOKEN}") == f"GET /get?a=1 {TOKEN}\n200"


def test_what_is_not_protected_is_open(ports: tuple[int, int]) -> None:
    _client, server = ports
    assert curl(server, "/ip") == "GET /ip -\n200"
