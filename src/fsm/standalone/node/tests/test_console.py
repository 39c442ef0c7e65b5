"""The streams of a container that people attach to: who comes first, who is slow, who is nobody."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsm.standalone.node import console

#: An init that does what ``shim`` does with a console, without a container around it.
INIT = """
import json, os, sys
from fsm.standalone.node.console import Console, listen
directory, log, options, *argv = sys.argv[1:]
made = Console(listen(os.open(directory, os.O_RDONLY)), **json.loads(options))
log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
child = os.fork()
if child == 0:
    os.setsid()
    made.give(None, None)
    os.execvp(argv[0], argv)
raise SystemExit(os.waitstatus_to_exitcode(made.serve(child, log)))
"""
LIMIT_S = 20.0


class Init:
    """A process with a console."""

    def __init__(self, directory: Path, argv: list[str], **options: bool) -> None:
        chosen = {"stdin": True, "once": True, "tty": False} | options
        text = str(chosen).replace("'", '"').lower()
        self.directory, self.log = directory, directory / "log"
        self.process = subprocess.Popen(
            [sys.executable, "-c", INIT, str(directory), str(self.log), text, *argv],
            stdin=subprocess.DEVNULL,
        )

    def attach(self, *, stdin: bool = True) -> Client:
        deadline = time.monotonic() + LIMIT_S
        while True:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(LIMIT_S)
            try:
                sock.connect(str(self.directory / console.SOCKET))
                break
            except OSError:
                sock.close()
                assert time.monotonic() < deadline, "there is no console"
                time.sleep(0.01)
        client = Client(sock)
        if stdin:
            client.send(console.INPUT)
        return client

    def ended(self) -> int:
        return self.process.wait(LIMIT_S)


class Client:
    """The agent's end."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.stream = sock.makefile("rb")

    def send(self, kind: int, data: bytes = b"") -> None:
        self.sock.sendall(console.HEADER.pack(kind, len(data)) + data)

    def frame(self) -> tuple[int, bytes] | None:
        head = self.stream.read(console.HEADER.size)
        if not head:
            return None
        kind, length = console.HEADER.unpack(head)
        return kind, self.stream.read(length)

    def until(self, wanted: bytes) -> bytes:
        seen = b""
        while wanted not in seen:
            frame = self.frame()
            assert frame is not None, seen
            seen += frame[1]
        return seen

    def rest(self) -> dict[int, bytes]:
        seen = {console.STDOUT: b"", console.STDERR: b""}
        while frame := self.frame():
            seen[frame[0]] += frame[1]
        return seen

    def close(self) -> None:
        self.stream.close()
        self.sock.close()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Init]]:
    made: list[Init] = []
    yield made
    for init in made:
        init.process.kill()
        init.process.wait()


def test_input_arrives_whole_and_both_outputs_apart(tmp_path: Path, started: list[Init]) -> None:
    init = Init(tmp_path, ["sh", "-c", "echo first; cat; echo last >&2; exit 5"])
    started.append(init)
    client = init.attach()
    data = os.urandom(3_000_000)
    done = os.fork()
    if done == 0:
        for start in range(0, len(data), 500_000):
            client.send(console.STDIN, data[start : start + 500_000])
        client.send(console.CLOSE)
        os._exit(0)
    seen = client.rest()
    os.waitpid(done, 0)
    client.close()
    assert seen == {console.STDOUT: b"first\n" + data, console.STDERR: b"last\n"}
    assert init.ended() == 5
    logged = init.log.read_bytes()
    assert len(logged) == len(data) + len(b"first\nlast\n")


