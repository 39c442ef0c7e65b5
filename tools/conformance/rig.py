"""What h2spec is pointed at: proxies with a backend, and a tunnel that adds mutual TLS.

Everything listens on free ports of loopback and ends with its context manager.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import ssl
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tools.bench import certs

Address = tuple[str, int]

_DEADLINE_S = 15.0

# Large enough for the cases that count bytes against a window of one.
_BODY = b"x" * 1024


class ConformanceError(Exception):
    """Something that a run needs is not there or does not start."""


@contextlib.asynccontextmanager
async def backend() -> AsyncIterator[Address]:
    """Answer every request of HTTP/1 with 200 and a kilobyte, after it has come whole."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while line := await reader.readline():
                headers: dict[bytes, bytes] = {}
                while (field := await reader.readline()) not in (b"\r\n", b""):
                    name, _, value = field.partition(b":")
                    headers[name.strip().lower()] = value.strip()
                if headers.get(b"transfer-encoding") == b"chunked":
                    while size := int((await reader.readline()).split(b";")[0], 16):
                        await reader.readexactly(size + 2)
                    while (await reader.readline()) not in (b"\r\n", b""):
                        pass
                elif length := int(headers.get(b"content-length", b"0")):
                    await reader.readexactly(length)
                body = b"" if line.startswith(b"HEAD ") else _BODY
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(_BODY) + body)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()


def inbound(port: int, app: Address, mtls: bool, protocol: str = "http") -> dict[str, Any]:
    """Give the configuration of a sidecar that serves everybody whom it knows."""
    origin = "Service/conformance/app"
    route = {
        "origin": "HTTPRouteGroup/conformance/all",
        "path": {"prefix": "/"},
        "clusters": [{"cluster": "app", "weight": 100}],
    }
    match = {
        "port": port,
        "protocol": protocol,
        "origin": origin,
        "mtls": "strict" if mtls else "disabled",
        "hosts": [{"names": ["*"], "service": "app", "origin": origin, "routes": [route]}],
    }
    endpoint = {"address": f"{app[0]}:{app[1]}", "weight": 1}
    return {
        "version": f"{protocol}-{port}",
        "inbound": {"matches": [match]},
        "clusters": {"app": {"origin": origin, "endpoints": [endpoint]}},
    }


@contextlib.asynccontextmanager
async def pipy(
    binary: Path,
    directory: Path,
    app: Address,
    member: tuple[certs.Certificates, certs.Member] | None,
    protocol: str = "http",
) -> AsyncIterator[Address]:
    """Run a sidecar before the application; give the address of its inbound listener."""
    config = directory.with_suffix(".json")
    _write(config, {"version": "boot", "inbound": {}, "outbound": {}})
    flags = [f"--{name}=127.0.0.1:0" for name in ("admin", "metrics", "inbound", "outbound")]
    if member is not None:
        all_of_them, own = member
        flags += [f"--cert={own.chain}", f"--key={own.key}", f"--roots={all_of_them.roots}"]
    process = await asyncio.create_subprocess_exec(
        binary,
        "sidecar",
        f"--config={config}",
        *flags,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        admin = (await _line(process, "admin-listener on")).rpartition(" ")[2]
        at = await _inbound(admin)
        host, _, port = at.rpartition(":")
        whole = inbound(int(port), app, member is not None, protocol)
        _write(config, whole)
        while f"config.version: {whole['version']}" not in await asyncio.to_thread(
            _get, f"http://{admin}/stats"
        ):
            process.send_signal(signal.SIGHUP)
            told = await _line(process, "configuration")
            if "kept the" in told:
                raise ConformanceError(f"pipy refuses the configuration: {told}")
        yield host, int(port)
        if process.returncode is not None:
            raise ConformanceError(f"pipy ended with {process.returncode} during the run")
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _write(config: Path, whole: dict[str, Any]) -> None:
    config.write_text(json.dumps(whole))


async def _inbound(admin: str) -> str:
    """Wait until the inbound listener is open; give its address."""
    async with asyncio.timeout(_DEADLINE_S):
        while True:
            page = await asyncio.to_thread(_get, f"http://{admin}/listeners")
            for line in page.splitlines():
                name, _, at = line.partition("::")
                if name == "inbound-listener":
                    return at
            await asyncio.sleep(0.02)


async def _line(process: asyncio.subprocess.Process, words: str) -> str:
    """Wait for a line of standard error with these words."""
    assert process.stderr is not None
    heard = []
    try:
        async with asyncio.timeout(_DEADLINE_S):
            while raw := await process.stderr.readline():
                heard.append(raw.decode().rstrip())
                if words in heard[-1]:
                    return heard[-1]
    except TimeoutError:
        pass
    raise ConformanceError(f"pipy does not say {words!r}: {' / '.join(heard[-5:])}")


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=_DEADLINE_S) as response:
        body: bytes = response.read()
        return body.decode()


@contextlib.asynccontextmanager
async def tunnel(
    to: Address, all_of_them: certs.Certificates, own: certs.Member
) -> AsyncIterator[Address]:
    """Carry plain connections over mutual TLS that has agreed on ``h2``."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(all_of_them.roots))
    # The server's name is its SPIFFE identity, which this module does not read.
    context.check_hostname = False
    context.load_cert_chain(own.chain, own.key)
    context.set_alpn_protocols(["h2"])

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ssl.SSLError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError, ssl.SSLError):
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection(*to, ssl=context)
        except (OSError, ssl.SSLError):
            return writer.close()
        agreed = inner_writer.get_extra_info("ssl_object").selected_alpn_protocol()
        if agreed != "h2":
            return writer.close()
        async with asyncio.TaskGroup() as both:
            both.create_task(copy(reader, inner_writer))
            both.create_task(copy(inner_reader, writer))

    carrying: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(serve(reader, writer))
        carrying.add(task)
        task.add_done_callback(carrying.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        async with server:
            yield server.sockets[0].getsockname()
    finally:
        left = list(carrying)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
