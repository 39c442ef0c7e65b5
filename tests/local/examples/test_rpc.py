"""The proxies of Thrift and Dubbo: real clients, many at a time, and what goes wrong."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import thriftpy2
from thriftpy2.protocol import TBinaryProtocolFactory, TCompactProtocolFactory
from thriftpy2.rpc import make_client
from thriftpy2.thrift import TApplicationException
from thriftpy2.transport import TBufferedTransportFactory, TFramedTransportFactory

from .conftest import EXAMPLES, PATIENCE, PIPY, Start, free_port

THRIFT = EXAMPLES / "17-thrift"
DUBBO = EXAMPLES / "18-dubbo"


def until(what: str, holds: Callable[[], bool]) -> None:
    """Wait for a state."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.02)


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


PROTOCOLS: dict[str, Any] = {
    "binary": TBinaryProtocolFactory(),  # type: ignore[no-untyped-call]
    "compact": TCompactProtocolFactory(),  # type: ignore[no-untyped-call]
}
TRANSPORTS = {"buffered": TBufferedTransportFactory(), "framed": TFramedTransportFactory()}


Connect = Callable[[], Any]


@pytest.fixture(params=[("binary", "buffered"), ("compact", "framed"), ("binary", "framed")])
def thrift(request: pytest.FixtureRequest, start: Start) -> Iterator[tuple[Path, Connect]]:
    """What the service behind the proxy prints, and what makes clients."""
    idl = thriftpy2.load(str(THRIFT / "calculator.thrift"), module_name="calculator_test_thrift")
    protocol, transport = request.param
    how: Any = {"proto_factory": PROTOCOLS[protocol], "trans_factory": TRANSPORTS[transport]}
    behind, port = free_port(), free_port()
    program = (sys.executable, "-u", THRIFT / "calculator.py", "server", str(behind))
    printed = start(behind, *program, protocol, transport, PYTHONDONTWRITEBYTECODE="1")
    start(
        port,
        PIPY,
        THRIFT / "main.js",
        PORT=f"127.0.0.1:{port}",
        SERVICE=f"127.0.0.1:{behind}",
    )
    made: list[Any] = []

    def client() -> Any:
        made.append(make_client(idl.Calculator, "127.0.0.1", port, timeout=5000, **how))
        return made[-1]

    yield printed, client
    for one in made:
        one.close()


def test_thrift_calls_pass_in_every_protocol(thrift: tuple[Path, Connect]) -> None:
    printed, connect = thrift
    client = connect()
    assert client.add(2**40, -1) == 2**40 - 1
    assert client.divide(1.0, 4.0) == 0.25
    assert client.range(1000) == list(range(1000))
    text = "grüße \U0001f600 " * 5000
    assert client.echo(text) == text
    with pytest.raises(Exception, match="nothing is divided by zero"):
        client.divide(1.0, 0.0)
    with pytest.raises(TApplicationException, match="erase is not allowed here"):
        client.erase()
    # The connection goes on.
    assert client.add(1, 1) == 2
    assert "erased" not in printed.read_text()


def test_thrift_calls_that_nobody_answers_pass(
    thrift: tuple[Path, Connect],
) -> None:
    printed, connect = thrift
    client = connect()
    for number in range(5):
        client.note(f"note {number}")
        assert client.add(number, 1) == number + 1
    until("the notes", lambda: printed.read_text().count("note: note") == 5)


