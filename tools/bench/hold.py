"""Opens connections, sends one request on each, holds them open until told to stop.

Run by the bench inside a client's namespace: ``python -m tools.bench.hold '{"address": …}'``.
Prints ``open`` when all connections have been answered; ends, closing them all, when its standard
input ends. Anything that goes wrong is printed to standard error and ends it with status 1.

Not measured here: the bench reads the proxy's CPU time and memory from outside.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tools.bench import addresses as at

_TIMEOUT_S = 10.0

# Handshakes in flight. One at a time would measure how long a proxy takes to wake up.
_AT_ONCE = 8


def tls_context(roots: str, chain: str | None, key: str | None) -> ssl.SSLContext:
    """Return a TLS 1.3 client context that checks the server's chain, but not its names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.load_verify_locations(roots)
    if chain is not None:
        context.load_cert_chain(chain, key)
    return context


def connect(address: str, port: int, context: ssl.SSLContext | None) -> socket.socket:
    """Open one connection, with TLS if there is a context."""
    plain = socket.create_connection((address, port), timeout=_TIMEOUT_S)
    # Without it the request waits for the acknowledgement of the handshake's end, which servers
    # that send no session tickets delay by 40 ms.
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return plain if context is None else context.wrap_socket(plain)


def exchange(
    connection: socket.socket, path: str = at.PATH, host: str = at.HOST
) -> tuple[int, int]:
    """Send one request; returns status and length of the body.

    Raises:
        OSError: the connection failed, or was closed before the response was whole.

    """
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
    connection.sendall(request.encode())
    received = b""
    while b"\r\n\r\n" not in received:
        received += _receive(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    fields = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines[1:])
    }
    status = int(lines[0].split()[1])
    if "content-length" not in fields:
        return status, len(body)
    length = int(fields["content-length"])
    while len(body) < length:
        body += _receive(connection)
    return status, len(body)


def _receive(connection: socket.socket) -> bytes:
    chunk = connection.recv(1 << 16)
    if not chunk:
        raise ConnectionError("closed before the response was whole")
    return chunk


def main(arguments: dict[str, Any]) -> int:
    """Open ``count`` connections, say so, wait, close."""
    context = (
        tls_context(arguments["roots"], arguments["chain"], arguments["key"])
        if arguments.get("roots")
        else None
    )

    def open_one(number: int) -> socket.socket:
        try:
            connection = connect(arguments["address"], arguments["port"], context)
            status, _ = exchange(connection)
        except OSError as error:
            raise OSError(f"connection {number + 1}: {error}") from error
        if status != 200:
            raise OSError(f"connection {number + 1}: status {status}")
        return connection

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        try:
            connections = list(pool.map(open_one, range(arguments["count"])))
        except OSError as error:
            print(error, file=sys.stderr)
            return 1
    print("open", flush=True)
    sys.stdin.read()
    for connection in connections:
        connection.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