def test_who_comes_late_sees_what_was_said_before(tmp_path: Path, started: list[Init]) -> None:
    init = Init(tmp_path, ["sh", "-c", "echo prompt; read line; echo got $line"])
    started.append(init)
    deadline = time.monotonic() + LIMIT_S
    while not (init.log.exists() and init.log.read_bytes()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    client = init.attach()
    client.until(b"prompt\n")
    client.send(console.STDIN, b"it\n")
    assert client.rest()[console.STDOUT] == b"got it\n"
    client.close()
    assert init.ended() == 0


def test_who_comes_in_the_last_moment_hears_it_too(tmp_path: Path, started: list[Init]) -> None:
    init = Init(tmp_path, ["sh", "-c", "echo last words; exec sleep 1000"])
    started.append(init)
    deadline = time.monotonic() + LIMIT_S
    while not (init.log.exists() and init.log.read_bytes()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # It has no time to take us on before it learns that the application has ended.
    pid = init.process.pid
    os.kill(pid, signal.SIGSTOP)
    client = init.attach()
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(int(child), signal.SIGKILL)
    os.kill(pid, signal.SIGCONT)
    assert client.rest()[console.STDOUT] == b"last words\n"
    client.close()
    assert init.ended() != 0


@pytest.mark.parametrize("once", [True, False])
def test_input_ends_with_the_client_that_brought_it_only_when_so_wished(
    tmp_path: Path, started: list[Init], once: bool
) -> None:
    script = 'while read line; do echo "<$line>"; done; echo over'
    init = Init(tmp_path, ["sh", "-c", script], once=once)
    started.append(init)
    watcher = init.attach(stdin=False)
    first = init.attach()
    first.send(console.STDIN, b"one\n")
    watcher.until(b"<one>\n")
    first.close()
    if once:
        assert watcher.rest()[console.STDOUT] == b"over\n"
        assert init.ended() == 0
    else:
        second = init.attach()
        second.send(console.STDIN, b"two\n")
        watcher.until(b"<two>\n")
        assert init.process.poll() is None
        second.close()
    watcher.close()


def test_a_terminal_has_a_size_and_ends_with_ctrl_d(tmp_path: Path, started: list[Init]) -> None:
    script = "test -t 0 && test -t 1 && echo ready; read x; stty size; cat; echo over"
    init = Init(tmp_path, ["sh", "-c", script], tty=True)
    started.append(init)
    client = init.attach()
    client.until(b"ready")
    client.send(console.RESIZE, b'{"Width": 77, "Height": 33}')
    client.send(console.RESIZE, b"no json")
    client.send(console.STDIN, b"\n")
    client.until(b"33 77")
    client.send(console.CLOSE)
    assert b"over" in client.rest()[console.STDOUT]
    client.close()
    assert init.ended() == 0


def test_a_client_that_takes_nothing_holds_up_and_loses_nothing(
    tmp_path: Path, started: list[Init]
) -> None:
    size = 4_000_000
    init = Init(tmp_path, ["sh", "-c", f"read x; head -c {size} /dev/zero; echo over"])
    started.append(init)
    slow = init.attach()
    slow.send(console.STDIN, b"\n")
    slow.until(b"\0")
    # More cannot be under way than a socket, a pipe and what waits for a client hold.
    assert init.log.stat().st_size < size
    assert init.process.poll() is None
    rest = slow.rest()[console.STDOUT]
    assert rest.endswith(b"\0over\n")
    slow.close()
    assert init.ended() == 0
    assert init.log.stat().st_size == size + 5


def test_what_makes_no_sense_costs_its_sender_and_nobody_else(
    tmp_path: Path, started: list[Init]
) -> None:
    init = Init(tmp_path, ["sh", "-c", "read x; echo got $x"], once=False)
    started.append(init)
    liar = init.attach(stdin=False)
    liar.sock.sendall(console.HEADER.pack(console.STDIN, console.FRAME_BYTES_MAX + 1))
    assert liar.frame() is None
    liar.close()
    honest = init.attach()
    honest.send(99, b"unknown kinds are passed over")
    honest.send(console.STDIN, b"it\n")
    assert honest.rest()[console.STDOUT] == b"got it\n"
    honest.close()
