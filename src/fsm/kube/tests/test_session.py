"""The client against a server that misbehaves: every failure has a class and words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from fsm.kube import (
    AlreadyExists,
    ApiError,
    ClientSettings,
    Conflict,
    Connection,
    Forbidden,
    Gone,
    Invalid,
    KubeClient,
    NotFound,
    Unauthenticated,
    Unauthorized,
    Unavailable,
)
from fsm.kube import resources as res

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Script:
    """A server whose answer the test sets."""

    def __init__(self) -> None:
        self.handler: Handler | None = None
        self.requests: list[web.Request] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        await request.read()
        assert self.handler is not None
        return await self.handler(request)

    def answers(self, status: int, body: Any) -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            text = body if isinstance(body, str) else json.dumps(body)
            return web.Response(status=status, text=text)

        self.handler = handler


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    found = Script()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", found.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


@pytest.fixture
async def client(script: Script) -> AsyncIterator[KubeClient]:
    settings = ClientSettings(request_timeout_s=0.5, connect_timeout_s=0.5)
    async with KubeClient(Connection(script.url, token="t"), settings) as found:
        yield found


def status(code: int, reason: str, **details: Any) -> dict[str, Any]:
    return {
        "kind": "Status",
        "code": code,
        "reason": reason,
        "message": "told so",
        "details": details,
    }


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (404, "NotFound", NotFound),
        (409, "Conflict", Conflict),
        (409, "AlreadyExists", AlreadyExists),
        (403, "Forbidden", Forbidden),
        (401, "Unauthorized", Unauthorized),
        (422, "Invalid", Invalid),
        (410, "Expired", Gone),
        (429, "TooManyRequests", Unavailable),
        (503, "ServiceUnavailable", Unavailable),
        (504, "Timeout", Unavailable),
        (500, "InternalError", ApiError),
        (400, "BadRequest", ApiError),
    ],
)
async def test_each_refusal_has_its_class(
    client: KubeClient, script: Script, code: int, reason: str, kind: type[ApiError]
) -> None:
    script.answers(code, status(code, reason, retryAfterSeconds=3))
    with pytest.raises(ApiError, match="cannot get Pod shop/web: told so") as caught:
        await client.get(res.PODS, "web", "shop")
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.reason) == (code, reason)
    assert caught.value.retry_after_s == 3


@pytest.mark.parametrize("body", ["<html>bad gateway</html>", "", "[]", "7"])
async def test_answers_that_are_no_status_are_quoted(
    client: KubeClient, script: Script, body: str
) -> None:
    script.answers(502, body)
    with pytest.raises(Unavailable, match="HTTP 502"):
        await client.get(res.PODS, "web", "shop")
    script.answers(200, body or "{")
    with pytest.raises(Unavailable, match=r"not JSON|no object"):
        await client.get(res.PODS, "web", "shop")


async def test_a_server_that_hangs_or_is_gone_is_unavailable(
    client: KubeClient, script: Script
) -> None:
    released = asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        await released.wait()
        return web.Response()

    script.handler = hang
    with pytest.raises(Unavailable, match="timed out") as caught:
        await client.get(res.PODS, "web", "shop")
    released.set()
    assert caught.value.status == 0
    async with KubeClient(Connection("http://127.0.0.1:1")) as nobody:
        with pytest.raises(Unavailable, match="does not answer"):
            await nobody.list(res.PODS)


async def test_a_body_cut_short_is_unavailable(client: KubeClient, script: Script) -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"kind":')
        assert request.transport is not None
        request.transport.close()
        return response

    script.handler = cut
    with pytest.raises(Unavailable):
        await client.get(res.PODS, "web", "shop")


async def test_watch_events_are_read_whatever_the_chunks(
    client: KubeClient, script: Script
) -> None:
    events = [
        {"type": "ADDED", "object": {"metadata": {"name": "é" * 50, "n": n}}} for n in range(5)
    ]
    stream = b"".join(json.dumps(e, ensure_ascii=False).encode() + b"\n" for e in events)

    async def in_bits(request: web.Request) -> web.StreamResponse:
        size = int(request.query["labelSelector"])
        response = web.StreamResponse()
        await response.prepare(request)
        for start in range(0, len(stream), size):
            await response.write(stream[start : start + size])
        return response

    script.handler = in_bits
    for size in (1, 7, 64, len(stream)):
        found = [e.object async for e in client.watch(res.PODS, labels=str(size))]
        assert found == [e["object"] for e in events]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (json.dumps({"type": "ERROR", "object": status(410, "Expired")}), Gone),
        (json.dumps({"type": "ERROR", "object": status(500, "InternalError")}), ApiError),
        ("nonsense", Unavailable),
        ("[]", Unavailable),
    ],
)
async def test_errors_inside_a_watch_are_raised(
    client: KubeClient, script: Script, line: str, kind: type[ApiError]
) -> None:
    script.answers(200, line + "\n")
    with pytest.raises(kind):
        await anext(client.watch(res.PODS))


async def test_patches_say_what_they_are(client: KubeClient, script: Script) -> None:
    script.answers(200, {})
    for kind in ("merge", "json", "strategic", "apply"):
        await client.patch(res.PODS, "p", {}, "n", kind=kind)
    types = [request.content_type.partition("/")[2] for request in script.requests]
    assert types == [
        "merge-patch+json",
        "json-patch+json",
        "strategic-merge-patch+json",
        "apply-patch+yaml",
    ]
    assert all(r.query["fieldManager"] == "fsm" for r in script.requests)
    assert script.requests[0].headers["Authorization"] == "Bearer t"


@pytest.mark.parametrize(
    "answer",
    [
        {"status": {"authenticated": False, "error": "expired"}},
        {"status": {}},
        {},
        {
            "status": {
                "authenticated": True,
                "user": {"username": "kubernetes-admin"},
                "audiences": ["a"],
            }
        },
        {
            "status": {
                "authenticated": True,
                "user": {"username": "system:serviceaccount:n"},
                "audiences": ["a"],
            }
        },
        # A server that knows nothing of audiences says none back: then it proves nothing.
        {"status": {"authenticated": True, "user": {"username": "system:serviceaccount:n:s"}}},
        {
            "status": {
                "authenticated": True,
                "user": {"username": "system:serviceaccount:n:s"},
                "audiences": ["other"],
            }
        },
    ],
)
async def test_only_a_clear_yes_is_an_identity(
    client: KubeClient, script: Script, answer: Any
) -> None:
    script.answers(201, answer)
    with pytest.raises(Unauthenticated):
        await client.review_token("t", ["a"])
