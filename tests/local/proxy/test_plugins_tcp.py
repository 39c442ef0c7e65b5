"""Plugins: scripts as stages of the TCP chains of a running proxy."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from proxyrig import config
from proxyrig.certs import spiffe
from proxyrig.streams import echo, greeting, server
from proxyrig.waiting import until
from proxyrig.wire import Wire

UPPER = """
pipy().pipeline()
  .handleData(data => console.log('to the server', data.size))
  .replaceData(data => new Data(data.toString().toUpperCase()))
  .chain()
"""

TELL = """
pipy()
.import({ __route: 'outbound-tcp-routing', __service: 'outbound-tcp-routing' })
.import({ __cluster: 'outbound-tcp-routing', __port: 'outbound', __protocol: 'outbound' })
.import({ __isEgress: 'outbound', __target: 'connect-tcp', __metricLabel: 'connect-tcp' })
.pipeline()
.chain()
.replaceData(() => new Data(JSON.stringify([
  __route.origin, __service.Plugins.tell, __cluster.name, __port, __protocol, __isEgress,
  __target, __metricLabel
])))
"""

ELSEWHERE = """
pipy({ _other: false })
.import({ __cluster: 'outbound-tcp-routing' })
.pipeline()
.handleData(data => void (
  data.toString().startsWith('two') && (_other = true, __cluster = { name: 'two' })
))
.branch(
  () => _other, $ => $.chain([
    'modules/outbound-tcp-load-balancing.js', 'modules/outbound-tcp-default.js'
  ]),
  $ => $.chain()
)
"""


def chain(side: str, *plugins: str) -> list[str]:
    """Give a chain with plugins between routing and balancing."""
    modules = [f"modules/{side}-tcp-{name}.js" for name in ("load-balancing", "default")]
    begin = ["modules/inbound-tls-termination.js"] if side == "inbound" else []
    stages = [f"plugins/{name}.js" for name in plugins]
    return [*begin, f"modules/{side}-tcp-routing.js", *stages, *modules]


def plugged(port: int, address: Any, told: Any = None, /, **scripts: str) -> config.Json:
    """Carry every connection to one address through these plugins."""
    match = config.tcp_match(port)
    match["tcp"]["plugins"] = told or {}
    return config.whole(
        outbound={"matches": [match]},
        clusters={"app": config.cluster(config.endpoint(address))},
        plugins=[
            {"name": name, "origin": f"Plugin/{name}", "script": script}
            for name, script in scripts.items()
        ],
        chains={"outbound-tcp": chain("outbound", *scripts)},
    )


async def spoken(proxy: Any) -> bytes:
    """Say hello; give what comes back. A refusal may be there before the connection is."""
    async with await Wire.open(proxy.outbound) as wire:
        await wire.send(b"hello")
        return await wire.exactly(5)


async def test_a_plugin_changes_what_is_sent(rig):
    async with server(echo) as app:
        proxy = await rig.pipy()
        await proxy.apply(plugged(proxy.outbound.port, app, upper=UPPER))
        async with await Wire.open(proxy.outbound) as wire:
            await wire.send(b"hello")
            assert await wire.exactly(5) == b"HELLO"
            wire.finish()
            assert await wire.rest() == b""
        [line] = await proxy.log(1, protocol="tcp")
        assert (line["decision"], line["cluster"]) == ("allowed", "app")
        assert (line["request_bytes"], line["response_bytes"]) == (5, 5)


async def test_plugins_stand_in_a_row(rig):
    again = "pipy().pipeline().replaceData(d => new Data(d.toString() + '!')).chain()"
    async with server(echo) as app:
        proxy = await rig.pipy()
        await proxy.apply(plugged(proxy.outbound.port, app, again=again, upper=UPPER))
        async with await Wire.open(proxy.outbound) as wire:
            await wire.send(b"hello")
            assert await wire.exactly(6) == b"HELLO!"


async def test_megabytes_pass_whole_both_ways(rig):
    async with server(echo) as app:
        proxy = await rig.pipy()
        through = "pipy().pipeline().chain()"
        await proxy.apply(plugged(proxy.outbound.port, app, through=through))
        sent = bytes(range(256)) * 16_384
        async with await Wire.open(proxy.outbound) as wire:
            sending = asyncio.create_task(wire.send(sent))
            assert await wire.exactly(len(sent)) == sent
            await sending


@pytest.mark.parametrize("protocol", ["tcp", "tcp-server-first"])
async def test_a_server_that_speaks_first_is_not_kept_waiting(rig, protocol):
    async with server(greeting(b"220 ready\r\n")) as app:
        proxy = await rig.pipy()
        script = "pipy().pipeline().chain()"
        if protocol == "tcp-server-first":
            script = "pipy().pipeline().branch(() => true, $ => $.chain())"
        document = plugged(proxy.outbound.port, app, through=script)
        document["outbound"]["matches"][0]["protocol"] = protocol
        await proxy.apply(document)
        async with await Wire.open(proxy.outbound) as wire:
            assert await wire.line() == "220 ready"


async def test_what_is_known_of_a_connection_can_be_read(rig):
    async with server(echo) as app:
        proxy = await rig.pipy()
        port = proxy.outbound.port
        await proxy.apply(plugged(port, app, {"tell": {"words": [1]}}, tell=TELL))
        async with await Wire.open(proxy.outbound) as wire:
            await wire.send(b"x")
            wire.finish()
            told = json.loads(await wire.rest())
        assert told[:6] == ["TCPRoute/shop/app", {"words": [1]}, "app", port, "tcp", False]
        assert told[6:] == [str(app), "app"]


async def test_a_script_sends_a_connection_to_another_cluster(rig):
    async with server(greeting(b"one")) as one, server(greeting(b"two")) as two:
        proxy = await rig.pipy()
        document = plugged(proxy.outbound.port, one, elsewhere=ELSEWHERE)
        document["clusters"]["two"] = config.cluster(config.endpoint(two))
        await proxy.apply(document)
        for name in (b"one", b"two"):
            async with await Wire.open(proxy.outbound) as wire:
                await wire.send(name)
                assert await wire.exactly(3) == name


@pytest.mark.parametrize(
    "script",
    [
        "pipy().pipeline().handleData(() => { throw new Error('on purpose') }).chain()",
        "pipy().pipeline().onStart(() => { throw new Error('on purpose') }).chain()",
        "pipy().pipeline().handleData(() => { for (;;); }).chain()",
        "pipy().pipeline().chain().handleData(() => nothing.at.all)",
    ],
    ids=["throws", "throws at the start", "never ends", "throws at the answer"],
)
async def test_a_plugin_that_fails_costs_its_connection_and_nothing_else(rig, script):
    async with server(echo) as app:
        proxy = await rig.pipy()
        await proxy.apply(plugged(proxy.outbound.port, app, bad=script))
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await spoken(proxy)
        await until(lambda: any("/plugins/bad.js:1:" in line for line in proxy.errors), "the log")
        await proxy.apply(plugged(proxy.outbound.port, app, upper=UPPER))
        async with await Wire.open(proxy.outbound) as wire:
            await wire.send(b"hello")
            assert await wire.exactly(5) == b"HELLO"


async def test_whoever_is_not_allowed_does_not_reach_the_plugin(rig):
    async with server(echo) as app:
        proxy = await rig.pipy()
        document = plugged(proxy.outbound.port, app, upper=UPPER)
        document["outbound"]["matches"][0]["tcp"]["allowed"] = []
        await proxy.apply(document)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await spoken(proxy)
        [line] = await proxy.log(1, protocol="tcp")
        assert line["decision"] == "denied"
        assert not [line for line in proxy.errors if "to the server" in line]


async def test_a_stage_that_is_none_is_refused(rig):
    async with server(echo) as app:
        proxy = await rig.pipy()
        document = plugged(proxy.outbound.port, app, upper=UPPER)
        document["chains"]["outbound-tcp"].append("modules/outbound-http-default.js")
        with pytest.raises(AssertionError, match=r"no stage is called .*outbound-http-default"):
            await proxy.apply(document)


async def test_behind_mutual_tls_a_plugin_knows_who_calls(rig, authority):
    who = """
pipy().import({ __consumer: 'inbound', __service: 'inbound-tcp-routing' }).pipeline()
  .chain()
  .replaceData(() => new Data(__consumer + ' ' + __service.name))
"""
    buyer, store = spiffe("bookbuyer"), spiffe("bookstore")
    async with server(greeting(b"220 ready\r\n")) as app:
        behind = await rig.pipy(member=authority.member(store))
        before = await rig.pipy(member=authority.member(buyer))
        match = config.tcp_match(behind.inbound.port, allowed=config.allow(buyer), hosts=[])
        await behind.apply(
            config.whole(
                identity=store,
                inbound={"matches": [match]},
                clusters={"app": config.cluster(config.endpoint(app))},
                plugins=[{"name": "who", "origin": "Plugin/who", "script": who}],
                chains={"inbound-tcp": chain("inbound", "who")},
            )
        )
        cluster = config.cluster(config.endpoint(behind.inbound, store))
        await before.apply(
            config.whole(
                identity=buyer,
                outbound={"matches": [config.tcp_match(before.outbound.port)]},
                clusters={"app": cluster},
            )
        )
        async with await Wire.open(before.outbound) as wire:
            expected = f"{buyer} shop/app".encode()
            assert await wire.exactly(len(expected)) == expected
