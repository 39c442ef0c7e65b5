"""The scripts of the tutorial, as they stand there, and what its commands show."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .conftest import Start, run_once

PAGE = Path(__file__).resolve().parents[3] / "docs/tutorials/first-script.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCK.findall(PAGE.read_text()) if name == language]


def shown(command: str) -> str:
    """What the page says that a command shows."""
    for block in blocks("console"):
        lines = block.splitlines()
        if f"$ {command}" in lines:
            return lines[lines.index(f"$ {command}") + 1]
    raise AssertionError(f"the page has no command {command}")


@pytest.fixture
def scripts() -> list[str]:
    """The server, the proxy, and the proxy in the newer style, on ports of the test."""
    server, *proxies = blocks("js")
    assert len(proxies) == 2
    return [server.replace("8080", "PORT0"), *(text.replace("8000", "PORT0") for text in proxies)]


def test_the_server_answers_and_stays_when_a_script_does_not_load(
    start: Start, scripts: list[str]
) -> None:
    server = start(scripts[0])
    assert run_once("--check", str(server.script)).stdout.strip() == shown("pipy --check hello.js")
    assert server.curl("/world").stdout.strip() == shown("curl http://localhost:8080/world")
    server.write(scripts[0].replace("replaceMessage", "replaceMesage"))
    server.reload()
    (said,) = (text for text in blocks("") if text.startswith("[ERR]"))
    server.logged(said.strip().partition(": ")[2])
    assert ":4:6: " in server.log
    assert server.curl("/world").stdout.strip() == shown("curl http://localhost:8080/world")


@pytest.mark.parametrize("style", [1, 2], ids=["older", "newer"])
def test_the_proxy_asks_the_server(style: int, start: Start, scripts: list[str]) -> None:
    server = start(scripts[0])
    proxy = start(scripts[style].replace("8080", str(server.ports[0])))
    through = shown("curl http://localhost:8000/through")
    assert proxy.curl("/through").stdout.strip() == through
    done = proxy.curl("/through", "-X", "DELETE").stdout.strip()
    assert done == (
        shown("curl -X DELETE http://localhost:8000/through") if style == 1 else through
    )


def test_no_command_of_the_page_is_left_out() -> None:
    typed = [line for block in blocks("console") for line in block.splitlines() if line[:2] == "$ "]
    assert len(typed) == 7, "a command was added to the page: try it here, too"