def test_thrift_clients_get_each_their_own_answers(
    thrift: tuple[Path, Connect],
) -> None:
    _printed, connect = thrift
    wrong: list[str] = []

    def ask(number: int) -> None:
        client = connect()
        for turn in range(50):
            if client.add(number, turn) != number + turn:
                wrong.append(f"{number}+{turn}")

    threads = [threading.Thread(target=ask, args=(1000 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert wrong == []


def test_a_thrift_service_that_is_gone_is_an_exception(start: Start) -> None:
    idl = thriftpy2.load(str(THRIFT / "calculator.thrift"), module_name="calculator_gone_thrift")
    port = free_port()
    start(
        port,
        PIPY,
        THRIFT / "main.js",
        PORT=f"127.0.0.1:{port}",
        SERVICE=f"127.0.0.1:{free_port()}",
    )
    client = make_client(idl.Calculator, "127.0.0.1", port, timeout=5000)
    for _ in range(2):
        with pytest.raises(TApplicationException, match="cannot be reached: ConnectionRefused"):
            client.add(1, 2)
    client.close()


@pytest.fixture
def dubbo(start: Start, tmp_path: Path) -> Iterator[tuple[ModuleType, int]]:
    """The module of the example, and the proxy's port before two servers."""
    module = loaded(DUBBO / "dubbo.py")
    servers = [module.Server(0, name) for name in ("old", "new")]
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    folder = tmp_path / "example"
    shutil.copytree(DUBBO, folder)
    config = json.loads((folder / "config.json").read_text())
    old, new = (f"127.0.0.1:{server.server_address[1]}" for server in servers)
    config["services"] = {
        "com.example.Greeter": {"1.0.0": old, "2.0.0": new, "*": old},
        "com.example.Gone": {"*": f"127.0.0.1:{free_port()}"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    port = free_port()
    start(port, PIPY, folder / "main.js", PORT=f"127.0.0.1:{port}")
    yield module, port
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE)


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def test_dubbo_calls_are_answered_by_their_numbers(dubbo: tuple[ModuleType, int]) -> None:
    module, port = dubbo
    greeter = "com.example.Greeter"
    with connected(port) as connection:
        # All asked before any is answered; the first takes its time.
        calls = [(7, "slow", "0.2"), (2**40, "greet", "a" * 40), (3, "greet", "b" * 2000)]
        for number, method, word in calls:
            body = module.call(greeter, "2.0.0", method, word)
            connection.sendall(module.frame(module.REQUEST | module.TWO_WAY, 0, number, body))
        for number, method, word in calls:
            assert module.answer(connection, number) == f"new 2.0.0 {method} {word}"


def test_dubbo_calls_that_wait_do_not_hold_others_up(dubbo: tuple[ModuleType, int]) -> None:
    module, port = dubbo
    greeter = "com.example.Greeter"
    with connected(port) as slow, connected(port) as quick:
        body = module.call(greeter, "1.0.0", "slow", "1")
        slow.sendall(module.frame(module.REQUEST | module.TWO_WAY, 0, 1, body))
        begun = time.monotonic()
        for number in range(20):
            body = module.call(greeter, "1.0.0", "greet", str(number))
            assert module.ask(quick, number, body) == f"old 1.0.0 greet {number}"
        assert time.monotonic() - begun < 0.9
        assert module.answer(slow, 1) == "old 1.0.0 slow 1"


def test_dubbo_heartbeats_are_answered_and_calls_without_answers_pass(
    dubbo: tuple[ModuleType, int],
) -> None:
    module, port = dubbo
    with connected(port) as connection:
        beat = module.REQUEST | module.TWO_WAY | module.EVENT
        connection.sendall(module.frame(beat, 0, 9, b"N"))
        flags, status, number, body = module.read(connection)
        assert (flags & module.EVENT, status, number, body) == (module.EVENT, module.OK, 9, b"N")
        body = module.call("com.example.Greeter", "1.0.0", "greet", "nobody")
        connection.sendall(module.frame(module.REQUEST, 0, 10, body))
        body = module.call("com.example.Greeter", "1.0.0", "greet", "somebody")
        assert module.ask(connection, 11, body) == "old 1.0.0 greet somebody"


def test_dubbo_failures_are_answers_and_the_connection_goes_on(
    dubbo: tuple[ModuleType, int],
) -> None:
    module, port = dubbo
    with connected(port) as connection:
        answers = [
            module.ask(connection, number, module.call(service, "1.0.0", method))
            for number, (service, method) in enumerate(
                [
                    ("com.example.Gone", "greet"),
                    ("com.example.Nobody", "greet"),
                    ("com.example.Greeter", "shutdown"),
                    ("com.example.Greeter", "greet"),
                ]
            )
        ]
    assert "ConnectionRefused" in answers[0]
    assert answers[1:] == [
        "status 60: no server for com.example.Nobody 1.0.0",
        "status 80: shutdown is not allowed here",
        "old 1.0.0 greet",
    ]


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\xda\xbb" + b"\xff" * 14])
def test_garbage_ends_its_connection_only(dubbo: tuple[ModuleType, int], garbage: bytes) -> None:
    module, port = dubbo
    with connected(port) as connection:
        connection.sendall(garbage)
        connection.shutdown(socket.SHUT_WR)
        try:
            assert connection.recv(100) == b""
        except ConnectionResetError:
            pass
    with connected(port) as connection:
        body = module.call("com.example.Greeter", "1.0.0", "greet")
        assert module.ask(connection, 1, body) == "old 1.0.0 greet"
