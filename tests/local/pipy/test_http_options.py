"""Options of the filters of HTTP: heads, windows, and how connections to servers are used."""

from __future__ import annotations

import contextlib
import json
import socket
import struct

import pytest

from .conftest import PATIENCE, Running, Start
from .test_filter_options import connected, ends

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, WINDOW_UPDATE = 4, 8
INITIAL_WINDOW = 4
WINDOW_BYTES = 65_535


def _frames(peer: socket.socket) -> list[tuple[int, int, bytes]]:
    """What a server of HTTP/2 says first, until it has taken our settings note of."""
    found: list[tuple[int, int, bytes]] = []
    with peer.makefile("rb") as stream:
        while not any(kind == SETTINGS and flags & 1 for kind, flags, _ in found):
            head = stream.read(9)
            length = int.from_bytes(head[:3], "big")
            found.append((head[3], head[4], stream.read(length)))
    return found


@pytest.mark.parametrize("given", [(200_000, 300_000), (2_000_000, 4_000_000)])
def test_a_server_lets_clients_send_as_much_as_is_said(
    start: Start, given: tuple[int, int]
) -> None:
    stream, connection = given
    pipy = start(
        f"""
        pipy().listen(PORT0)
          .demuxHTTP({{ streamWindowSize: {stream}, connectionWindowSize: {connection} }})
          .to($ => $.replaceMessage(new Message('hi')))
        """
    )
    with connected(pipy.ports[0]) as peer:
        peer.sendall(PREFACE + bytes([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]))
        frames = _frames(peer)
    settings = b"".join(words for kind, flags, words in frames if kind == SETTINGS and not flags)
    said = dict(struct.iter_unpack(">HI", settings))
    assert said[INITIAL_WINDOW] == stream
    more = [int.from_bytes(words, "big") for kind, _, words in frames if kind == WINDOW_UPDATE]
    assert WINDOW_BYTES + sum(more) == connection


@pytest.mark.parametrize(
    "filter_",
    ["demuxHTTP({OPTIONS}).to($ => $.replaceMessage(ANSWER))", "serveHTTP(ANSWER, {OPTIONS})"],
)
def test_a_head_that_is_too_large_and_one_request_too_many_are_refused(
    start: Start, filter_: str
) -> None:
    row = filter_.replace("{OPTIONS}", "{ maxHeaderSize: '2k', maxMessages: 2 }")
    pipy = start(f"pipy().listen(PORT0).{row.replace('ANSWER', 'new Message(String(1))')}")
    large = ("-H", f"x-large: {'a' * 3000}")
    shown = ("-o", "/dev/null", "-w", "%{http_code}\n")
    assert pipy.curl("/", *shown, *large).stdout == "431\n"
    assert pipy.curl("/", *shown).stdout == "200\n"
    with connected(pipy.ports[0]) as peer:
        for number in range(2):
            peer.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            heard = b""
            while not heard.endswith(b"\r\n\r\n1"):
                heard += peer.recv(1000)
            assert (b"connection: close" in heard) is (number == 1)
        assert ends(peer)


UPSTREAM = """
((served = 0, slow = []) => pipy({ _number: 0 })
.listen(PORT1)
  .onStart(() => void (_number = ++served))
  .demuxHTTP().to($ => $.replaceMessage(async request => {
    // Those that come together are answered when the last of them is here.
    if (request.head.path === '/four') await new Promise(go =>
      (slow.push(go), slow.length === 4 && slow.splice(0).forEach(go => go())))
    return new Message({ headers: { 'x-large': 'a'.repeat(3000) } }, String(_number))
  }))
.listen(PORT0).demuxHTTP().to($ => $
  .muxHTTP(() => 'all', { OPTIONS }).to($ => $.connect('127.0.0.1:PORT1')))
)()
"""


def _upstream(start: Start, options: str) -> Running:
    return start(UPSTREAM.replace("OPTIONS", options), ports=2)


