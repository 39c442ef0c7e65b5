"""What the API server and the CLI ask of the node: logs, port-forward, exec, capture.

    GET  /healthz
    GET  /logs/{ns}/{pod}/{container}?follow=&tailLines=&previous=    the raw log
    WS   /portforward/{ns}/{pod}/{port}                                binary frames, both ways
    POST /exec/{ns}/{pod}/{container}  {"command": [..], "stdin": ".."}   one JSON answer
    WS   /exec/{ns}/{pod}/{container}?command=&stdin=&stdout=&stderr=&tty=   see ``sessions``
    WS   /attach/{ns}/{pod}/{container}?stdin=                               see ``attach``
    GET  /capture/{ns}/{pod}?seconds=&max_bytes=&port=                 a pcap stream
    GET  /pods                                                         what runs here

What comes in: HTTP on a unix socket of mode 0600: whoever can open it is the owner of the box. What
goes out: bytes of containers. Invariants: a client that goes away ends its stream and nothing else;
errors are one line of text. Not done here: TLS and Kubernetes' own protocols (the
API server translates).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

from fsm.standalone.node import attach, log_times, netns, sessions
from fsm.standalone.node.capture import capture
from fsm.standalone.node.logs import first_offset, read_log
from fsm.standalone.node.pod_worker import PodWorker
from fsm.standalone.node.runtime import Process, Runtime

Find = Callable[[str, str], PodWorker | None]

_CHUNK = 64 << 10
_CAPTURE_S_MAX = 600.0
_CAPTURE_BYTES_MAX = 256 << 20
_EXEC_S_MAX = 600.0
#: How long a command waits for its container to be started.
_STARTING_S = 10.0


class NodeServer:
    """The node's HTTP interface.

    Args:
        find: looks a Pod up by namespace and name.
        list_pods: describes every Pod of the node.

    """

    def __init__(self, find: Find, list_pods: Callable[[], list[dict[str, Any]]]) -> None:
        self._find = find
        self._list = list_pods

    async def run(self, path: Path, ready: asyncio.Event | None = None) -> None:
        """Serve on a unix socket until cancelled."""
        app = web.Application(client_max_size=4 << 20)
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/pods", self._pods),
                web.get("/logs/{ns}/{pod}/{container}", self._logs),
                web.get("/portforward/{ns}/{pod}/{port}", self._port_forward),
                web.post("/exec/{ns}/{pod}/{container}", self._exec),
                web.get("/exec/{ns}/{pod}/{container}", self._exec_stream),
                web.get("/attach/{ns}/{pod}/{container}", self._attach),
                web.get("/capture/{ns}/{pod}", self._capture),
            ]
        )
        # Streams end when the agent does; waiting for them would hold up its restart.
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        await web.SockSite(runner, _listener(path)).start()
        if ready is not None:
            ready.set()
        try:
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _pods(self, _: web.Request) -> web.Response:
        return web.json_response(self._list())

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        worker = self._worker(request)
        container = request.match_info["container"]
        previous = request.query.get("previous") == "true"
        try:
            log = worker.log_of(container, previous=previous)
        except KeyError:
            raise _error(404, f"Pod {worker.where} has no container {container!r}") from None
        follow = request.query.get("follow") == "true"
        if previous and not log.exists():
            raise _error(
                400,
                f"previous terminated container {container!r} in Pod {worker.where}"
                " not found: it has not been started again",
            )
        tail = _number(request, "tailLines", None)
        times = log_times.load(log)
        begin = times.begin(since) if (since := _since(request)) is not None else 0
        response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
        await response.prepare(request)
        done = worker.done_of(container) if follow and not previous else None
        with contextlib.suppress(ConnectionError):
            chunks = read_log(log, tail, done, begin)
            if request.query.get("timestamps") == "true":
                chunks = log_times.stamped(chunks, times, first_offset(log, tail, begin))
            async for chunk in chunks:
                await response.write(chunk)
            await response.write_eof()
        return response

    async def _port_forward(self, request: web.Request) -> web.StreamResponse:
        worker = self._worker(request)
        try:
            port = int(request.match_info["port"])
        except ValueError:
            raise _error(400, f"{request.match_info['port']!r} is not a port") from None
        if worker.net is None:
            raise _error(409, f"Pod {worker.where} has no network yet")
        space = worker.net.netns or "/proc/self/ns/net"
        try:
            sock = await netns.connect(space, "127.0.0.1", port)
        except (OSError, TimeoutError) as error:
            why = getattr(error, "strerror", None) or str(error) or "no answer"
            text = f"cannot connect to port {port} in Pod {worker.where}: {why}"
            raise _error(502, text) from None
        reader, writer = await asyncio.open_connection(sock=sock)
        stream = web.WebSocketResponse(max_msg_size=16 << 20)
        await stream.prepare(request)
        try:
            await _relay(stream, reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        return stream

    async def _exec(self, request: web.Request) -> web.Response:
        worker = self._worker(request)
        name = request.match_info["container"]
        try:
            body = await request.json()
            argv = body["command"]
            if not argv or not all(isinstance(word, str) for word in argv):
                raise ValueError("command must be a list of strings")
            feed = str(body.get("stdin") or "").encode()
            limit_s = min(_EXEC_S_MAX, float(body.get("timeoutSeconds") or 60))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise _error(400, f'the body must be {{"command": [..]}}: {error}') from None
        runtime, process = await self._running(worker, name)
        outcome = await runtime.run_inside(process, list(argv), limit_s, feed)
        answer = {
            "exitCode": outcome.code,
            "stdout": outcome.stdout.decode(errors="replace"),
            "stderr": outcome.stderr.decode(errors="replace"),
        }
        return web.json_response(answer)

    async def _exec_stream(self, request: web.Request) -> web.StreamResponse:
        worker = self._worker(request)
        argv = request.query.getall("command", [])
        if not argv:
            raise _error(400, "no command is given")
        runtime, process = await self._running(worker, request.match_info["container"])
        flags = {f: request.query.get(f) == "true" for f in ("stdin", "stdout", "stderr", "tty")}
        inside = runtime.command_inside(process, argv)
        stream = web.WebSocketResponse(max_msg_size=16 << 20)
        await stream.prepare(request)
        root = f"/proc/{process.pid}/root"
        await sessions.serve(stream, inside, sessions.Wanted(**flags), root)
        return stream

    async def _attach(self, request: web.Request) -> web.StreamResponse:
        """Connect a client with the streams of a container as it runs."""
        worker = self._worker(request)
        name = request.match_info["container"]
        runtime, _ = await self._running(worker, name)
        stdin = request.query.get("stdin") == "true"
        stream = web.WebSocketResponse(max_msg_size=16 << 20)
        await stream.prepare(request)
        container = worker.runners[name].container
        if container.get("stdin") or container.get("tty"):
            log = read_log(worker.log_of(name))
            await attach.to_console(stream, runtime.directory, log, stdin=stdin)
        else:
            chunks = read_log(worker.log_of(name), 0, worker.done_of(name))
            await attach.to_log(stream, chunks, stdin=stdin)
        return stream

    async def _running(self, worker: PodWorker, name: str) -> tuple[Runtime, Process]:
        runner = worker.runners.get(name)
        if runner is not None and runner.starting:
            # Its application may have written to its log already: who saw that calls this running.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STARTING_S):
                    await runner.started.wait()
        if runner is None or runner.process is None:
            raise _error(409, f"container {name!r} of Pod {worker.where} is not running")
        return Runtime(worker.directory / "containers" / name), runner.process

    async def _capture(self, request: web.Request) -> web.StreamResponse:
        worker = self._worker(request)
        if worker.net is None or not worker.net.link:
            raise _error(409, f"Pod {worker.where} has no link of its own")
        seconds = min(_CAPTURE_S_MAX, float(_number(request, "seconds", 10) or 10))
        max_bytes = min(_CAPTURE_BYTES_MAX, _number(request, "max_bytes", 16 << 20) or 0)
        port = _number(request, "port", None)
        response = web.StreamResponse(headers={"Content-Type": "application/vnd.tcpdump.pcap"})
        await response.prepare(request)
        # The link goes with the Pod: what was recorded until then is a valid file.
        with contextlib.suppress(OSError):
            async for chunk in capture(worker.net.link, seconds, max_bytes, port):
                await response.write(chunk)
            await response.write_eof()
        return response

    def _worker(self, request: web.Request) -> PodWorker:
        namespace, pod = request.match_info["ns"], request.match_info["pod"]
        worker = self._find(namespace, pod)
        if worker is None:
            raise _error(404, f"Pod {namespace}/{pod} is not on this node")
        return worker


async def _relay(
    stream: web.WebSocketResponse, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Carry bytes both ways until both sides have ended or one is lost."""

    async def outward() -> None:
        while chunk := await reader.read(_CHUNK):
            await stream.send_bytes(chunk)
        await stream.close()

    async def inward() -> None:
        async for message in stream:
            if message.type is WSMsgType.BINARY:
                writer.write(message.data)
                await writer.drain()

    tasks = [asyncio.create_task(outward()), asyncio.create_task(inward())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        # A side that was lost is the normal end of a stream.
        await asyncio.gather(*tasks, return_exceptions=True)


def _listener(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(old)
    return listener


def _since(request: web.Request) -> float | None:
    """Return the time from which on a log is wanted, seconds since the epoch."""
    if (seconds := _number(request, "sinceSeconds", None)) is not None:
        return time.time() - seconds
    text = request.query.get("sinceTime")
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _error(400, f"sinceTime={text!r} is no time of RFC 3339") from None
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()


def _number(request: web.Request, name: str, default: int | None) -> int | None:
    text = request.query.get(name)
    if text is None or text == "":
        return default
    try:
        value = int(float(text))
    except ValueError:
        raise _error(400, f"{name}={text!r} is not a number") from None
    if value < 0:
        raise _error(400, f"{name}={text!r} is negative")
    return value


def _error(status: int, message: str) -> web.HTTPException:
    kinds: dict[int, type[web.HTTPException]] = {
        400: web.HTTPBadRequest,
        404: web.HTTPNotFound,
        409: web.HTTPConflict,
        502: web.HTTPBadGateway,
    }
    return kinds[status](text=message)
