"""kubectl logs and kubectl port-forward, with a node agent that the test plays."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from fsm.kube import KubeClient
from fsm.kube import resources as res
from fsm.standalone.apiserver import ApiServerSettings
from fsm.standalone.apiserver.spdy import Codec, Data, Opened, SpdyError

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


@pytest.fixture
async def agent(running: ApiServerSettings) -> AsyncIterator[None]:
    async def logs(request: web.Request) -> web.StreamResponse:
        return web.Response(text=f"{request.match_info['container']} says hello\n")

    async def forward(request: web.Request) -> web.StreamResponse:
        if request.match_info["port"] == "81":
            raise web.HTTPBadGateway(reason="connection refused")
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        async for message in socket:
            await socket.send_bytes(message.data.upper())
        return socket

    application = web.Application()
    application.router.add_get("/logs/{ns}/{pod}/{container}", logs)
    application.router.add_get("/portforward/{ns}/{pod}/{port}", forward)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(running.state_dir / "node.sock")).start()
    yield
    await runner.cleanup()


@pytest.fixture
async def pod(api: KubeClient, agent: None) -> str:
    spec = {"containers": [{"name": "app", "image": "x:1"}], "nodeName": "box"}
    await api.create(res.PODS, {"metadata": {"name": "p"}, "spec": spec}, "default")
    await api.patch_status(res.PODS, "p", {"phase": "Running"}, "default")
    return "p"


async def start(state_dir: Path, *arguments: str) -> asyncio.subprocess.Process:
    environment = os.environ | {
        "KUBECONFIG": str(state_dir / "kubeconfig"),
        "KUBECACHEDIR": str(state_dir / "cache"),
    }
    return await asyncio.create_subprocess_exec(
        "kubectl", *arguments, env=environment, stdout=-1, stderr=asyncio.subprocess.STDOUT
    )


async def test_kubectl_logs(pod: str, running: ApiServerSettings) -> None:
    process = await start(running.state_dir, "logs", pod)
    out, _ = await asyncio.wait_for(process.communicate(), 20)
    assert out == b"app says hello\n"


async def test_kubectl_port_forward(
    pod: str, running: ApiServerSettings, kubectl_minor: int
) -> None:
    if kubectl_minor < 31:
        pytest.skip("kubectl forwards ports over websockets from 1.31 on")
    process = await start(running.state_dir, "port-forward", f"pod/{pod}", ":80", ":81")
    assert process.stdout is not None
    try:
        ports: dict[str, int] = {}
        async with asyncio.timeout(20):
            while len(ports) < 2:
                line = (await process.stdout.readline()).decode()
                assert line, f"kubectl ended: {ports}"
                if match := re.match(r"Forwarding from 127\.0\.0\.1:(\d+) -> (\d+)", line):
                    ports[match[2]] = int(match[1])

            async def talk(number: int) -> None:
                reader, writer = await asyncio.open_connection("127.0.0.1", ports["80"])
                sent = f"hello {number} ".encode() * 20_000
                writer.write(sent)
                assert await reader.readexactly(len(sent)) == sent.upper()
                writer.close()
                await writer.wait_closed()

            await asyncio.gather(*(talk(number) for number in range(8)))
            # What is refused is told, and the next connection works.
            _, writer = await asyncio.open_connection("127.0.0.1", ports["81"])
            writer.close()
            told = ""
            while "cannot connect to port 81" not in told:
                told = (await process.stdout.readline()).decode()
                assert told, "kubectl ended"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


def opened(codec: Codec, stream: int, **headers: str) -> bytes:
    """What a client sends to open a stream; the server side needs no such encoder."""
    pairs = [(k.encode(), v.encode()) for k, v in headers.items()]
    raw = len(pairs).to_bytes(4) + b"".join(
        len(k).to_bytes(4) + k + len(v).to_bytes(4) + v for k, v in pairs
    )
    block = codec._deflate.compress(raw) + codec._deflate.flush(2)
    body = stream.to_bytes(4) + bytes(6) + block
    return b"\x80\x03\x00\x01\x00" + len(body).to_bytes(3) + body


@given(st.integers(1, 200))
def test_spdy_is_read_whatever_the_cuts(size: int) -> None:
    client, server = Codec(), Codec()
    stream = (
        opened(client, 1, streamtype="error", port="80", requestid="0")
        + opened(client, 3, streamtype="data", port="80", requestid="0")
        + client.data(3, b"x" * 300)
        + client.data(3, b"", ended=True)
    )
    frames = [
        frame
        for start in range(0, len(stream), size)
        for frame in server.receive(stream[start : start + size])
    ]
    assert frames == [
        Opened(1, {"streamtype": "error", "port": "80", "requestid": "0"}, False),
        Opened(3, {"streamtype": "data", "port": "80", "requestid": "0"}, False),
        Data(3, b"x" * 300, False),
        Data(3, b"", True),
    ]


@given(st.binary(max_size=300))
def test_no_bytes_break_spdy(raw: bytes) -> None:
    for text in (raw, b"\x80\x03\x00\x01\x00" + len(raw).to_bytes(3) + raw):
        try:
            Codec().receive(text)
        except SpdyError:
            continue
