"""What clients of delivery may say on a connection, and what becomes of it; without TLS."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm.delivery import channel as channels
from fsm.delivery.channel import Channels
from fsm.delivery.http import (
    AHEAD_MAX,
    HEAD_BYTES_MAX,
    IDLE_S,
    REQUEST_BYTES_MAX,
    Connection,
    Exchange,
)


class Plain(Connection):
    """A connection whose bytes are looked at before they are encrypted."""

    def __init__(self, handler: Any) -> None:
        super().__init__(
            handler, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), memoryview(b""), Channels()
        )
        self.said = b""
        self.ended = ""
        self.stuffed = False

    @property
    def closing(self) -> bool:
        return bool(self.ended)

    @property
    def full(self) -> bool:
        return self.stuffed

    def write(self, data: Any) -> None:
        if not self.ended:
            self.said += bytes(data)

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = "aborted"


@pytest.fixture
def asked() -> list[Exchange]:
    return []


@pytest.fixture
async def client(asked: list[Exchange]) -> Plain:
    return Plain(asked.append)


GET = b"GET /v1/config?version=v1&wait_s=5 HTTP/1.1\r\nHost: x\r\nfsm-pod: a/b/c\r\n\r\n"
POST = b"POST /v1/acks HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"


def statuses(client: Plain) -> list[int]:
    return [int(part[:3]) for part in client.said.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize("step", [1, 3, 1000])
async def test_requests_are_read_however_they_are_cut(client, asked, step):
    text = GET + POST
    for begin in range(0, len(text), step):
        client.received(text[begin : begin + step])
        if asked and asked[-1].pending:
            asked[-1].reply(204)
    first, second = asked
    assert (first.method, first.path, first.body) == ("GET", "/v1/config", b"")
    assert first.query == {"version": "v1", "wait_s": "5"}
    assert first.headers["fsm-pod"] == "a/b/c"
    assert (second.path, second.body) == ("/v1/acks", b"hello")
    second.reply(204)
    assert (statuses(client), client.ended) == ([204, 204], "")


async def test_parameters_are_decoded_and_headers_of_one_name_joined(client, asked):
    client.received(b"GET http://h/p?a=x%20y&b=1+2&c= HTTP/1.1\r\nX: 1\r\nx: 2\r\n\r\n")
    (exchange,) = asked
    assert (exchange.path, exchange.query) == ("/p", {"a": "x y", "b": "1 2", "c": ""})
    assert exchange.headers["x"] == "1, 2"


async def test_answers_come_in_the_order_of_requests(client, asked):
    client.received(GET + POST + GET)
    assert len(asked) == 1, "the next is begun when the first is answered"
    asked[0].reply(200, b'"first"')
    asked[0].reply(200, b'"again"')
    asked[1].reply(204)
    asked[2].reply(304)
    assert statuses(client) == [200, 204, 304]
    assert b"again" not in client.said


async def test_a_client_that_leaves_is_told_of_once_and_answers_go_nowhere(client, asked):
    client.received(GET + POST)
    left = []
    asked[0].left = lambda: left.append(1)
    client.ended = "gone"
    client.connection_lost(None)
    asked[0].reply(200, b"{}")
    assert (left, client.said, len(asked)) == ([1], b"", 1)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"\x16\x03\x01 nonsense\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\r\nbad header\r\n\r\n", 400),
        (b"POST /x HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST /x HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 400),
        (b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET /x HTTP/1.1\r\nA: " + b"x" * HEAD_BYTES_MAX, 431),
        (b"GET /" + b"x" * HEAD_BYTES_MAX, 431),
        (b"POST /x HTTP/1.1\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70000, 413),
        (b"POST /x HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 1_100_000, 413),
    ],
    ids=lambda value: value[:24].decode("latin-1") if isinstance(value, bytes) else None,
)
async def test_what_cannot_be_read_is_refused_in_words_and_the_connection_closed(
    client, asked, text, status
):
    client.received(text)
    assert (statuses(client), client.ended, asked) == ([status], "closed", [])
    assert b'{"error":"' in client.said
    assert b"Connection: close" in client.said


async def test_what_cannot_be_read_behind_a_request_cuts_the_connection(client, asked):
    client.received(GET + b"nonsense\r\n\r\n")
    assert (len(asked), client.ended, client.said) == (1, "aborted", b"")


@given(
    st.lists(
        st.one_of(
            st.sampled_from([GET, POST, b"\r\n", b"Content-Length: 3\r\n", b"0\r\n\r\n"]),
            st.binary(max_size=20),
        ),
        max_size=8,
    ),
    st.integers(1, 60),
)
def test_garbage_costs_a_client_its_connection_at_most(parts, step):
    async def take() -> None:
        client = Plain(lambda exchange: exchange.reply(204))
        text = b"".join(parts)
        for begin in range(0, len(text), step):
            if not client.ended:
                client.received(text[begin : begin + step])
        assert all(status in (204, 400) for status in statuses(client))

    asyncio.run(take())


async def test_a_body_as_large_as_may_be_is_taken_also_in_chunks(client, asked):
    head = b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    half = REQUEST_BYTES_MAX // 2
    chunk = b"%x\r\n" % half + b"y" * half + b"\r\n"
    client.received(head + chunk + chunk + b"0\r\n\r\n")
    assert asked[0].body == b"y" * REQUEST_BYTES_MAX


async def test_a_client_that_asks_far_ahead_is_cut_off(client, asked):
    client.received(GET * (1 + AHEAD_MAX))
    assert client.ended == ""
    client.received(GET)
    assert (client.ended, len(asked)) == ("aborted", 1)


async def test_a_careful_client_is_told_to_go_on(client, asked):
    client.received(b"POST /x HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert client.said == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.received(b"{}")
    assert asked[0].body == b"{}"


@pytest.mark.parametrize(
    "head",
    [
        b"GET /x HTTP/1.0\r\n\r\n",
        b"GET /x HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET /x HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    ],
)
async def test_a_client_that_asks_once_is_answered_and_closed(client, asked, head):
    client.received(head)
    asked[0].reply(200, b"{}")
    assert client.ended == "closed"
    assert client.said.endswith(b"Connection: close\r\n\r\n{}")


async def test_a_long_answer_waits_for_the_client_to_read(client, asked):
    client.received(GET + POST)
    taken = []

    def pieces():
        for number in range(3):
            taken.append(number)
            yield b"%d" % number

    client.stuffed = True
    asked[0].reply(200, pieces(), size=3)
    assert (taken, len(asked)) == ([0], 1)
    client.resumed()
    client.stuffed = False
    client.resumed()
    assert (taken, len(asked)) == ([0, 1, 2], 2)
    assert b"Content-Length: 3\r\n\r\n012" in client.said


async def test_a_fault_of_ours_costs_one_answer(caplog):
    def handler(exchange: Exchange) -> None:
        raise RuntimeError("oh")

    client = Plain(handler)
    client.received(GET + GET)
    assert (statuses(client), client.ended) == ([500, 500], "")
    assert "a request failed GET /v1/config" in caplog.text


async def test_time_is_given_to_ask_not_to_wait(client, asked):
    loop = asyncio.get_running_loop()
    client.opened()
    assert loop.time() + IDLE_S - 5 < client.due < loop.time() + IDLE_S + 5
    client.received(GET[:10])
    assert client.due < loop.time() + IDLE_S + 5, "a request that trickles in buys no time"
    client.received(GET[10:])
    assert client.due > loop.time() + 1e9
    asked[0].reply(204)
    assert client.due < loop.time() + IDLE_S + 5


async def test_whoever_is_past_his_time_is_cut_off(monkeypatch, client):
    monkeypatch.setattr(channels, "SWEEP_S", 0.001)
    all_of_them = Channels()
    other = Plain(lambda exchange: None)
    other._all = client._all = all_of_them
    for one in (client, other):
        all_of_them.add(one)
    client.due = asyncio.get_running_loop().time() + 0.01
    all_of_them.sweep()
    async with asyncio.timeout(10):
        while not client.ended:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    assert (client.ended, other.ended) == ("aborted", "")
    all_of_them.stop()
    assert other.ended == "aborted"


async def test_finishing_waits_for_the_answer_that_is_due(client, asked):
    client.received(GET)
    client.finish()
    assert client.ended == ""
    asked[0].reply(503, b"{}")
    assert client.ended == "closed"
    idle = Plain(asked.append)
    idle.finish()
    assert idle.ended == "closed"
