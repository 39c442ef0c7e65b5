"""HTTP through a port-forward: whole, byte by byte, cut short; kept connections are replaced."""

import asyncio

import pytest

from fsm.cli.errors import ExitCode, Failure
from fsm.cli.podhttp import BadAnswer, PodHttp, read_answer


class Stream:
    """The reader and the writer of a port-forward, from a script of bytes."""

    def __init__(self, data, step=65536):
        self.data = bytes(data)
        self.step = step
        self.sent = b""
        self.closed = False

    async def read(self, count=-1):
        take = len(self.data) if count < 0 else min(count, self.step)
        taken, self.data = self.data[:take], self.data[take:]
        return taken

    async def readline(self):
        line, found, rest = self.data.partition(b"\n")
        self.data = rest
        return line + found

    def write(self, data):
        self.sent += data

    async def drain(self):
        await asyncio.sleep(0)

    async def close(self):
        self.closed = True


class Client:
    """Hands out one stream per port-forward."""

    def __init__(self, *streams):
        self.streams = list(streams)
        self.opened = []

    async def port_forward(self, namespace, pod, port):
        stream = self.streams.pop(0)
        if isinstance(stream, Exception):
            raise stream
        self.opened.append(stream)
        return stream, stream


LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n"
)
TO_THE_END = b"HTTP/1.0 200 OK\r\n\r\nhello"


@pytest.mark.parametrize("step", [1, 3, 65536])
@pytest.mark.parametrize(
    ("raw", "kept"), [(LENGTH, True), (CHUNKED, True), (TO_THE_END, False)], ids=str
)
async def test_an_answer_is_read_whole_however_it_arrives(raw, kept, step):
    answer, keep = await read_answer(Stream(raw, step))
    assert (answer.status, answer.body, keep) == (200, b"hello", kept)


async def test_bytes_after_an_answer_are_left_alone():
    stream = Stream(LENGTH + b"HTTP/1.1 204 No Content\r\n\r\n")
    await read_answer(stream)
    answer, _ = await read_answer(stream)
    assert (answer.status, answer.body) == (204, b"")


@pytest.mark.parametrize("raw", [LENGTH, CHUNKED])
async def test_an_answer_cut_short_anywhere_is_refused(raw):
    # The last bytes of a chunked body are its optional trailers, whose end nobody misses.
    end = len(raw) - (4 if raw is CHUNKED else 0)
    for length in range(end - 1):
        with pytest.raises(BadAnswer):
            await read_answer(Stream(raw[:length]))


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 500 + b"\r\n",
    ],
)
async def test_what_is_no_answer_is_refused(raw):
    with pytest.raises(BadAnswer):
        await read_answer(Stream(raw))


async def test_a_kept_connection_is_used_again():
    client = Client(Stream(LENGTH * 2))
    http = PodHttp(client, "ns", "pod", 80)
    await http.get("/a")
    await http.get("/b")
    assert len(client.opened) == 1
    assert client.opened[0].sent == (
        b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\nGET /b HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )


async def test_a_kept_connection_that_was_closed_is_replaced_once():
    client = Client(Stream(LENGTH), Stream(LENGTH))
    http = PodHttp(client, "ns", "pod", 80)
    await http.get("/a")
    assert (await http.get("/b")).body == b"hello"
    assert client.opened[0].closed


async def test_a_fresh_connection_that_says_nothing_is_a_failure_with_its_place():
    http = PodHttp(Client(Stream(b"")), "shop", "web-1", 15000)
    with pytest.raises(Failure, match=r"GET /stats at Pod shop/web-1, port 15000: .*closed"):
        await http.get("/stats")


async def test_no_answer_in_time_is_a_failure_of_its_own():
    class Silent(Stream):
        async def readline(self):
            await asyncio.Event().wait()

    http = PodHttp(Client(Silent(b"")), "shop", "web-1", 15000)
    with pytest.raises(Failure, match=r"no answer to GET /stats within 0\.01 s") as failed:
        await http.get("/stats", timeout_s=0.01)
    assert failed.value.code is ExitCode.TIMEOUT


async def test_json_is_decoded_and_a_refusal_told():
    refused = b"HTTP/1.1 503 Busy\r\nContent-Length: 9\r\n\r\nnot ready"
    good = b'HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{"a":1}'
    assert await PodHttp(Client(Stream(good)), "n", "p", 1).get_json("/") == {"a": 1}
    with pytest.raises(Failure, match="answers 503 not ready"):
        await PodHttp(Client(Stream(refused)), "n", "p", 1).get_json("/")
    with pytest.raises(Failure, match="does not answer JSON"):
        await PodHttp(Client(Stream(LENGTH)), "n", "p", 1).get_json("/")
