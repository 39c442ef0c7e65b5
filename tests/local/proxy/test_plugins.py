"""Plugins: scripts as stages of the HTTP chains of a running proxy."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from proxyrig import config
from proxyrig.backend import Connection, Request
from proxyrig.waiting import until
from proxyrig.wire import Wire, fetch, request

DEMO = Path(__file__).parents[3] / "examples/pipy/02-token-plugins/plugins"
TOKEN_INJECTOR = (DEMO / "token-injector.js").read_text()
TOKEN_VERIFIER = (DEMO / "token-verifier.js").read_text()
"""Injector and verifier of the demo, word for word."""

MARK = """
pipy().pipeline()
  .chain()
  .handleMessageStart(msg => msg.head.headers['x-marked'] = __filename)
"""

MIRROR = """
pipy({ _copy: null })
.import({ __cluster: 'outbound-http-routing' })
.pipeline()
.fork().to('mirror')
.chain()
.pipeline('mirror')
.onStart(() => void (__cluster = { name: 'two' }))
.chain(['modules/outbound-http-load-balancing.js', 'modules/outbound-http-default.js'])
.dummy()
"""

BEFORE = [
    f"modules/outbound-{name}.js" for name in ("http-routing", "metrics-http", "logging-http")
]
AFTER = [f"modules/outbound-{name}.js" for name in ("http-load-balancing", "http-default")]


def plugged(
    port: int, address: Any, told: dict[str, Any] | None = None, /, **scripts: str
) -> config.Json:
    """Carry every request to one address through these plugins."""
    names = {name.replace("_", "-"): script for name, script in scripts.items()}
    host = {**config.host(config.route()), "plugins": told or {}}
    return config.whole(
        outbound={"matches": [config.http_match(port, host)]},
        clusters={"app": config.cluster(config.endpoint(address))},
        plugins=[
            {"name": name, "origin": f"Plugin/{name}", "script": script}
            for name, script in names.items()
        ],
        chains={
            "outbound-http": [*BEFORE, *(f"plugins/{name}.js" for name in names), *AFTER],
        },
    )


async def test_the_demo_s_injector_adds_the_token_that_the_service_is_told(rig):
    backend = await rig.backend()
    proxy = await rig.pipy()
    port = proxy.outbound.port
    await proxy.apply(plugged(port, backend.address, token_injector=TOKEN_INJECTOR))
    assert (await fetch(proxy.outbound, request())).status == 200
    assert backend.requests[0].header("x-iam-token") is None
    told = {"token-injector": {"AccessToken": "2f1acc"}}
    await proxy.apply(plugged(port, backend.address, told, token_injector=TOKEN_INJECTOR))
    assert (await fetch(proxy.outbound, request())).status == 200
    assert backend.requests[1].header("x-iam-token") == "2f1acc"


async def test_the_demo_s_verifier_asks_whether_a_token_is_good(rig):
    async def judge(asked: Request, connection: Connection) -> bool:
        status = "200 OK" if asked.header("x-iam-token") == "2f1acc" else "401 Unauthorized"
        await connection.send(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        return True

    backend, judges = await rig.backend(), await rig.backend(script=judge)
    proxy = await rig.pipy()
    told = {"token-verifier": {"Verifier": str(judges.address), "Paths": ["/get"]}}
    host = {**config.host(config.route()), "plugins": told}
    before = [f"modules/inbound-{n}.js" for n in ("tls-termination", "http-routing")]
    after = [f"modules/inbound-{n}.js" for n in ("http-load-balancing", "http-default")]
    document = config.whole(
        inbound={"matches": [config.http_match(proxy.inbound.port, host, mtls="disabled")]},
        clusters={"app": config.cluster(config.endpoint(backend.address))},
        plugins=[
            {"name": "token-verifier", "origin": "Plugin/token-verifier", "script": TOKEN_VERIFIER}
        ],
        chains={"inbound-http": [*before, "plugins/token-verifier.js", *after]},
    )
    await proxy.apply(document)
    refused = await fetch(proxy.inbound, request("GET", "/get"))
    assert (refused.status, refused.body) == (401, b"Unauthorized!")
    assert (await fetch(proxy.inbound, request("GET", "/headers"))).status == 200
    let_in = await fetch(proxy.inbound, request("GET", "/get", "x-iam-token: 2f1acc"))
    assert let_in.status == 200
    assert [seen.target for seen in backend.requests] == ["/headers", "/get"]


async def test_a_plugin_changes_the_response_and_passes_bodies_whole(rig):
    backend = await rig.backend()
    proxy = await rig.pipy()
    await proxy.apply(plugged(proxy.outbound.port, backend.address, mark=MARK))
    body = bytes(i % 251 for i in range(1_000_000))
    async with await Wire.open(proxy.outbound) as wire:
        for _ in range(3):
            answer = await wire.ask(request("POST", "/", body=body))
            assert answer.header("x-marked") == "/plugins/mark.js"
            assert json.loads(answer.body)["bytes"] == len(body)


async def test_plugins_run_in_the_order_of_the_chain_and_share_a_context(rig):
    backend = await rig.backend()
    proxy = await rig.pipy()
    one = """
pipy().export('one', { __seen: '' }).pipeline()
  .handleMessageStart(() => void (__seen = 'one'))
  .chain()
