"""Native modules: each function of the C interface, threads, lives, what is no module."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from .conftest import EXAMPLES, PATIENCE, PIPY, ROOT, Start, free_port, said_and_done

HERE = Path(__file__).parent
SCRIPT = """
pipy()
.import({ __seen: 'probe', __given: 'probe' })
.listen(PORT)
.demuxHTTP().to($ => $
  .handleMessageStart(({ head }) => (_path = head.path, __given = 'from the script'))
  .branch(BRANCHES
    () => _path === '/', $ => $
      .use('PROBE')
      .replaceMessage(msg => new Message(`${msg.body.toString()}, ${__seen}`))
  )
)
"""
PIPELINES = ("echo", "thread", "later", "count", "wrong")


def compile_module(source: Path, target: Path, *libraries: str) -> Path:
    """A module by the command that the header names."""
    command = ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread"]
    include = ROOT / "proxy" / "pipy-nmi" / "include"
    subprocess.run(
        [*command, "-I", include, "-o", target, source, *libraries],
        check=True,
        timeout=2 * PATIENCE,
    )
    return target


Get = Callable[[str], str]


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The script before the probe, on a port of its own."""
    probe = compile_module(HERE / "probe.c", tmp_path / "probe.so")
    branches = "".join(
        f"() => _path.startsWith('/{name}'), $ => $.use('{probe}', '{name}'),\n"
        for name in PIPELINES
    )
    text = SCRIPT.replace("BRANCHES", branches).replace("PROBE", str(probe))
    path = tmp_path / "main.js"
    path.write_text(text.replace("pipy()", "pipy({ _path: '' })"))
    return path


@pytest.fixture
def port(script: Path) -> int:
    chosen = free_port()
    script.write_text(script.read_text().replace("PORT", f"'127.0.0.1:{chosen}'"))
    return chosen


@pytest.fixture
def get(start: Start, script: Path, port: int) -> Get:
    start(port, PIPY, "--threads=2", "--reuse-port", script)
    return lambda path: asked(port, path)


