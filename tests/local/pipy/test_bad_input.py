"""What scripts and peers do wrong: each ends its own pipeline, says where, and leaves nothing behind.

The counters of the admin port prove it: when all is over, as many pipelines live as before.
"""  # noqa: E501

from __future__ import annotations

import socket
import struct
import time
import urllib.request
from pathlib import Path

import pytest

from .conftest import PATIENCE, Start, free_ports, run_once

HELLO = "16030100310100002d0303" + "00" * 32 + "000002c02f010000020000"


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


# What throws in each place where a filter calls back: what comes in, and the row.
DATA = "new Data('x')"
MESSAGE = "new Message({ path: '/', headers: {} }, 'x')"
TO = ".to($ => $.dummy())"
POSITIONS = {
    "onStart": ("", ".onStart(() => boom())"),
    "onEnd": (DATA, ".onEnd(() => boom())"),
    "promise": (DATA, ".replaceData(() => Promise.reject(new Error('boom')))"),
    **{
        name: (MESSAGE, f".{name}(() => boom())")
        for kind in ("handle", "replace")
        for of in ("", "StreamStart", "StreamEnd", "Data", "MessageStart", "MessageEnd")
        for name in (kind + of,)
    },
    "handleMessage": (MESSAGE, ".handleMessage(() => boom())"),
    "handleMessageBody": (MESSAGE, ".handleMessageBody(() => boom())"),
    "replaceMessage": (MESSAGE, ".replaceMessage(() => boom())"),
    "replaceMessageBody": (MESSAGE, ".replaceMessageBody(() => boom())"),
    "serveHTTP": (
        "new Data('GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n')",
        ".serveHTTP(() => boom())",
    ),
    "muxHTTP": (MESSAGE, f".muxHTTP(() => boom()){TO}"),
    "muxHTTP options": (MESSAGE, f".muxHTTP('k', () => boom()){TO}"),
    "muxHTTP version": (MESSAGE, f".muxHTTP('k', {{ version: () => boom() }}){TO}"),
    "connect": (DATA, ".connect(() => boom())"),
    "connect options": (DATA, ".connect('127.0.0.1:9', () => boom())"),
    "connect bind": (DATA, ".connect('127.0.0.1:9', { bind: () => boom() })"),
    "connect onState": (DATA, ".connect('127.0.0.1:9', { onState: () => boom() })"),
    "branch": (DATA, ".branch(() => boom(), $ => $, $ => $)"),
    "branchMessageStart": (MESSAGE, ".branchMessageStart(() => boom(), $ => $, $ => $)"),
    "branchMessage": (MESSAGE, ".branchMessage(() => boom(), $ => $, $ => $)"),
    "link": (DATA, ".link(() => boom())"),
    "linkAsync": (DATA, ".linkAsync(() => boom())"),
    "pipe": (DATA, ".pipe(() => boom(), {})"),
    "pipe arguments": (DATA, ".pipe([$ => $.dummy()], () => boom())"),
    "acceptHTTPTunnel": (
        "new Data('CONNECT a:1 HTTP/1.1\\r\\nHost: a:1\\r\\n\\r\\n')",
        f".demuxHTTP().to($ => $.acceptHTTPTunnel(() => boom()){TO})",
    ),
    "connectHTTPTunnel": (DATA, f".connectHTTPTunnel(() => boom()){TO}"),
    "replay": (
        DATA,
        ".replay({ delay: () => boom() }).to($ => $.replaceData(new StreamEnd('Replay')))",
    ),
    "repeat": (DATA, ".repeat(() => boom()).to($ => $.replaceData(new StreamEnd))"),
    "acceptTLS": (
        f"new Data('{HELLO}', 'hex')",
        ".acceptTLS({ certificate: () => boom() }).to($ => $)",
    ),
    "acceptTLS alpn": (
        f"new Data('{HELLO}', 'hex')",
        ".acceptTLS({ certificate: {}, alpn: () => boom() }).to($ => $)",
    ),
    "connectTLS": (DATA, f".connectTLS({{ sni: () => boom() }}){TO}"),
    "demux": (MESSAGE, f".demux({{ outputCount: () => boom() }}){TO}"),
    "demuxQueue": (MESSAGE, f".demuxQueue({{ isOneWay: () => boom() }}){TO}"),
    "mux": (MESSAGE, f".mux(() => boom()){TO}"),
    "mux options": (MESSAGE, f".mux('k', () => boom()){TO}"),
    "muxQueue": (MESSAGE, f".muxQueue('k', {{ outputCount: () => boom() }}){TO}"),
    "merge": (MESSAGE, f".merge(() => boom()){TO}"),
    "muxFastCGI": (MESSAGE, f".muxFastCGI(() => boom()){TO}"),
    "acceptSOCKS": (
        "new Data('0401005001020304 7800'.replace(' ', ''), 'hex')",
        ".acceptSOCKS(() => boom()).to($ => $)",
    ),
    "connectSOCKS": (DATA, f".connectSOCKS(() => boom()){TO}"),
    "acceptProxyProtocol": (
        "new Data('PROXY TCP4 1.2.3.4 5.6.7.8 1 2\\r\\n')",
        ".acceptProxyProtocol(() => boom()).to($ => $)",
    ),
    "connectProxyProtocol": (DATA, f".connectProxyProtocol(() => boom()){TO}"),
    "insert": (DATA, ".insert(() => boom())"),
    "produce": (DATA, ".produce(() => boom())"),
    "tee": (DATA, ".tee(() => boom())"),
    "read": (DATA, ".read(() => boom())"),
    "deframe": (DATA, ".deframe({ a: () => boom() })"),
    "exec": (DATA, ".exec(() => boom())"),
    "exec env": (DATA, ".exec('cat', { env: () => boom() })"),
    "exec onStart": (DATA, ".exec('cat', { onStart: () => boom() })"),
    "exec onExit": (DATA, ".exec('cat', { onExit: () => boom() })"),
    "depositMessage": (MESSAGE, ".depositMessage(() => boom())"),
    "split": (DATA, ".split(() => boom())"),
    "throttleMessageRate": (MESSAGE, ".throttleMessageRate(() => boom())"),
    "throttleDataRate": (DATA, ".throttleDataRate(() => boom())"),
    "throttleConcurrency": (DATA, ".throttleConcurrency(() => boom())"),
    "detectProtocol": (DATA, ".detectProtocol(() => boom())"),
    "handleTLSClientHello": (f"new Data('{HELLO}', 'hex')", ".handleTLSClientHello(() => boom())"),
    "dump": (DATA, ".dump(() => boom())"),
    "fork": (DATA, f".fork(() => boom()){TO}"),
    "forkJoin": (DATA, f".forkJoin(() => boom()){TO}"),
    "forkRace": (DATA, f".forkRace(() => boom()){TO}"),
    "swap": (DATA, ".swap(() => boom())"),
    "input": (DATA, f".input(() => boom()){TO}"),
    "output": (DATA, ".output(() => boom())"),
    "wait": (DATA, ".wait(() => boom())"),
    "compress": (DATA, ".compress(() => boom())"),
    "compressMessage": (MESSAGE, ".compressMessage(() => boom())"),
    "decompress": (DATA, ".decompress(() => boom())"),
    "decompressMessage": (MESSAGE, ".decompressMessage(() => boom())"),
    "compressHTTP": (MESSAGE, ".compressHTTP(() => boom())"),
    "compressHTTP enabled": (MESSAGE, ".compressHTTP({ enabled: () => boom() })"),
    "decompressHTTP": (MESSAGE, ".decompressHTTP(() => boom())"),
    "decodeHTTPRequest": (
        "new Data('GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n')",
        ".decodeHTTPRequest(() => boom())",
    ),
    "encodeHTTPRequest": (MESSAGE, ".encodeHTTPRequest(() => boom())"),
    "decodeHTTPResponse": (
        "new Data('HTTP/1.1 200 OK\\r\\n\\r\\n')",
        ".decodeHTTPResponse(() => boom())",
    ),
    "encodeHTTPResponse": (MESSAGE, ".encodeHTTPResponse(() => boom())"),
    "decodeMQTT": (DATA, ".decodeMQTT({ protocolLevel: () => boom() })"),
    "encodeMQTT": (MESSAGE, ".encodeMQTT({ protocolLevel: () => boom() })"),
    "decodeBGP": (DATA, ".decodeBGP({ enableAS4: () => boom() })"),
    "encodeBGP": (MESSAGE, ".encodeBGP({ enableAS4: () => boom() })"),
}
# Those that call nobody back.
SILENT = {
    *("demuxHTTP", "demuxFastCGI", "pipeNext", "use", "chain", "pack", "dummy", "print", "loop"),
    *("decodeMultipart", "decodeRESP", "encodeRESP", "decodeDubbo", "encodeDubbo"),
    *("decodeThrift", "encodeThrift", "decodeNetlink", "encodeNetlink"),
    *("decodeWebSocket", "encodeWebSocket"),
}
# A failure of these is told, and ends nothing: what they are for goes on without them.
GOES_ON = {
    "acceptSOCKS",
    "output",
    "encodeBGP",
    "serveHTTP",
    "onEnd",
    "tee",
    "fork",
    "connect onState",
    "exec onStart",
    "exec onExit",
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


def test_every_filter_that_calls_back_is_in_the_table() -> None:
    names = {line.split()[0] for line in run_once("--list-filters").stdout.splitlines()}
    called = {place.split()[0] for place in POSITIONS}
    assert called & SILENT == set()
    assert names - called - SILENT == set()


@pytest.mark.parametrize("place", POSITIONS)
def test_a_throw_in_each_place_is_told_and_leaves_nothing(place: str, tmp_path: Path) -> None:
    given, row = POSITIONS[place]
    script = tmp_path / "main.js"
    start = "" if place == "onStart" else f".onStart([{given}, new StreamEnd])"
    script.write_text(
        f"""
        ((boom = () => {{ throw new Error('boom') }}) => pipy().task()
        {start}
        {row}
        .handleStreamEnd(end => println('ended', end.error))
        )()
        """
    )
    # It ends by itself when no pipeline is left, and at no other time.
    done = run_once(str(script))
    assert done.returncode == 0
    assert "boom" in done.stderr
    # The place of the throw, and that of the call.
    assert "/main.js:" in done.stderr
    assert place.split()[0].removesuffix("options") in done.stderr or place == "promise"
    ends = [line for line in done.stdout.splitlines() if line.startswith("ended")]
    # What comes in ends, too; whoever stands behind hears of one end alone.
    assert len(ends) <= 1
    if place.startswith(("handle", "replace")) and "TLS" not in place:
        assert ends == ["ended RuntimeError"]
    if place not in GOES_ON and "demuxHTTP" not in row:
        assert ends != ["ended undefined"]


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
