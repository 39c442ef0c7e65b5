"""The HTTP examples in trouble: servers that die, clients that ask too often, large bodies."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from .conftest import EXAMPLES, PATIENCE, PIPY, Start, free_port
from .readme import Example, at_work


def until(what: str, holds: Callable[[], bool]) -> None:
    """Wait for a state."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def balanced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    folder = tmp_path_factory.mktemp("balanced")
    with at_work(folder, "10-load-balancing", 8080, 8081, 8082, 8083) as example:
        yield example


def test_a_server_that_dies_costs_no_request_and_comes_back(balanced: Example) -> None:
    url = f"http://127.0.0.1:{balanced.ports[8080]}/"
    heavy = balanced.ports[8081]
    asked: Counter[str] = Counter()
    over = threading.Event()

    def ask() -> None:
        with requests.Session() as session:
            while not over.is_set():
                answer = session.get(url, timeout=PATIENCE)
                asked[f"{answer.status_code} {answer.text.strip()}"] += 1

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        until("answers of all", lambda: len(asked) == 3)
        balanced.type(f"kill -9 $(cat {heavy}.pid)")
        until("the log", lambda: f"{heavy} is ill" in balanced.log.read_text())
        before = asked[f"200 {heavy}"]
        others = sum(asked.values())
        until("answers of the others", lambda: sum(asked.values()) > others + 200)
        assert asked[f"200 {heavy}"] <= before + len(clients)
        options = f"daemon off; master_process off; pid {heavy}.pid;"
        balanced.type(f"nginx -p . -c {heavy}.conf -g '{options}' >>log 2>&1 &")
        until("the log", lambda: f"{heavy} is well" in balanced.log.read_text())
        until("its answers", lambda: asked[f"200 {heavy}"] > before + 50)
    finally:
        over.set()
        for client in clients:
            client.join(PATIENCE)
        balanced.type(f"kill $(cat {heavy}.pid)")
    assert {answer.split()[0] for answer in asked} == {"200"}, asked


class Server(BaseHTTPRequestHandler):
    """Notes when requests come, and says how long their bodies were."""

    protocol_version = "HTTP/1.1"
    times: list[float]

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.times.append(time.monotonic())
        self._answer(b"x" * int(self.headers.get("x-length", "2")))

    def do_POST(self) -> None:
        length = 0
        while (size := int(self.rfile.readline(), 16)) > 0 if self._chunked else False:
            length += len(self.rfile.read(size))
            self.rfile.readline()
        if not self._chunked:
            length = len(self.rfile.read(int(self.headers["content-length"])))
        self._answer(str(length).encode())

    @property
    def _chunked(self) -> bool:
        return self.headers.get("transfer-encoding", "").lower() == "chunked"

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server() -> Iterator[tuple[str, list[float]]]:
    """A server's address, and when it was asked."""
    times: list[float] = []
    handler = type("Handler", (Server,), {"times": times})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        http.daemon_threads = True
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"127.0.0.1:{http.server_port}", times
        http.shutdown()
        thread.join(PATIENCE)


def begin(start: Start, name: str, **variables: str) -> str:
    """An example's URL."""
    port = free_port()
    start(port, PIPY, EXAMPLES / name / "main.js", PORT=f"127.0.0.1:{port}", **variables)
    return f"http://127.0.0.1:{port}/"


def test_what_is_too_much_for_the_server_waits_and_is_not_refused(
    start: Start, server: tuple[str, list[float]]
) -> None:
    address, times = server
    url = begin(start, "11-rate-limits", SERVER=address, FOR_ALL="10", PER_CLIENT="1000")
    codes: list[int] = []

    def ask() -> None:
        codes.append(requests.get(url, timeout=PATIENCE).status_code)

    clients = [threading.Thread(target=ask) for _ in range(25)]
    for client in clients:
        client.start()
    for client in clients:
        client.join(PATIENCE)
    assert codes == [200] * 25
    # Ten at once, ten a second later, five after that.
    assert 1.5 < times[-1] - times[0] < 4.0


