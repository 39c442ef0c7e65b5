"""Rules at work: routes, weights, and configurations that come and go under traffic."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter

import pytest
from proxyrig import config
from proxyrig.waiting import until
from proxyrig.wire import Wire, fetch, request


def split(port: int, one: object, two: object, weights: tuple[int, int]):
    route = config.route(("one", weights[0]), ("two", weights[1]))
    return config.whole(
        outbound={"matches": [config.http_match(port, config.host(route))]},
        clusters={
            "one": config.cluster(config.endpoint(one)),
            "two": config.cluster(config.endpoint(two)),
        },
    )


@pytest.mark.parametrize(
    ("weights", "count", "second"),
    [((75, 25), 4, 1), ((50, 50), 10, 5), ((100, 0), 10, 0), ((0, 100), 7, 7), ((1, 99), 100, 99)],
)
async def test_requests_are_split_exactly_by_weight(rig, weights, count, second):
    one, two = await rig.backend(name="one"), await rig.backend(name="two")
    proxy = await rig.pipy()
    await proxy.apply(split(proxy.outbound.port, one.address, two.address, weights))
    async with await Wire.open(proxy.outbound) as wire:
        answers = [await wire.ask(request()) for _ in range(count)]
    seen = Counter(json.loads(answer.body)["server"] for answer in answers)
    assert seen["two"] == second
    assert seen["one"] == count - second
    lines = await proxy.log(count)
    assert {line["split_origin"] for line in lines} == {"TrafficSplit/shop/split"}


async def test_a_policy_counts_from_the_next_request_on_a_kept_connection(rig):
    one, two = await rig.backend(name="one"), await rig.backend(name="two")
    proxy = await rig.pipy()
    port = proxy.outbound.port
    await proxy.apply(split(port, one.address, two.address, (1, 1)))
    async with await Wire.open(proxy.outbound) as wire:
        for weights, name in (((100, 0), "one"), ((0, 100), "two"), ((100, 0), "one")):
            await proxy.apply(split(port, one.address, two.address, weights))
            assert json.loads((await wire.ask(request())).body)["server"] == name
        await proxy.apply(config.whole(outbound={"matches": []}))
        assert (await wire.ask(request())).status == 403


async def test_a_request_in_progress_goes_on_under_the_rules_it_began_with(rig):
    go = asyncio.Event()

    async def script(request, connection) -> bool:
        await go.wait()
        await connection.respond(200, b"late")
        return True

    backend = await rig.backend(script)
    proxy = await rig.plain(backend)
    async with await Wire.open(proxy.outbound) as wire:
        await wire.send(request())
        await until(lambda: backend.requests, "the request at the backend")
        await proxy.apply(config.whole(outbound={"matches": []}))
        go.set()
        assert (await wire.response()).body == b"late"


async def test_two_hundred_reloads_under_load_fail_no_request(rig):
    one, two = await rig.backend(name="one"), await rig.backend(name="two")
    proxy = await rig.pipy()
    port = proxy.outbound.port
    await proxy.apply(split(port, one.address, two.address, (50, 50)))
    stop = asyncio.Event()
    answered = 0

    async def load(fresh: bool) -> None:
        nonlocal answered
        wire = await Wire.open(proxy.outbound)
        while not stop.is_set():
            if fresh:
                wire.close()
                wire = await Wire.open(proxy.outbound)
            response = await wire.ask(request("POST", "/", body=b"hello"))
            assert response.status == 200
            answered += 1
        wire.close()

    async with asyncio.TaskGroup() as group:
        for i in range(8):
            group.create_task(load(fresh=i < 2))
        for number in range(200):
            weights = (50, 50) if number % 2 else (100 - number // 4, number // 4)
            proxy.write(split(port, one.address, two.address, weights))
            seen, before = answered, len(proxy.errors)
            proxy.signal(signal.SIGHUP)
            await until(lambda: len(proxy.errors) > before, "the reload")  # noqa: B023
            await until(lambda: answered > seen, "a request after the reload")  # noqa: B023
        stop.set()
    assert answered >= 200
    assert (await proxy.stats())["config.refused"] == "0"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("{", "EOF"),
        ('{"version": "x", "surprise": 1}', "surprise"),
        ({"inbound": {"matches": [{"port": 70000}]}}, "inbound.matches[0].port"),
        ({"chains": {"outbound-http": ["modules/nonsense.js"]}}, "modules/nonsense.js"),
        (
            {"outbound": {"matches": [config.http_match(1, config.host(config.route(("no", 1))))]}},
            "is not a cluster",
        ),
        (
            {
                "outbound": {
                    "matches": [
                        config.http_match(1, config.host(config.route(path={"regex": "("})))
                    ]
                }
            },
            "no regular expression",
        ),
    ],
)
async def test_a_refused_configuration_changes_nothing_and_says_why(rig, fault, words):
    backend = await rig.backend()
    proxy = await rig.plain(backend)
    version = (await proxy.stats())["config.version"]
    bad = fault if isinstance(fault, str) else {**config.whole(), **fault}
    reason = await proxy.refuse(bad)
    assert words in reason
    assert any(words in line for line in proxy.errors), "the operator hears it too"
    stats = await proxy.stats()
    assert (stats["config.version"], stats["config.refused"]) == (version, "1")
    assert (await fetch(proxy.outbound)).status == 200
    await proxy.apply(config.plain(proxy.outbound.port, backend.address))
    assert "config.refused_reason" not in await proxy.stats()


async def test_a_configuration_file_that_is_gone_changes_nothing(rig):
    backend = await rig.backend()
    proxy = await rig.plain(backend)
    proxy.config.unlink()
    proxy.signal(signal.SIGHUP)
    await until(lambda: proxy.noticed("kept the configuration"), "a notice")
    assert "No such file" in (await proxy.stats())["config.refused_reason"]
    assert (await fetch(proxy.outbound)).status == 200


async def test_routes_are_told_apart_by_path_method_and_headers(rig):
    backend = await rig.backend()
    proxy = await rig.pipy()
    routes = [
        config.route(path={"exact": "/exact"}, methods=["GET"]),
        config.route(path={"prefix": "/api"}),
        config.route(path={"regex": "^/item/[0-9]+$"}),
        config.route(path={"prefix": "/"}, headers=[{"name": "x-kind", "regex": "^gold"}]),
    ]
    await proxy.apply(config.plain(proxy.outbound.port, backend.address, *routes))
    cases = [
        (request("GET", "/exact"), 200),
        (request("GET", "/exact?q"), 200),
        (request("POST", "/exact"), 403),
        (request("GET", "/exact/"), 403),
        (request("GET", "/api"), 200),
        (request("GET", "/api/v1"), 200),
        (request("GET", "/apis"), 403),
        (request("GET", "/x/../api"), 200),
        (request("GET", "/api/../exact"), 200),
        (request("GET", "/api/../secret"), 403),
        (request("GET", "/api/%2e%2e/secret"), 403),
        (request("GET", "/api/..%2fsecret"), 400),
        (request("GET", "/item/42"), 200),
        (request("GET", "/item/42x"), 403),
        (request("GET", "/else", "X-Kind: golden"), 200),
        (request("GET", "/else", "X-Kind: golden", "X-Kind: lead"), 403),
    ]
    for raw, status in cases:
        assert (await fetch(proxy.outbound, raw)).status == status, raw
