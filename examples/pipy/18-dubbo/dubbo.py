"""As much of Dubbo as a test needs: frames, Hessian 2 of strings, a server and a client.

dubbo.py server PORT NAME | client PORT INTERFACE VERSION METHOD [STRING...]
"""

from __future__ import annotations

import socket
import socketserver
import struct
import sys
import time

MAGIC = 0xDABB
REQUEST, TWO_WAY, EVENT, HESSIAN2 = 0x80, 0x40, 0x20, 2
OK = 20


def text(value: str) -> bytes:
    """A string in Hessian 2."""
    length = len(value)
    if length < 32:
        return bytes([length]) + value.encode()
    if length < 1024:
        return bytes([0x30 + (length >> 8), length & 255]) + value.encode()
    return b"S" + struct.pack(">H", length) + value.encode()


def texts(body: bytes) -> list[str]:
    """The strings that a body begins with, of ASCII."""
    found = []
    while body:
        if body[0] < 32:
            start, length = 1, body[0]
        elif 0x30 <= body[0] <= 0x33:
            start, length = 2, (body[0] - 0x30) << 8 | body[1]
        elif body[0] == ord("S"):
            start, length = 3, struct.unpack(">H", body[1:3])[0]
        else:
            break
        found.append(body[start : start + length].decode())
        body = body[start + length :]
    return found


def frame(flags: int, status: int, number: int, body: bytes) -> bytes:
    """A message."""
    return struct.pack(">HBBQI", MAGIC, flags | HESSIAN2, status, number, len(body)) + body


def exactly(connection: socket.socket, count: int) -> bytes:
    """So many bytes."""
    read = b""
    while len(read) < count:
        more = connection.recv(count - len(read))
        if not more:
            raise EOFError
        read += more
    return read


def read(connection: socket.socket) -> tuple[int, int, int, bytes]:
    """Flags, status, number and body of a message."""
    head = exactly(connection, 16)
    magic, flags, status, number, length = struct.unpack(">HBBQI", head)
    if magic != MAGIC:
        raise ValueError(f"no message of Dubbo: {head!r}")
    return flags, status, number, exactly(connection, length)


def call(service: str, version: str, method: str, *arguments: str) -> bytes:
    """The body of a call whose arguments are strings."""
    types = "Ljava/lang/String;" * len(arguments)
    words = ["2.0.2", service, version, method, types, *arguments]
    # No attachments: an empty map.
    return b"".join(map(text, words)) + b"HZ"


class Server(socketserver.ThreadingTCPServer):
    """Answers each call with its own name and the call."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int, name: str) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.name = name


class Handler(socketserver.BaseRequestHandler):
    """One connection."""

    server: Server

    def handle(self) -> None:
        """Answer until the client goes."""
        try:
            while True:
                flags, _status, number, body = read(self.request)
                _dubbo, _service, version, method, _types, *arguments = texts(body)
                if method == "slow":
                    time.sleep(float(arguments[0]))
                answer = f"{self.server.name} {version} {method} {' '.join(arguments)}".strip()
                if flags & TWO_WAY:
                    # 0x91: an int, 1: a value follows.
                    self.request.sendall(frame(0, OK, number, b"\x91" + text(answer)))
        except (EOFError, ConnectionError):
            return


def ask(connection: socket.socket, number: int, body: bytes) -> str:
    """What a call is answered."""
    connection.sendall(frame(REQUEST | TWO_WAY, 0, number, body))
    return answer(connection, number)


def answer(connection: socket.socket, number: int) -> str:
    """The answer that comes next, which must be the one to this number."""
    _flags, status, came, body = read(connection)
    if came != number:
        raise ValueError(f"an answer to {came}, not to {number}")
    if status == OK:
        return texts(body[1:])[0]
    return f"status {status}: {texts(body)[0]}"


def main() -> None:
    """Serve, or call."""
    what, port, *rest = sys.argv[1:]
    if what == "server":
        Server(int(port), rest[0]).serve_forever()
    with socket.create_connection(("127.0.0.1", int(port)), timeout=5) as connection:
        print(ask(connection, 1, call(*rest)))


if __name__ == "__main__":
    main()
