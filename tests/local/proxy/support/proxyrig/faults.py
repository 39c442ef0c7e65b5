"""The faults of ``docs/reference/hostile-peers.md``: for each row, who does what, and what is seen.

In: the ports of a proxy, or of the server that it calls. Out: what the faulty side (or, where a
server is at fault, the client) gets: a status, ``closed`` for an end or a reset without a word, a
GOAWAY or RST_STREAM with its code. Not here: what the proxy counts and logs (``test_each_fault``).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

from cryptography import x509

from proxyrig.backend import Connection, Request
from proxyrig.certs import Authority, Member, spiffe
from proxyrig.h2wire import (
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    Frames,
    block,
    frame,
    headers,
)
from proxyrig.h2wire import request as fields
from proxyrig.wire import Address, Wire, request

STORE, BUYER = spiffe("bookstore"), spiffe("bookbuyer")

GET = request("GET", "/")


async def told(to: Address, said: bytes, finish: bool = False) -> str:
    """Say something to a server; what comes back, in a word."""
    async with await Wire.open(to) as wire:
        with contextlib.suppress(OSError):
            wire.writer.write(said)
            if finish:
                wire.finish()
        try:
            return answer(await wire.rest())
        except OSError:
            return "closed"


def answer(heard: bytes) -> str:
    """Name what was heard until the end."""
    if heard.startswith(b"HTTP/1.1 "):
        head, _, body = heard.partition(b"\r\n\r\n")
        lines = [line.partition(b":") for line in head.lower().split(b"\r\n")]
        lengths = [int(value) for name, _, value in lines if name == b"content-length"]
        whole = not lengths or len(body) >= lengths[0]
        return head.split(b" ")[1].decode() if whole else "closed"
    return "closed"


# --- Clients of HTTP/1


async def head_that_stops(to: Address) -> str:
    return await told(to, b"GET / HTTP/1.1\r\nHost: sh")


async def head_that_is_cut_off(to: Address) -> str:
    return await told(to, b"GET / HTTP/1.1\r\nHost: sh", finish=True)


async def body_that_stops(to: Address) -> str:
    return await told(to, request("POST", "/", "Content-Length: 9") + b"abc")


async def body_that_is_cut_off(to: Address) -> str:
    return await told(to, request("POST", "/", "Content-Length: 9") + b"abc", finish=True)


async def head_too_long(to: Address) -> str:
    return await told(to, b"GET / HTTP/1.1\r\nHost: shop\r\nX: " + b"a" * 100_000)


async def target_too_long(to: Address) -> str:
    return await told(to, b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: shop\r\n\r\n")


async def too_many_headers(to: Address) -> str:
    return await told(to, b"GET / HTTP/1.1\r\nHost: shop\r\n" + b"X: 1\r\n" * 1_000)


async def two_lengths(to: Address) -> str:
    both = ("Content-Length: 3", "Transfer-Encoding: chunked")
    return await told(to, request("POST", "/", *both) + b"0\r\n\r\n")


async def no_http(to: Address) -> str:
    return await told(to, b"\x00\x01\x02garbage\r\n\r\n")


async def preface_that_stops(to: Address) -> str:
    return await told(to, b"PRI * HTTP/2.0\r\n")


async def client_that_does_not_read(to: Address) -> str:
    wire = await Wire.open(to, receive_buffer=4096)
    wire.writer.transport.pause_reading()
    await wire.send(request("GET", "/large"))
    # Until the proxy has given up, which only it can tell.
    await asyncio.sleep(0)
    waiting.append(wire)
    return "closed"


waiting: list[Wire] = []
"""Connections whose clients do nothing; closed when their rows have been looked at."""


# --- Clients of HTTP/2


async def ended(client: Frames) -> str:
    code = await client.until_closed()
    return "closed" if code in (None, 0) else f"GOAWAY {code}"


async def h2_head_that_stops(to: Address) -> str:
    async with Frames(to) as client:
        await client.begin()
        await client.send(frame(HEADERS, END_STREAM, 1, block(*fields())))
        return await ended(client)


async def h2_frame_that_is_cut_off(to: Address) -> str:
    async with Frames(to) as client:
        await client.begin()
        await client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block(*fields()))[:12])
        client.writer.write_eof()
        return await ended(client)


async def h2_garbage(to: Address) -> str:
    async with Frames(to) as client:
        await client.begin()
        await client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xff" * 50))
        return await ended(client)


async def h2_frame_too_large(to: Address) -> str:
    async with Frames(to) as client:
        await client.begin()
        await client.send(struct.pack(">I", 1 << 20)[1:] + b"\x00\x00" + struct.pack(">I", 1))
        return await ended(client)


async def h2_continuation_of_nothing(to: Address) -> str:
    async with Frames(to) as client:
        await client.begin()
        await client.send(frame(CONTINUATION, END_HEADERS, 1, b""))
        return await ended(client)


async def h2_head_too_long(to: Address) -> str:
    async with Frames(to) as client:
        await client.begin()
        # Named 20,000 times from the table: 80 MB from 24 KB.
        bomb = block(*fields()) + b"\x40\x01x\x7f\xa1\x1e" + b"v" * 4000 + b"\xbe" * 10_000
        await client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, bomb))
        return str((await client.message(1)).status)


async def h2_too_many_streams(to: Address) -> str:
    async with Frames(to) as client:
        await client.begin()
        for number in range(101):
            await client.send(headers(1 + 2 * number, *fields(path=b"/hang")))
        return f"RST_STREAM {(await client.message(201)).reset}"


async def h2_body_of_another_length(to: Address) -> str:
    async with Frames(to) as client:
        await client.begin()
        lie = (*fields(b"POST"), (b"content-length", b"9"))
        await client.send(headers(1, *lie, ends=False) + frame(0, END_STREAM, 1, b"abc"))
        return f"RST_STREAM {(await client.message(1)).reset}"


# --- Servers of HTTP/1; the client asks for the row's path


async def client_of(to: Address, path: str) -> str:
    return await told(to, request("GET", path, "Connection: close"))


async def server(asked: Request, connection: Connection) -> bool:
    """Do what the path says."""
    match asked.target:
        case "/hang":
            await connection.reader.read(-1)
        case "/dribble":
            await connection.send(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            await connection.reader.read(-1)
        case "/body-stops":
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
            await connection.reader.read(-1)
        case "/head-cut":
            await connection.send(b"HTTP/1.1 200 OK\r\nX-Cut: ")
        case "/body-cut":
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        case "/none":
            await connection.send(b"\x00\x01garbage\r\n\r\n")
        case "/two-lengths":
            both = b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            await connection.send(b"HTTP/1.1 200 OK\r\n" + both)
        case "/head-long":
            await connection.send(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000)
        case "/headers-many":
            await connection.send(b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 1_000)
        case "/interim":
            await connection.send(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)
            await connection.reader.read(-1)
        case "/large":
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
            with contextlib.suppress(OSError):
                for _ in range(50):
                    await connection.send(b"x" * 1_000_000)
        case _:
            await connection.body(asked)
            await connection.respond(200, b"ok")
            return True
    return False


# --- Clients and servers of TLS


def context(authority: Authority, member: Member | None, directory: Path) -> ssl.SSLContext:
    """Give what a client connects with."""
    made = ssl.create_default_context(cadata=authority.root)
    made.check_hostname = False
    if member is not None:
        directory.mkdir(exist_ok=True)
        member.write(directory)
        made.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    return made


async def shown(to: Address, by: ssl.SSLContext) -> str:
    """Connect with a certificate, or none, and ask; what comes back, in a word."""
    try:
        reader, writer = await asyncio.open_connection(*to, ssl=by)
        async with Wire(reader, writer) as wire:
            await wire.send(request("GET", "/", "Connection: close"))
            return answer(await wire.rest())
    except (OSError, EOFError):
        return "closed"


def hello() -> bytes:
    """Give the first record of a client."""
    made = ssl.create_default_context()
    made.check_hostname = False
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = made.wrap_bio(incoming, outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


async def not_tls(to: Address) -> str:
    return await told(to, GET)


async def hello_that_stops(to: Address) -> str:
    return await told(to, hello()[:40])


async def hello_that_is_cut_off(to: Address) -> str:
    return await told(to, hello()[:40], finish=True)


async def broken_hello(to: Address) -> str:
    return await told(to, b"\x16\x03\x01\x40\x00" + b"\xa5" * 0x4000)


async def broken_record(to: Address, by: ssl.SSLContext) -> str:
    """Finish a handshake, then send what no member could have encrypted."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = by.wrap_bio(incoming, outgoing)
    async with await Wire.open(to) as wire:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await wire.send(outgoing.read())
                incoming.write(await wire.some())
        await wire.send(outgoing.read())
        # Its ticket tells that the server has heard the last of the handshake.
        await wire.some()
        await wire.send(b"\x17\x03\x03\x00\x40" + b"\xa5" * 0x40)
        with contextlib.suppress(OSError):
            await wire.rest()
    return "closed"