"""
    two = """
pipy().import({ __seen: 'one' }).pipeline()
  .handleMessageStart(msg => void (msg.head.headers['x-seen'] = __seen + ',two'))
  .chain()
"""
    await proxy.apply(plugged(proxy.outbound.port, backend.address, one=one, two=two))
    assert (await fetch(proxy.outbound, request())).status == 200
    assert backend.requests[0].header("x-seen") == "one,two"


async def test_a_plugin_answers_itself(rig):
    backend = await rig.backend()
    proxy = await rig.pipy()
    script = """
pipy({ _no: false }).pipeline()
  .handleMessageStart(msg => void (_no = msg.head.path === '/get'))
  .branch(
    () => _no, $ => $.replaceMessage(() => new Message({ status: 401 }, 'Unauthorized!')),
    $ => $.chain()
  )
"""
    await proxy.apply(plugged(proxy.outbound.port, backend.address, guard=script))
    answer = await fetch(proxy.outbound, request("GET", "/get"))
    assert (answer.status, answer.body) == (401, b"Unauthorized!")
    assert (await fetch(proxy.outbound, request("GET", "/headers"))).status == 200
    assert len(backend.requests) == 1
    lines = await proxy.log(2)
    assert [line["status"] for line in lines] == [401, 200]


async def test_what_is_known_of_a_request_can_be_read(rig):
    backend = await rig.backend()
    proxy = await rig.pipy()
    script = """
pipy()
.import({ __route: 'outbound-http-routing', __service: 'outbound-http-routing' })
.import({ __cluster: 'outbound-http-routing', __port: 'outbound', __protocol: 'outbound' })
.import({ __isEgress: 'outbound' })
.pipeline()
.replaceMessage(() => new Message(JSON.stringify(
  [__route.origin, __service.name, __cluster.name, __port, __protocol, __isEgress]
)))
"""
    await proxy.apply(plugged(proxy.outbound.port, backend.address, tell=script))
    answer = await fetch(proxy.outbound, request())
    assert json.loads(answer.body) == [
        "HTTPRouteGroup/shop/routes#all",
        "shop/app",
        "app",
        proxy.outbound.port,
        "http",
        False,
    ]


async def test_a_copy_goes_to_another_cluster_and_the_client_sees_one_answer(rig):
    one, two = await rig.backend(name="one"), await rig.backend(name="two")
    proxy = await rig.pipy()
    document = plugged(proxy.outbound.port, one.address, mirror=MIRROR)
    document["clusters"]["two"] = config.cluster(config.endpoint(two.address))
    await proxy.apply(document)
    for _ in range(3):
        answer = await fetch(proxy.outbound, request("POST", "/", body=b"body"))
        assert json.loads(answer.body)["server"] == "one"
    await until(lambda: len(two.requests) == 3, "copies of all requests")
    assert Counter(seen.body for seen in two.requests) == {b"body": 3}


@pytest.mark.parametrize(
    "script",
    [
        "pipy().pipeline().handleMessageStart(() => { throw new Error('on purpose') }).chain()",
        "pipy().pipeline().onStart(() => { throw new Error('on purpose') }).chain()",
        "pipy().pipeline().handleMessageStart(() => { for (;;); }).chain()",
        "pipy().pipeline().chain().handleMessageStart(() => nothing.at.all)",
    ],
    ids=["throws", "throws at the start", "never ends", "throws at the response"],
)
async def test_a_plugin_that_fails_costs_its_request_and_nothing_else(rig, script):
    backend = await rig.backend()
    proxy = await rig.pipy()
    await proxy.apply(plugged(proxy.outbound.port, backend.address, bad=script))
    assert (await fetch(proxy.outbound, request())).status == 500
    await proxy.apply(plugged(proxy.outbound.port, backend.address, mark=MARK))
    assert (await fetch(proxy.outbound, request())).status == 200


async def test_a_plugin_that_does_not_load_is_refused_with_its_place(rig):
    backend = await rig.backend()
    proxy = await rig.pipy()
    port = proxy.outbound.port
    await proxy.apply(plugged(port, backend.address, mark=MARK))
    with pytest.raises(AssertionError, match=r"/plugins/bad\.js:2:"):
        await proxy.apply(plugged(port, backend.address, bad="pipy().pipeline()\n  .chain("))
    answer = await fetch(proxy.outbound, request())
    assert answer.header("x-marked") == "/plugins/mark.js"


async def test_a_copy_arrives_though_the_client_has_its_answer_and_leaves(rig):
    async def late(asked: Request, connection: Connection) -> bool:
        await asyncio.sleep(0.05)
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        return True

    one, two = await rig.backend(name="one"), await rig.backend(script=late)
    proxy = await rig.pipy()
    document = plugged(proxy.outbound.port, one.address, mirror=MIRROR)
    document["clusters"]["two"] = config.cluster(config.endpoint(two.address))
    await proxy.apply(document)
    for _ in range(20):
        async with await Wire.open(proxy.outbound) as wire:
            assert (await wire.ask(request("POST", "/", body=b"body"))).status == 200
    await until(lambda: len(two.requests) == 20, "copies of all requests")
    assert Counter(seen.body for seen in two.requests) == {b"body": 20}
