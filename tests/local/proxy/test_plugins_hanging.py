"""Plugins that never come to an end while their clients leave: counters go back, a drain ends."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest
from proxyrig import config
from proxyrig.waiting import until
from proxyrig.wire import Wire, fetch, request

HANGS = {
    "a wait that never comes": ".branchMessageStart(m => m.head.path === '/hang',"
    " $ => $.wait(() => __go).chain(), $ => $.chain())",
    "a promise that is never kept": ".handleMessageStart(m => m.head.path === '/hang' ?"
    " new Promise(() => {}) : undefined).chain()",
    "an endless loop": ".handleMessageStart(m => { while (m.head.path === '/hang'); }).chain()",
}


def hanging(port: int, address: Any, how: str, **changes: Any) -> config.Json:
    """Carry every request to one address through a plugin that hangs where it is asked to."""
    script = f"pipy({{ __go: false }}).pipeline(){HANGS[how]}"
    before, after = (
        [f"modules/outbound-{name}.js" for name in names]
        for names in (("http-routing", "metrics-http"), ("http-load-balancing", "http-default"))
    )
    return config.whole(
        outbound={"matches": [config.http_match(port, config.host(config.route()))]},
        clusters={"app": config.cluster(config.endpoint(address))},
        plugins=[{"name": "hangs", "origin": "Plugin/hangs", "script": script}],
        chains={"outbound-http": [*before, "plugins/hangs.js", *after]},
        **changes,
    )


@pytest.mark.parametrize("how", HANGS)
async def test_clients_that_leave_a_plugin_that_hangs_leave_nothing_behind(rig, how):
    backend = await rig.backend()
    proxy = await rig.pipy()
    await proxy.apply(hanging(proxy.outbound.port, backend.address, how))
    assert (await fetch(proxy.outbound, request())).status == 200
    before = proxy.descriptors()
    # Each loop costs the worker half a second.
    wires = [await Wire.open(proxy.outbound) for _ in range(2 if "loop" in how else 20)]
    for number, wire in enumerate(wires):
        await wire.send(request("POST", "/hang", "Content-Length: 10") + b"half")
        if number % 2:
            wire.abort()
        else:
            wire.close()

    async def idle() -> bool:
        counted = [
            value
            for name, value in (await proxy.stats()).items()
            if name.endswith(("downstream_cx_active", "upstream_rq_active"))
        ]
        assert len(counted) >= 2
        return set(counted) == {"0"}

    await until(idle, "no connection of a client")
    await until(lambda: proxy.descriptors() <= before, "the file descriptors of before")
    assert (await fetch(proxy.outbound, request())).status == 200
    assert [seen.target for seen in backend.requests] == ["/", "/"]


@pytest.mark.parametrize("how", ["a wait that never comes", "a promise that is never kept"])
async def test_a_drain_does_not_wait_for_a_plugin_that_hangs(rig, how):
    go = asyncio.Event()

    async def slow(asked, connection) -> bool:
        await go.wait()
        return await backend.echo(asked, connection)

    backend = await rig.backend(slow)
    proxy = await rig.pipy()
    document = hanging(proxy.outbound.port, backend.address, how, timeouts={"drain_ms": 1500})
    await proxy.apply(document)
    async with await Wire.open(proxy.outbound) as stuck, await Wire.open(proxy.outbound) as well:
        await stuck.send(request("GET", "/hang"))
        await well.send(request())
        await until(lambda: backend.requests, "the request that goes on")
        proxy.signal(signal.SIGTERM)
        await until(lambda: proxy.noticed("draining"), "the drain")
        go.set()
        assert (await well.response()).status == 200
        assert await proxy.ended() == 0