def test_a_client_may_go_on_when_its_second_is_over(
    start: Start, server: tuple[str, list[float]]
) -> None:
    url = begin(start, "11-rate-limits", SERVER=server[0], PER_CLIENT="2")
    codes = [requests.get(url, timeout=PATIENCE).status_code for _ in range(4)]
    assert codes == [200, 200, 429, 429]
    until("a request that passes", lambda: requests.get(url, timeout=PATIENCE).ok)


def test_large_bodies_pass_the_reverse_proxy_both_ways(
    start: Start, server: tuple[str, list[float]]
) -> None:
    url = begin(start, "09-reverse-proxy", SERVER=server[0])
    body = os.urandom(20_000_000)
    assert requests.post(url, data=body, timeout=PATIENCE).text == str(len(body))
    chunks = (body[at : at + 1_000_000] for at in range(0, len(body), 1_000_000))
    assert requests.post(url, data=chunks, timeout=PATIENCE).text == str(len(body))
    answer = requests.get(url, headers={"x-length": "20000000"}, timeout=PATIENCE)
    assert len(answer.content) == 20_000_000
    assert int(answer.headers["x-took-ms"]) < 1000 * PATIENCE
    assert "server" not in answer.headers


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    with at_work(tmp_path_factory.mktemp("proxied"), "09-reverse-proxy", 8080, 8081) as example:
        yield example


@pytest.mark.parametrize(
    ("command", "fine"),
    [
        ("ab -q -k -n 2000 -c 16 http://127.0.0.1:{port}/", "Failed requests:        0"),
        ("ab -q -n 500 -c 16 http://127.0.0.1:{port}/", "Complete requests:      500"),
        ("fortio load -quiet -qps 0 -n 2000 -c 8 http://127.0.0.1:{port}/", "Code 200 : 2000"),
    ],
    ids=["ab, keep-alive", "ab", "fortio"],
)
def test_the_load_generators_of_the_benchmark_see_no_failure(
    proxied: Example, command: str, fine: str
) -> None:
    if shutil.which(command.split()[0]) is None:
        pytest.skip(f"{command.split()[0]} is not installed: tools/setup peers")
    said = proxied.type(command.format(port=proxied.ports[8080]))
    assert fine in said, said
    assert "Non-2xx" not in said


def test_without_its_server_the_reverse_proxy_says_so(start: Start) -> None:
    url = begin(start, "09-reverse-proxy", SERVER=f"127.0.0.1:{free_port()}")
    assert [requests.get(url, timeout=PATIENCE).status_code for _ in range(3)] == [502] * 3


@pytest.mark.parametrize(
    "path",
    [
        "/../main.js",
        "/css/../../main.js",
        "/%2e%2e/main.js",
        "/..%2fmain.js",
        "/css%00.html",
        "//etc/passwd",
        "/%2fetc/passwd",
    ],
)
def test_nothing_outside_of_the_folder_is_served(start: Start, tmp_path: Path, path: str) -> None:
    url = begin(start, "08-static-files")
    request = requests.Request("GET", url).prepare()
    request.url = url.rstrip("/") + path
    with requests.Session() as session:
        answer = session.send(request, timeout=PATIENCE)
    assert answer.status_code == 404
    assert "pipy.listen" not in answer.text
    assert "root:" not in answer.text


def test_files_may_change_while_they_are_served(start: Start, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    url = begin(start, "08-static-files", FOLDER=str(tmp_path))
    assert requests.get(f"{url}a.txt", timeout=PATIENCE).text == "one"
    (tmp_path / "a.txt").write_text("another")
    assert requests.get(f"{url}a.txt", timeout=PATIENCE).text == "another"
    head = requests.head(f"{url}a.txt", timeout=PATIENCE)
    assert (head.headers["content-length"], head.text) == ("7", "")