def asked(port: int, path: str, body: str = "") -> str:
    answer = requests.post(f"http://127.0.0.1:{port}/{path}", data=body, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    return answer.text


def test_each_function_does_what_the_header_says(get: Get) -> None:
    assert get("") == "ok, from the module"


def test_variables_are_those_of_the_context(get: Get) -> None:
    # The module's own variable begins with 5 in each.
    assert [get("") for _ in range(3)] == ["ok, from the module"] * 3


def test_messages_pass_as_they_are(get: Get, port: int) -> None:
    body = "x" * 100_000
    assert asked(port, "echo", body) == body


def test_threads_answer_each_its_own_pipeline(get: Get) -> None:
    answers: list[str] = []
    callers = [threading.Thread(target=lambda: answers.append(get("thread"))) for _ in range(20)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(PATIENCE)
    assert sorted(int(answer.removeprefix("thread ")) for answer in answers) == list(range(1, 21))


def test_what_is_scheduled_comes_later(get: Get) -> None:
    begun = time.monotonic()
    assert get("later") == "later"
    assert time.monotonic() - begun >= 0.2


def counts(get: Get) -> dict[str, int]:
    words = get("count").split()
    return dict(zip(words[::2], map(int, words[1::2]), strict=True))


def until(get: Get, what: str, holds: Callable[[dict[str, int]], bool]) -> dict[str, int]:
    deadline = time.monotonic() + PATIENCE
    while not holds(now := counts(get)):
        assert time.monotonic() < deadline, f"waited in vain for {what}: {now}"
        time.sleep(0.02)
    return now


def test_what_has_begun_ends_also_when_its_client_is_gone(get: Get, port: int) -> None:
    for path in ("thread", "later", "thread", "later"):
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            client.sendall(f"GET /{path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    for path in ("", "echo", "thread", "later"):
        get(path)
    found = until(
        get, "the end of all", lambda now: now["jobs"] >= 2 and now["begun"] == now["ended"]
    )
    assert found["begun"] >= 4
    assert found["freed"] >= 1, "the object around a pointer was not freed"


def test_numbers_that_stand_for_nothing_cost_their_own_request(get: Get, port: int) -> None:
    answer = requests.post(f"http://127.0.0.1:{port}/wrong", timeout=PATIENCE)
    assert answer.status_code == 500
    assert get("") == "ok, from the module"


def test_a_script_that_is_loaded_again_has_its_module_again(
    start: Start, script: Path, port: int
) -> None:
    log = start(port, PIPY, script)
    assert asked(port, "") == "ok, from the module"
    pid = next(
        int(found.parent.name)
        for found in Path("/proc").glob("[0-9]*/cmdline")
        if str(script).encode() in found.read_bytes()
    )
    subprocess.run(["kill", "-HUP", str(pid)], check=True)
    deadline = time.monotonic() + PATIENCE
    while "Codebase reloaded" not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    for _ in range(5):
        assert asked(port, "") == "ok, from the module"
        assert asked(port, "thread").startswith("thread ")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "cannot load native module '{path}' due to: "),
        ("int nothing;", "cannot load native module '{path}' due to: it exports no"),
        ("void pipy_module_init(void) {}", "native module {path} has no entrance pipeline"),
        ("void missing(void); void pipy_module_init(void) { missing(); }", "due to: "),
    ],
    ids=["not there", "no module", "no pipeline", "unresolved"],
)
def test_what_is_no_module_is_refused_when_the_script_loads(
    tmp_path: Path, source: str | None, message: str
) -> None:
    module = tmp_path / "some.so"
    if source is not None:
        (tmp_path / "some.c").write_text(source)
        subprocess.run(["cc", "-shared", "-o", module, tmp_path / "some.c"], check=True)
    script = tmp_path / "main.js"
    script.write_text(f"pipy().listen(8080).use('{module}')")
    done = subprocess.run(
        [PIPY, "--check", script], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode != 0
    assert message.format(path=module) in done.stderr


def test_bytes_pass_a_module_in_the_newer_style_too(start: Start, tmp_path: Path) -> None:
    probe = compile_module(HERE / "probe.c", tmp_path / "probe.so")
    port = free_port()
    script = tmp_path / "main.js"
    script.write_text(f"pipy.listen('127.0.0.1:{port}', $ => $.use('{probe}', 'echo'));\n")
    start(port, PIPY, script)
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        sent = bytes(range(256)) * 4096
        sender = threading.Thread(target=client.sendall, args=(sent,))
        sender.start()
        received = b""
        while len(received) < len(sent):
            received += client.recv(65536)
        sender.join(PATIENCE)
        assert received == sent
        # The end of the stream is an event as well, and comes back.
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""


def test_the_example_counts_words(start: Start, tmp_path: Path) -> None:
    example = EXAMPLES / "06-native-module"
    module = compile_module(example / "counter.c", tmp_path / "counter.so")
    port = free_port()
    start(port, PIPY, example / "main.js", PORT=f"127.0.0.1:{port}", MODULE=str(module))
    results = said_and_done(example / "README.md", {8080: port})
    assert len(results) == 2
    for command, expected, got in results:
        assert got == expected, command


CRASHING = """
#include <pipy/nmi.h>
static void init(pipy_pipeline ppl, void **user) { (void)ppl; *user = 0; }
static void end(pipy_pipeline ppl, void *user) { (void)ppl; (void)user; }
static void process(pipy_pipeline ppl, void *user, pjs_value event) {
  (void)ppl; (void)event;
  *(volatile int *)user = 1;
}
void pipy_module_init(void) { pipy_define_pipeline("", init, end, process); }
"""


def test_a_crash_names_the_modules_that_may_be_at_fault(tmp_path: Path) -> None:
    (tmp_path / "crash.c").write_text(CRASHING)
    module = compile_module(tmp_path / "crash.c", tmp_path / "crash.so")
    script = tmp_path / "main.js"
    script.write_text(f"pipy().task().onStart(new Data('x')).use('{module}')")
    # No file of the memory is to remain.
    command = ["sh", "-c", 'ulimit -c 0; exec "$@"', "sh", str(PIPY), str(script)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=2 * PATIENCE, check=False
    )
    assert done.returncode == -signal.SIGSEGV, done.stderr
    assert f"native modules are part of the process: {module}" in done.stderr
