"""Many proxies in one process, each with a connection, a certificate and a long-poll of its own.

In (one JSON line on standard input): where the control plane is, its roots, the Pods. Out (one JSON
line each on standard output): ``[index, time, version]`` whenever a proxy has a configuration; the
poll after it says so. Time is the monotonic clock, seconds, which processes of a machine share.
Invariants: calls follow ``docs/reference/delivery.md``, but differences are not carried out (the
proxy's tests do that); a proxy that is refused says so and the process ends with status 1, because
figures without it would be wrong.

The proxies share one key: making 2,000 of them is the proxies' work and not what is measured.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
import tempfile
import time
from typing import Any

import orjson
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

HOST = "fsm-controller.fsm-system.svc"
WAIT_S = 50
# LIMIT: handshakes under way at once; a real fleet does not start in one instant either.
STARTING_MAX = 32


class Refused(Exception):
    """The control plane answered with an error."""


class Connection:
    """HTTP/1.1 over TLS, one request at a time."""

    def __init__(self, port: int, tls: ssl.SSLContext) -> None:
        self._port, self._tls = port, tls
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(
        self, method: str, path: str, headers: dict[str, str], body: bytes = b""
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request; return status, headers and body."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(
                "127.0.0.1", self._port, ssl=self._tls, server_hostname=HOST
            )
        reader, writer = self._streams
        lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        found = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        content = await reader.readexactly(int(found.get("content-length", 0)))
        return int(head[0].split()[1]), found, content

    def close(self) -> None:
        """Close without ceremony."""
        if self._streams is not None:
            self._streams[1].transport.abort()


class Proxy:
    """One proxy: certificate, then poll for ever."""

    def __init__(self, index: int, pod: dict[str, str], port: int, roots: str) -> None:
        self._index, self._pod, self._port, self._roots = index, pod, port, roots
        self._headers = {"fsm-pod": f"{pod['namespace']}/{pod['name']}/{pod['uid']}"}

    async def run(self, csr: str, key: bytes, starting: asyncio.Semaphore) -> None:
        """Be a proxy until cancelled.

        Raises:
            Refused: the control plane did not do what it should.
        """
        async with starting:
            tls = await self._certify(csr, key)
            connection = Connection(self._port, tls)
            version = await self._next(connection, "")
        while True:
            version = await self._next(connection, version)

    async def _certify(self, csr: str, key: bytes) -> ssl.SSLContext:
        pod = self._pod
        first = Connection(self._port, ssl.create_default_context(cadata=self._roots))
        token = f"{pod['namespace']}/{pod['account']}/{pod['name']}/{pod['uid']}"
        body = {"csr": csr, "pod": {k: pod[k] for k in ("namespace", "name", "uid")}}
        status, _, content = await first.call(
            "POST", "/v1/certificates", {"Authorization": f"Bearer {token}"}, orjson.dumps(body)
        )
        first.close()
        if status != 200:
            raise Refused(f"{pod['name']} got no certificate: {status} {content[:200]!r}")
        answer = orjson.loads(content)
        tls = ssl.create_default_context(cadata=self._roots)
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(key + "".join(answer["chain"]).encode())
            pair.flush()
            tls.load_cert_chain(pair.name)
        return tls

    async def _next(self, connection: Connection, version: str) -> str:
        path = f"/v1/config?version={version}&wait_s={WAIT_S}"
        said = {**self._headers, "fsm-applied": version, "A-IM": "fsm-difference"}
        status, headers, _ = await connection.call("GET", path, said)
        if status == 304:
            return version
        if status not in (200, 226):
            raise Refused(f"{self._pod['name']} got no configuration: {status}")
        version = headers["etag"].strip('"')
        now = time.monotonic()
        sys.stdout.buffer.write(orjson.dumps([self._index, now, version]) + b"\n")
        sys.stdout.buffer.flush()
        return version


async def run(order: dict[str, Any]) -> None:
    """Run the proxies until one of them fails."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    csr = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    starting = asyncio.Semaphore(STARTING_MAX)
    async with asyncio.TaskGroup() as tasks:
        for pod in order["pods"]:
            proxy = Proxy(pod["index"], pod, order["port"], order["roots"])
            tasks.create_task(proxy.run(csr, private, starting))


def main() -> int:
    """Read the order, run, and say what went wrong."""
    order = orjson.loads(sys.stdin.buffer.readline())
    os.set_blocking(sys.stdout.fileno(), True)
    try:
        asyncio.run(run(order))
    except BaseExceptionGroup as group:
        print(f"fleet: {group.exceptions[0]!r}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
