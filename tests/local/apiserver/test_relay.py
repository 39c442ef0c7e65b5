"""Logs, port-forwards and proxied HTTP: through the server to a node agent and to Pods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from fsm.kube import ApiError, KubeClient, Unavailable
from fsm.kube import resources as res
from fsm.standalone.apiserver import ApiServerSettings


@dataclass
class Agent:
    """A node agent that has one log and echoes what is forwarded to it, in capitals."""

    queries: list[dict[str, str]] = field(default_factory=list)
    more: asyncio.Event = field(default_factory=asyncio.Event)

    async def logs(self, request: web.Request) -> web.StreamResponse:
        self.queries.append(dict(request.query) | dict(request.match_info))
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first line\n")
        if request.query.get("follow") == "true":
            await self.more.wait()
            await response.write(b"second line\n")
        return response

    async def forward(self, request: web.Request) -> web.StreamResponse:
        if request.match_info["port"] == "81":
            raise web.HTTPBadGateway(reason="connection refused")
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        async for message in socket:
            if message.data == b"bye":
                break
            await socket.send_bytes(message.data.upper())
        return socket


@pytest.fixture
async def agent(running: ApiServerSettings) -> AsyncIterator[Agent]:
    found = Agent()
    application = web.Application()
    application.router.add_get("/logs/{ns}/{pod}/{container}", found.logs)
    application.router.add_get("/portforward/{ns}/{pod}/{port}", found.forward)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(running.state_dir / "node.sock")).start()
    yield found
    found.more.set()
    await runner.cleanup()


async def running_pod(api: KubeClient, *containers: str, ip: str = "127.0.0.1") -> None:
    named = [{"name": name, "image": "x:1"} for name in containers or ("c",)]
    body: dict[str, Any] = {"metadata": {"name": "p"}, "spec": {"containers": named}}
    await api.create(res.PODS, body, "default")
    await api.patch(res.PODS, "p", {"spec": {"nodeName": "box"}}, "default")
    await api.patch_status(res.PODS, "p", {"phase": "Running", "podIP": ip}, "default")


async def test_logs_come_from_the_agent(api: KubeClient, agent: Agent) -> None:
    await running_pod(api)
    stream = await api.logs("default", "p", tail=5)
    assert await stream.read() == b"first line\n"
    assert agent.queries == [{"tailLines": "5", "ns": "default", "pod": "p", "container": "c"}]


async def test_followed_logs_arrive_as_they_are_written(api: KubeClient, agent: Agent) -> None:
    await running_pod(api)
    async with await api.logs("default", "p", "c", follow=True) as stream:
        chunks = aiter(stream)
        assert await anext(chunks) == b"first line\n"
        agent.more.set()
        assert await anext(chunks) == b"second line\n"
        assert await anext(chunks, None) is None


async def test_which_container_is_asked(api: KubeClient, agent: Agent) -> None:
    await running_pod(api, "app", "sidecar")
    with pytest.raises(ApiError, match=r"choose one of: \[app sidecar\]"):
        await api.logs("default", "p")
    with pytest.raises(ApiError, match="container ghost is not valid"):
        await api.logs("default", "p", "ghost")
    note = {"metadata": {"annotations": {"kubectl.kubernetes.io/default-container": "app"}}}
    await api.patch(res.PODS, "p", note, "default")
    await (await api.logs("default", "p")).read()
    assert agent.queries[-1]["container"] == "app"


async def test_no_agent_is_told(api: KubeClient) -> None:
    await running_pod(api)
    with pytest.raises(Unavailable, match="node agent does not answer"):
        await api.logs("default", "p")
    reader, writer = await api.port_forward("default", "p", 80)
    with pytest.raises(Unavailable, match="node agent does not answer"):
        await reader.read()
    await writer.close()


async def test_a_forwarded_port_carries_bytes_both_ways(api: KubeClient, agent: Agent) -> None:
    await running_pod(api)
    reader, writer = await api.port_forward("default", "p", 80)
    big = b"abc" * 100_000
    writer.write(b"hello\n")
    await writer.drain()
    assert await reader.readline() == b"HELLO\n"
    writer.write(big)
    await writer.drain()
    received = b""
    while len(received) < len(big):
        received += await reader.read(65536)
    assert received == big.upper()
    writer.write(b"bye")
    await writer.drain()
    assert await reader.read() == b""
    assert reader.at_eof()
    await writer.close()


async def test_a_port_that_refuses_is_told(api: KubeClient, agent: Agent) -> None:
    await running_pod(api)
    reader, writer = await api.port_forward("default", "p", 81)
    with pytest.raises(Unavailable, match="cannot connect to port 81"):
        await reader.read()
    await writer.close()
    await api.patch_status(res.PODS, "p", {"phase": "Pending"}, "default")
    with pytest.raises(ApiError, match="pod is not running"):
        await api.port_forward("default", "p", 80)


@pytest.fixture
async def web_app() -> AsyncIterator[int]:
    """An HTTP server that says what it was asked."""

    async def echo(request: web.Request) -> web.Response:
        shown = f"{request.method} {request.raw_path} {await request.text()}"
        assert "Authorization" not in request.headers
        return web.Response(text=shown, status=201, headers={"X-From": "pod"})

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", echo)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def test_http_is_proxied_to_pods_and_services(
    api: KubeClient, running: ApiServerSettings, web_app: int
) -> None:
    await running_pod(api)
    spec = {"ports": [{"name": "http", "port": 80}]}
    await api.create(res.SERVICES, {"metadata": {"name": "s"}, "spec": spec}, "default")
    unix = aiohttp.UnixConnector(str(running.state_dir / "api.sock"))
    base = "http://localhost/api/v1/namespaces/default"
    async with aiohttp.ClientSession(connector=unix) as session:
        url = f"{base}/pods/p:{web_app}/proxy/a%2Fb/?q=%20x"
        headers = {"X-Own": "1"}
        async with session.post(
            aiohttp.client.URL(url, encoded=True), data=b"body", headers=headers
        ) as answer:
            assert await answer.text() == "POST /a%2Fb/?q=%20x body"
            assert (answer.status, answer.headers["X-From"]) == (201, "pod")
        async with session.get(f"{base}/services/s:http/proxy/x") as answer:
            assert answer.status == 503
            assert "no endpoints available" in (await answer.json())["message"]
        piece = {
            "metadata": {"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
            "ports": [{"name": "http", "port": web_app}],
        }
        await api.create(res.ENDPOINTSLICES, piece, "default")
        async with session.get(f"{base}/services/s:http/proxy/x") as answer:
            assert await answer.text() == "GET /x "
        async with session.get(f"{base}/pods/p:1/proxy/") as answer:
            assert answer.status == 503
            assert "error trying to reach pod default/p" in (await answer.json())["message"]