def names(authority: Authority) -> dict[str, Member]:
    """Give certificates that name no one, however much they look like it."""
    uri = x509.UniformResourceIdentifier
    return {
        "wildcard": authority.named([x509.DNSName("*.example")]),
        "nul": authority.named([uri(f"{BUYER}\0.evil")]),
        "two": authority.named([uri(BUYER), uri(STORE)]),
    }


Case = Callable[[Address], Awaitable[str]]

CLIENTS: dict[str, Case] = {
    "request head that stops": head_that_stops,
    "request head that is cut off": head_that_is_cut_off,
    "request body that stops": body_that_stops,
    "request body that is cut off": body_that_is_cut_off,
    "request head over 64 KiB": head_too_long,
    "target over 16 KiB": target_too_long,
    "more than 128 headers": too_many_headers,
    "length and coding": two_lengths,
    "no HTTP": no_http,
    "preface of HTTP/2 that stops": preface_that_stops,
    "client that does not read": client_that_does_not_read,
    "h2: head that stops": h2_head_that_stops,
    "h2: frame that is cut off": h2_frame_that_is_cut_off,
    "h2: broken header block": h2_garbage,
    "h2: frame too large": h2_frame_too_large,
    "h2: CONTINUATION of nothing": h2_continuation_of_nothing,
    "h2: head that unpacks to 40 MB": h2_head_too_long,
    "h2: more streams than agreed": h2_too_many_streams,
    "h2: body of another length": h2_body_of_another_length,
}

SERVERS = {
    "response that does not begin": "/hang",
    "response head that stops": "/dribble",
    "response body that stops": "/body-stops",
    "response head that is cut off": "/head-cut",
    "response body that is cut off": "/body-cut",
    "response that is no HTTP": "/none",
    "response with length and coding": "/two-lengths",
    "response head over its limit": "/head-long",
    "response with too many headers": "/headers-many",
    "interim responses without end": "/interim",
}
