"""gRPC probes against a real gRPC server, and hooks by HTTP in a real box."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator

import grpc
import pytest
from box_world import Box, apply, pod, until
from grpc import aio

from fsm.standalone.node import grpc_probe, probes

#: HealthCheckResponse with field 1 (status): SERVING, NOT_SERVING.
_SERVING, _NOT_SERVING = b"\x08\x01", b"\x08\x02"


def _bytes(message: bytes) -> bytes:
    return message


@pytest.fixture
async def health() -> AsyncIterator[int]:
    """A gRPC server whose service ``shop`` is well, ``till`` is not; returns its port."""

    async def check(request: bytes, context: aio.ServicerContext[bytes, bytes]) -> bytes:
        name = request[2:].decode()
        if name == "ghost":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return _NOT_SERVING if name == "till" else _SERVING

    method = grpc.unary_unary_rpc_method_handler(check, _bytes, _bytes)
    server = aio.server()
    handler = grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": method})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield port
    await server.stop(None)


async def _ask(port: int, service: str) -> tuple[bool, str]:
    async def run(argv: list[str], limit_s: float) -> tuple[int | None, str]:
        raise AssertionError(f"a gRPC probe runs no command: {argv}, {limit_s}")

    target = probes.Target(("127.0.0.1",), {}, run)
    return await probes.check({"grpc": {"port": port, "service": service}}, target, 5.0)


@pytest.mark.parametrize(
    ("service", "good", "why"),
    [
        ("", True, ""),
        ("shop", True, ""),
        ("till", False, "NOT_SERVING"),
        ("ghost", False, "status 5 no such service"),
    ],
)
async def test_a_grpc_server_is_asked_for_its_health(
    health: int, service: str, good: bool, why: str
) -> None:
    answer = await _ask(health, service)
    assert answer[0] is good
    assert why in answer[1]


async def test_a_server_without_the_health_service_is_not_healthy() -> None:
    server = aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        good, why = await _ask(port, "")
    finally:
        await server.stop(None)
    assert not good
    assert "does not implement the health service" in why


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"\0" * 100_000])
async def test_who_speaks_no_http2_is_not_healthy(said: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(said)
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        good, why = await _ask(server.sockets[0].getsockname()[1], "")
    assert not good
    assert why


async def test_nobody_there_is_not_healthy() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        good, why = await _ask(sock.getsockname()[1], "")
    assert not good
    assert "refused" in why.lower() or "Connect call failed" in why


def test_the_question_is_written_as_protobuf() -> None:
    assert grpc_probe.request_bytes("") == b"\0\0\0\0\0"
    assert grpc_probe.request_bytes("shop") == b"\0\0\0\0\x06\x0a\x04shop"


LISTENER = """
import http.server, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with open("/seen/calls", "a") as file: file.write(self.path + "\\n")
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *args): pass
http.server.HTTPServer(("", 8080), H).serve_forever()
"""


@pytest.mark.box
async def test_hooks_by_http_are_called_after_the_start_and_before_the_end(
    box: Box, namespace: str
) -> None:
    mount = {"name": "seen", "mountPath": "/seen"}
    listens = {
        "name": "listens",
        "image": "python",
        "command": [sys.executable, "-c", LISTENER],
        "restartPolicy": "Always",
        "startupProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        "volumeMounts": [mount],
    }
    hooks = {
        "postStart": {"httpGet": {"path": "/started", "port": 8080}},
        "preStop": {"httpGet": {"path": "/stopping", "port": 8080}},
    }
    volume = {"name": "seen", "persistentVolumeClaim": {"claimName": "seen"}}
    made = pod("p", container={"lifecycle": hooks}, initContainers=[listens], volumes=[volume])
    made["spec"]["terminationGracePeriodSeconds"] = 5
    size = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    wanted = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": size}
    apply(box, namespace, wanted | {"metadata": {"name": "seen"}}, made)
    box.kubectl("wait", "-n", namespace, "pod/p", "--for=condition=Ready", "--timeout=30s")

    async def called() -> bool:
        said = await box.run(namespace, "p", "cat /seen/calls", "listens")
        return bool(said["stdout"] == "/started\n")

    await until(called, "postStart was called")
    box.kubectl("delete", "-n", namespace, "pod/p", "--timeout=30s")
    reader = pod("reader", container={"volumeMounts": [mount]}, volumes=[volume])
    apply(box, namespace, reader)
    box.kubectl("wait", "-n", namespace, "pod/reader", "--for=condition=Ready", "--timeout=30s")
    said = await box.run(namespace, "reader", "cat /seen/calls")
    assert said["stdout"] == "/started\n/stopping\n"