def _numbers(pipy: Running, count: int, path: str = "/") -> list[int]:
    """By which connection to the server each of so many requests in turn was answered."""
    first = int(pipy.curl(path).stdout)
    return [0, *(int(pipy.curl(path).stdout) - first for _ in range(count - 1))]


def _at_once(pipy: Running) -> int:
    """How many connections to the server four requests need that are under way together."""
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(connected(pipy.ports[0])) for _ in range(4)]
        for peer in peers:
            peer.sendall(b"GET /four HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return len({peer.makefile("rb").read().rsplit(b"\r\n\r\n", 1)[1] for peer in peers})


def test_a_connection_to_a_server_takes_as_many_requests_as_is_said(start: Start) -> None:
    assert _numbers(_upstream(start, ""), 4) == [0, 0, 0, 0]
    assert _numbers(_upstream(start, "maxMessages: 2"), 5) == [0, 0, 1, 1, 2]
    assert _numbers(_upstream(start, "version: 2, maxMessages: 2"), 5) == [0, 0, 1, 1, 2]


def test_requests_under_way_share_a_connection_as_far_as_is_said(start: Start) -> None:
    assert _at_once(_upstream(start, "version: 2")) == 1
    assert _at_once(_upstream(start, "version: 2, maxQueue: 2")) == 2
    assert _at_once(_upstream(start, "")) == 4


@pytest.mark.parametrize("version", [1, 2])
def test_a_connection_without_a_request_is_closed_after_a_time(start: Start, version: int) -> None:
    pipy = start(
        f"""
        pipy()
        .listen(PORT1)
          .handleStreamEnd(() => println('left'))
          .demuxHTTP().to($ => $.replaceMessage(new Message('hi')))
        .listen(PORT0).demuxHTTP().to($ => $
          .muxHTTP(() => 'all', {{ maxIdle: 0.2, version: {version} }})
          .to($ => $.connect('127.0.0.1:PORT1')))
        """,
        ports=2,
    )
    pipy.logged("left")
    before = pipy.log.count("left")
    assert pipy.curl("/").stdout == "hi"
    pipy.logged("left\n" * (before + 1))


@pytest.mark.parametrize("version", [1, 2])
def test_an_answer_whose_head_is_too_large_is_none(start: Start, version: int) -> None:
    shown = ("-o", "/dev/null", "-w", "%{http_code}")
    some = _upstream(start, f"version: {version}, maxHeaderSize: '2k'")
    assert some.curl("/", *shown).stdout == "502"
    many = _upstream(start, f"version: {version}, maxHeaderSize: '8k'")
    assert many.curl("/", *shown).stdout == "200"


@pytest.mark.parametrize("blocks", [True, False])
def test_what_is_throttled_is_held_back_by_its_sender_unless_told_otherwise(
    start: Start, blocks: bool
) -> None:
    pipy = start(
        f"""
        ((quota = new algo.Quota(1000, {{ per: 1 }})) => pipy()
        .listen(PORT0)
          .throttleDataRate(quota, {{ blockInput: {json.dumps(blocks)} }}).dummy())()
        """
    )
    with connected(pipy.ports[0]) as client:
        client.settimeout(1.0 if blocks else PATIENCE)
        with pytest.raises(TimeoutError) if blocks else contextlib.nullcontext():
            for _ in range(48):
                client.sendall(bytes(1 << 20))


def test_a_client_of_tls_that_says_nothing_is_sent_away(start: Start) -> None:
    pipy = start(
        """
        ((key = new crypto.PrivateKey({ type: 'rsa', bits: 2048 }),
          cert = new crypto.Certificate({
            subject: { CN: 'a' }, publicKey: new crypto.PublicKey(key), privateKey: key, days: 1 }),
        ) => pipy().listen(PORT0)
          .acceptTLS({ certificate: { cert, key }, handshakeTimeout: 0.2 }).to($ => $))()
        """
    )
    with connected(pipy.ports[0]) as client:
        assert ends(client)
