"""Ask a gRPC server whether it is healthy: one call of ``grpc.health.v1.Health/Check``.

What comes in: an address, and the service that is asked for. What goes out: whether it serves and,
when it does not, why in words.

Invariants: one connection per question, closed after it; a peer that speaks no HTTP/2, or sends
without end, gets a plain "no". Not done here: how long it may take (``probes``), TLS (the kubelet
probes gRPC in clear text only).
Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md and
https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError

_PATH = "/grpc.health.v1.Health/Check"
_STATUSES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_UNIMPLEMENTED = "12"
#: LIMIT bytes of an answer: a HealthCheckResponse has two, and a frame head of five.
_ANSWER_BYTES_MAX = 4096
_CHUNK = 64 << 10


@dataclass(slots=True)
class _Answer:
    """What has come so far."""

    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    ended: bool = False
    broken: str = ""


async def ask(host: str, port: int, service: str) -> tuple[bool, str]:
    """Ask once.

    Raises:
        OSError: there is no connection.

    """
    reader, writer = await asyncio.open_connection(host, port)
    try:
        answer = await _exchange(reader, writer, f"{host}:{port}", service)
    except ProtocolError as error:
        return False, f"the server speaks no HTTP/2: {error}"
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return judge(answer)


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authority: str, service: str
) -> _Answer:
    connection = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
    connection.initiate_connection()
    stream = connection.get_next_available_stream_id()
    headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", _PATH),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", "kube-probe/1.32"),
    ]
    connection.send_headers(stream, headers)
    connection.send_data(stream, request_bytes(service), end_stream=True)
    answer = _Answer()
    while not answer.ended:
        writer.write(connection.data_to_send())
        await writer.drain()
        data = await reader.read(_CHUNK)
        if not data:
            answer.broken = answer.broken or "the server closed the connection"
            return answer
        for event in connection.receive_data(data):
            _take(answer, event)
        if len(answer.body) > _ANSWER_BYTES_MAX:
            answer.broken = "the answer is too long for a health check"
            return answer
    return answer


def _take(answer: _Answer, event: Event) -> None:
    match event:
        case ResponseReceived() | TrailersReceived():
            answer.headers |= {str(k): str(v) for k, v in event.headers or ()}
        case DataReceived():
            answer.body += event.data or b""
        case StreamEnded():
            answer.ended = True
        case StreamReset() | ConnectionTerminated():
            answer.ended, answer.broken = True, f"the server refused: {event.error_code!s}"


def request_bytes(service: str) -> bytes:
    """Write a HealthCheckRequest as one gRPC message; field 1 is the name of the service."""
    name = service.encode()
    # LIMIT 127 bytes of a name: its length is one byte then, and no service is called longer.
    message = b"\x0a" + bytes([len(name[:127])]) + name[:127] if name else b""
    return b"\0" + len(message).to_bytes(4) + message


def judge(answer: _Answer) -> tuple[bool, str]:
    """Read the verdict from an answer. Pure."""
    if answer.broken:
        return False, answer.broken
    if (status := answer.headers.get(":status")) != "200":
        return False, f"the server answered HTTP status {status}"
    code = answer.headers.get("grpc-status")
    if code == _UNIMPLEMENTED:
        return False, f"the server does not implement the health service ({_PATH})"
    if code != "0":
        said = answer.headers.get("grpc-message", "")
        return False, f"the health check failed with gRPC status {code} {said}".rstrip()
    message = answer.body[5:]
    # Field 1, a varint: 0x08 and the value; an absent field is 0.
    value = message[1] if len(message) >= 2 and message[0] == 0x08 else 0
    name = _STATUSES.get(value, str(value))
    return value == 1, "" if value == 1 else f"the service reports {name}"
