"""What scripts and peers do wrong: each ends its own pipeline, says where, and leaves nothing behind.

The counters of the admin port prove it: when all is over, as many pipelines live as before.
"""  # noqa: E501

from __future__ import annotations

import socket
import struct
import time
import urllib.request

import pytest

from .conftest import PATIENCE, Start, free_ports, run_once

GOOD = "$ => $.replaceMessage(new Message('fine'))"


def facts(port: int) -> dict[str, float]:
    """What the process counts, by name, over all threads."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
        lines = answer.read().decode().splitlines()
    found: dict[str, float] = {}
    for line in lines:
        if not line.startswith("#") and " " in line:
            name, value = line.rsplit(" ", 1)
            found[name.split("{")[0]] = found.get(name.split("{")[0], 0.0) + float(value)
    return found


def settles(port: int) -> None:
    """Wait until no pipeline lives."""
    deadline = time.monotonic() + PATIENCE
    # A worker that is busy does not say.
    while facts(port).get("pipy_pipeline_count", 1) > 0:
        assert time.monotonic() < deadline, facts(port)
        time.sleep(0.05)


# What a callback does, and what the log says of it.
FAULTS = {
    "an endless loop": ("{ for (;;) {} }", "took longer than 500 ms and was stopped"),
    "a deep recursion": (
        "{ const f = n => f(n + 1) + 1; f(0) }",
        "Maximum call stack size exceeded",
    ),
    "a growing list": ("{ const a = []; for (;;) a.push('x'.repeat(1 << 20) + a.length) }", ""),
    "a slow pattern": ("/^(a+)+$/.test('a'.repeat(40) + '!')", "took longer than 500 ms"),
    "a throw": ("{ throw new Error('mine') }", "mine"),
    "a throw of no error": ("{ throw 'text' }", "thrown: text"),
    "an unknown name": ("notThere + 1", "unresolved identifier 'notThere'"),
    "nothing's property": ("undefined.x", "cannot read property 'x' of undefined"),
    "a header that is none": ("{ m.head.headers['a b'] = 'c' }", 'header "a b" cannot be sent'),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_its_request_and_nothing_else(start: Start, fault: str) -> None:
    admin = free_ports(1)[0]
    body, said = FAULTS[fault]
    pipy = start(
        f"""
        pipy()
        .listen(PORT0).demuxHTTP().to($ => $
          .handleMessageStart(m => m.head.path === '/bad' && (() => {body})())
          .replaceMessage(new Message('fine')))
        """,
        f"--admin-port={admin}",
    )
    assert pipy.curl("/").stdout == "fine"
    bad = pipy.curl("/bad", "-w", "%{http_code}")
    assert "fine" not in bad.stdout
    assert pipy.curl("/").stdout == "fine"
    pipy.logged(said)
    # File, line and the way there; a value that is no error does not know where it was thrown.
    if fault != "a throw of no error":
        assert "/main.js:4:" in pipy.log
    assert "handleMessageStart" in pipy.log
    settles(admin)


POSITIONS = {
    "onStart": ".onStart(() => boom())",
    "onEnd": ".onEnd(() => boom())",
    "handle": ".handle(() => boom())",
    "handleStreamStart": ".handleStreamStart(() => boom())",
    "handleStreamEnd": ".handleStreamEnd(() => boom())",
    "handleData": ".handleData(() => boom())",
    "replaceData": ".replaceData(() => boom())",
    "replaceStreamStart": ".replaceStreamStart(() => boom())",
    "replaceStreamEnd": ".replaceStreamEnd(() => boom())",
    "branch": ".branch(() => boom(), $ => $, $ => $)",
    "link": ".link(() => boom())",
    "pipe": ".pipe(() => boom(), {})",
    "fork": ".fork(() => boom()).to($ => $.dummy())",
    "forkJoin": ".forkJoin(() => boom()).to($ => $.dummy())",
    "wait": ".wait(() => boom())",
    "connect": ".connect(() => boom())",
    "produce": ".produce(() => boom())",
    "insert": ".insert(() => boom())",
    "throttleDataRate": ".throttleDataRate(() => boom())",
    "acceptSOCKS": ".acceptSOCKS(() => boom()).to($ => $)",
    "acceptProxyProtocol": ".acceptProxyProtocol(() => boom()).to($ => $)",
    "connectProxyProtocol": ".connectProxyProtocol(() => boom()).to($ => $)",
    "exec": ".exec(() => boom())",
    "deframe": ".deframe({ a: () => boom() })",
    "compress": ".compress(() => boom())",
    "swap": ".swap(() => boom())",
    "replay": ".replay({ delay: () => boom() }).to($ => $.replaceData(new StreamEnd('Replay')))",
    "repeat": ".repeat(() => boom()).to($ => $.replaceData(new StreamEnd))",
    "handleTLSClientHello": ".handleTLSClientHello(() => boom())",
    "detectProtocol": ".detectProtocol(() => boom())",
    "promise": ".replaceData(() => Promise.reject(new Error('boom')))",
}
SAYS = {
    "acceptSOCKS": b"\x04\x01\x00\x50\x01\x02\x03\x04x\x00",
    "acceptProxyProtocol": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
    "handleTLSClientHello": bytes.fromhex(
        "16030100310100002d0303" + "00" * 32 + "000002c02f010000020000"
    ),
}


def hear(port: int, words: bytes) -> None:
    """Say something, end, and hear whatever comes until the end."""
    try:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as peer:
            peer.settimeout(PATIENCE)
            peer.sendall(words)
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(65536):
                pass
    except TimeoutError:
        raise
    except OSError:
        # It has reset the connection, maybe before we knew that it was there: an answer too.
        return


def test_a_throw_in_each_place_is_told_and_leaves_nothing(start: Start) -> None:
    admin = free_ports(1)[0]
    listeners = "\n".join(
        f".listen(PORT{number}){row}" for number, row in enumerate(POSITIONS.values())
    )
    for number in reversed(range(len(POSITIONS))):
        listeners = listeners.replace(f"PORT{number})", f"PORT{number:02d})")
    ports = free_ports(len(POSITIONS))
    for number, port in enumerate(ports):
        listeners = listeners.replace(f"PORT{number:02d})", f"{port})")
    pipy = start(
        f"((boom = () => {{ throw new Error('boom') }}) => pipy()\n{listeners}\n.listen(PORT0))()",
        f"--admin-port={admin}",
    )
    for (place, _), port in zip(POSITIONS.items(), ports, strict=True):
        before = pipy.log.count("boom")
        hear(port, SAYS.get(place, b"GET / HTTP/1.1\r\n\r\n"))
        deadline = time.monotonic() + PATIENCE
        while pipy.log.count("boom") == before:
            assert time.monotonic() < deadline, f"{place}: nothing was said\n{pipy.log}"
            time.sleep(0.02)
    settles(admin)


CODECS = [
    "MQTT",
    "RESP",
    "Dubbo",
    "Thrift",
    "BGP",
    "Netlink",
    "WebSocket",
    "HTTPRequest",
    "HTTPResponse",
]


def test_a_codec_that_is_fed_garbage_ends_its_stream(start: Start) -> None:
    admin = free_ports(1)[0]
    ports = free_ports(len(CODECS))
    rows = "".join(
        f".listen({port}).decode{codec}()" for codec, port in zip(CODECS, ports, strict=True)
    )
    pipy = start(f"pipy(){rows}.listen(PORT0)", f"--admin-port={admin}")
    for port in ports:
        for seed in range(8):
            hear(port, bytes((seed * 37 + n * n * 31 + 255) % 256 for n in range(4096)))
    assert pipy.process.poll() is None
    settles(admin)
    assert "panicked" not in pipy.log


def test_a_peer_that_dies_in_mid_stream_leaves_nothing(start: Start) -> None:
    admin = free_ports(1)[0]
    pipy = start(
        """
        pipy()
        .listen(PORT0).demuxHTTP().to($ => $
          .handleMessageStart(m => m.head.headers['x-a'] = 'b')
          .muxHTTP().to($ => $.connect('127.0.0.1:PORT1')))
        .listen(PORT1).demuxHTTP().to($ => $.replaceMessage(() => new Timeout(30).wait()))
        .listen(PORT2).connect('127.0.0.1:PORT1')
        """,
        f"--admin-port={admin}",
        ports=3,
    )
    linger = struct.pack("ii", 1, 0)
    for words in (
        b"POST / HTTP/1.1\r\nContent-Length: 99\r\n\r\nhalf",
        b"GET / HT",
        b"GET / HTTP/1.1\r\n\r\n",
    ):
        for port in (pipy.ports[0], pipy.ports[2]):
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as peer:
                peer.sendall(words)
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    settles(admin)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("pipy().pipeline().use('missing.js')", "cannot open script: /missing.js"),
        ("pipy().pipeline().chain(['missing.js'])", "cannot open script: /missing.js"),
        ("import x from './missing.js'", "/missing.js"),
        ("pipy.solve('missing.js')", "/missing.js"),
        ("pipy().listen(1).handelMessage(() => 0)", "did you mean handleMessage()?"),
        ("pipy().listen(1).connect()", "connect()"),
        ("pipy().listen(1).muxHTTP().muxHTTP()", "missing .to(...)"),
        ("let", "syntax error"),
        ("pipy().listen(1).demuxHTTP().to($ => { throw new Error('mine') })", "mine"),
        ("while (true) {}", "took longer than 500 ms"),
        ("(function f() { f() })()", "Maximum call stack size exceeded"),
    ],
)
def test_a_script_that_cannot_be_says_what_and_where(script: str, said: str) -> None:
    done = run_once("-e", script)
    assert done.returncode == 255
    assert said in done.stderr
