"""A page in a headless Chromium, driven by the DevTools protocol.

In: an address. Out: ``Page``, which runs expressions and waits for what they say. The browser ends
with its page; what scripts of the page did wrong is kept in ``faults``.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

#: A browser on a busy machine takes its time.
PATIENCE = 45.0


@dataclass
class Page:
    """A page that is open."""

    socket: ClientConnection
    number: int = 0
    faults: list[str] = field(default_factory=list)

    def command(self, method: str, **params: Any) -> dict[str, Any]:
        """What the browser answers to a command."""
        self.number += 1
        asked = self.number
        self.socket.send(json.dumps({"id": asked, "method": method, "params": params}))
        while True:
            told = json.loads(self.socket.recv(timeout=PATIENCE))
            if told.get("id") == asked:
                assert "error" not in told, told["error"]
                result: dict[str, Any] = told["result"]
                return result
            if told.get("method") == "Runtime.exceptionThrown":
                self.faults.append(json.dumps(told["params"]))
            entry = told.get("params", {}).get("entry", {})
            # What does not answer is logged as well; here that is done on purpose.
            if entry.get("level") == "error" and entry.get("source") != "network":
                self.faults.append(entry["text"])

    def run(self, expression: str) -> Any:
        """What an expression gives."""
        answer = self.command(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def text(self, selector: str) -> str:
        """The text of an element."""
        return str(self.run(f"document.querySelector({json.dumps(selector)}).textContent"))

    def shows(self, selector: str, text: str) -> None:
        """Wait until an element has a text."""
        deadline = time.monotonic() + PATIENCE
        while text not in (seen := self.text(selector)):
            assert time.monotonic() < deadline, f"{text!r} is not in {selector}: {seen!r}"
            time.sleep(0.1)

    def fill(self, selector: str, value: str) -> None:
        """Type into a field."""
        self.run(
            f"(field => {{ field.value = {json.dumps(value)};"
            " field.dispatchEvent(new Event('input', { bubbles: true })); })"
            f"(document.querySelector({json.dumps(selector)}))"
        )

    def click(self, selector: str) -> None:
        """Press a button."""
        self.run(f"document.querySelector({json.dumps(selector)}).click()")


@contextmanager
def page(address: str, folder: Path) -> Iterator[Page]:
    """Open a page, in a browser of its own."""
    command = [
        "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
        f"--user-data-dir={folder}/browser", "about:blank",
    ]  # fmt: skip
    log = folder / "browser.log"
    with log.open("wb") as said:
        browser = subprocess.Popen(
            command, stdout=said, stderr=said, env={**os.environ, "HOME": str(folder)}
        )
    try:
        port = _port(browser, folder / "browser" / "DevToolsActivePort", log)
        listed = urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=PATIENCE)
        with listed as answer:
            (target, *_) = [one for one in json.load(answer) if one["type"] == "page"]
        with connect(target["webSocketDebuggerUrl"], max_size=None) as socket:
            opened = Page(socket)
            for domain in ("Page", "Runtime", "Log"):
                opened.command(f"{domain}.enable")
            opened.command("Page.navigate", url=address)
            deadline = time.monotonic() + PATIENCE
            ready = f"document.readyState === 'complete' && location.href.startsWith('{address}')"
            while not opened.run(ready):
                assert time.monotonic() < deadline, f"{address} does not come"
                time.sleep(0.1)
            yield opened
    finally:
        browser.kill()
        browser.wait()


def _port(browser: subprocess.Popen[bytes], file: Path, log: Path) -> int:
    deadline = time.monotonic() + PATIENCE
    while True:
        lines = file.read_text().split() if file.exists() else []
        if len(lines) == 2:
            return int(lines[0])
        assert browser.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
