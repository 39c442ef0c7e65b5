"""Upstreams: retries, failover, ejections, limits, and what outlives a change of configuration."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest
from proxyrig import config
from proxyrig.backend import Connection, Request
from proxyrig.waiting import until
from proxyrig.wire import Wire, fetch, request


def answering(*statuses: int, name: str = "app") -> Any:
    """Give a script that answers with these statuses in turn, then with the last."""
    left = list(statuses)

    async def script(_request: Request, connection: Connection) -> bool:
        status = left.pop(0) if len(left) > 1 else left[0]
        await connection.respond(status, name.encode())
        return True

    return script


def upstream(port: int, *endpoints: Any, **changes: Any) -> Any:
    """Give a configuration with one cluster of these endpoints."""
    return config.whole(
        outbound={"matches": [config.http_match(port, config.host(config.route()))]},
        clusters={"app": config.cluster(*endpoints, **changes)},
    )


def retry(**changes: Any) -> Any:
    return {
        "origin": "Retry/shop/retry",
        "statuses": [{"first": 500, "last": 599}],
        "retries_max": 5,
        "backoff_ms": 1,
        **changes,
    }


async def counted(proxy: Any, name: str, cluster: str = "app") -> int:
    return int((await proxy.stats())[f"cluster.{cluster}.{name}"])


async def test_a_failing_request_is_retried_as_often_as_the_policy_says(rig):
    backend = await rig.backend(answering(503))
    proxy = await rig.pipy()
    await proxy.apply(
        upstream(proxy.outbound.port, config.endpoint(backend.address), retry=retry())
    )
    response = await fetch(proxy.outbound, request())
    assert response.status == 503
    assert len(backend.requests) == 6
    # The answers that nobody wanted passed, so one connection served all tries.
    assert len(backend.connections) == 1
    for name, count in {
        "upstream_rq_retry": 5,
        "upstream_rq_retry_backoff_exponential": 5,
        "upstream_rq_retry_backoff_ratelimited": 0,
        "upstream_rq_retry_limit_exceeded": 1,
        "upstream_rq_retry_overflow": 0,
        "upstream_rq_retry_success": 0,
        "upstream_rq_total": 6,
        "upstream_rq_503": 6,
    }.items():
        await until(lambda n=name, c=count: _is(proxy, n, c), f"{name} is {count}")


async def _is(proxy: Any, name: str, count: int) -> bool:
    return await counted(proxy, name) == count


async def test_a_retry_that_succeeds_is_what_the_client_sees_with_its_body_sent_again(rig):
    backend = await rig.backend(answering(500, 502, 200))
    proxy = await rig.pipy()
    await proxy.apply(
        upstream(proxy.outbound.port, config.endpoint(backend.address), retry=retry())
    )
    body = b"once more " * 1000
    response = await fetch(proxy.outbound, request("POST", "/", body=body))
    assert response.status == 200
    assert [r.body for r in backend.requests] == [body] * 3
    assert await counted(proxy, "upstream_rq_retry_success") == 1


async def test_a_body_too_long_to_keep_is_sent_once(rig):
    backend = await rig.backend(answering(503))
    proxy = await rig.pipy()
    await proxy.apply(
        upstream(proxy.outbound.port, config.endpoint(backend.address), retry=retry())
    )
    response = await fetch(proxy.outbound, request("POST", "/", body=b"x" * 200_000))
    assert response.status == 503
    assert len(backend.requests) == 1


async def test_a_status_that_the_policy_does_not_name_is_not_retried(rig):
    backend = await rig.backend(answering(404))
    proxy = await rig.pipy()
    await proxy.apply(
        upstream(proxy.outbound.port, config.endpoint(backend.address), retry=retry())
    )
    assert (await fetch(proxy.outbound, request())).status == 404
    assert await counted(proxy, "upstream_rq_retry") == 0


async def test_a_try_that_takes_too_long_is_given_up_and_made_again(rig):
    first = True

    async def script(_request: Request, connection: Connection) -> bool:
        nonlocal first
        if first:
            first = False
            await asyncio.Event().wait()
        await connection.respond(200)
        return True

    backend = await rig.backend(script)
    proxy = await rig.pipy()
    policy = retry(per_try_timeout_ms=100)
    await proxy.apply(upstream(proxy.outbound.port, config.endpoint(backend.address), retry=policy))
    assert (await fetch(proxy.outbound, request())).status == 200
    assert await counted(proxy, "upstream_rq_timeout") == 1


async def test_without_retries_left_a_timeout_is_504(rig):
    async def script(_request: Request, _connection: Connection) -> bool:
        await asyncio.Event().wait()
        return False

    backend = await rig.backend(script)
    proxy = await rig.pipy()
    policy = retry(per_try_timeout_ms=50, retries_max=1)
    await proxy.apply(upstream(proxy.outbound.port, config.endpoint(backend.address), retry=policy))
    response = await fetch(proxy.outbound, request())
    assert (response.status, response.body) == (504, b"upstream request timeout")
    assert len(backend.requests) == 2


async def test_an_endpoint_that_cannot_be_reached_costs_no_request_and_is_ejected(rig):
    gone, there = await rig.backend(), await rig.backend()
    gone.stop_listening()
    proxy = await rig.pipy()
    endpoints = (config.endpoint(gone.address), config.endpoint(there.address))
    await proxy.apply(upstream(proxy.outbound.port, *endpoints))
    for index in range(20):
        response = await fetch(proxy.outbound, request("POST", f"/{index}", body=b"abc"))
        assert response.status == 200
    assert len(there.requests) == 20
    assert await counted(proxy, "outlier_detection_ejections_total") >= 1
    # Three failures eject it: the others did not try it.
    assert await counted(proxy, "upstream_cx_connect_fail") < 10


async def test_endpoints_of_weight_0_are_used_only_when_the_others_fail(rig):
    main, spare = await rig.backend(), await rig.backend()
    proxy = await rig.pipy()
    endpoints = (config.endpoint(main.address), config.endpoint(spare.address, weight=0))
    await proxy.apply(upstream(proxy.outbound.port, *endpoints))
    for _ in range(5):
        assert (await fetch(proxy.outbound, request())).status == 200
    assert (len(main.requests), len(spare.requests)) == (5, 0)
    main.stop_listening()
    for connection in main.connections:
        connection.writer.close()
    for _ in range(5):
        assert (await fetch(proxy.outbound, request())).status == 200
    assert len(spare.requests) == 5


async def test_a_cluster_of_weight_0_takes_over_when_the_other_cannot_be_reached(rig):
    main, spare = await rig.backend(), await rig.backend()
    main.stop_listening()
    proxy = await rig.pipy()
    rule = config.route(("main", 100), ("spare", 0))
    await proxy.apply(
        config.whole(
            outbound={"matches": [config.http_match(proxy.outbound.port, config.host(rule))]},
            clusters={
                "main": config.cluster(config.endpoint(main.address)),
                "spare": config.cluster(config.endpoint(spare.address)),
            },
        )
    )
    for _ in range(3):
        assert (await fetch(proxy.outbound, request())).status == 200
    assert len(spare.requests) == 3


async def test_a_key_goes_to_one_endpoint_as_long_as_it_is_there(rig):
    backends = [await rig.backend(answering(200, name=str(i))) for i in range(4)]
    proxy = await rig.pipy()
    hashing = {"policy": "hash", "header": "x-user"}
    port = proxy.outbound.port

    def of(some: Any) -> Any:
        return upstream(port, *(config.endpoint(b.address) for b in some), balancing=hashing)

    async def homes() -> dict[int, bytes]:
        return {
            user: (await fetch(proxy.outbound, request("GET", "/", f"X-User: {user}"))).body
            for user in range(24)
        }

    await proxy.apply(of(backends))
    before = await homes()
    assert len(set(before.values())) > 1
    assert await homes() == before
    await proxy.apply(of(backends[1:]))
    after = await homes()
    assert all(after[user] == home for user, home in before.items() if home != b"0")


async def test_least_work_leaves_a_slow_endpoint_alone(rig):
    release = asyncio.Event()

    async def stuck(_request: Request, connection: Connection) -> bool:
        await release.wait()
        await connection.respond(200)
        return True

    slow, fast = await rig.backend(stuck), await rig.backend(answering(200))
    proxy = await rig.pipy()
    endpoints = (config.endpoint(slow.address), config.endpoint(fast.address))
    await proxy.apply(upstream(proxy.outbound.port, *endpoints, balancing={"policy": "least-work"}))
    waiting = []
    while not slow.requests:
        waiting.append(asyncio.create_task(fetch(proxy.outbound, request())))
        await until(lambda: waiting[-1].done() or slow.requests, "it has arrived somewhere")
    for _ in range(20):
        assert (await fetch(proxy.outbound, request())).status == 200
    assert len(slow.requests) == 1
    release.set()
    await asyncio.gather(*waiting)


async def test_a_round_goes_on_after_a_change_of_the_configuration(rig):
    one, two = (
        await rig.backend(answering(200, name="1")),
        await rig.backend(answering(200, name="2")),
    )
    proxy = await rig.pipy()
    rule = config.route(("one", 75), ("two", 25))

    def same() -> Any:
        return config.whole(
            outbound={"matches": [config.http_match(proxy.outbound.port, config.host(rule))]},
            clusters={
                "one": config.cluster(config.endpoint(one.address)),
                "two": config.cluster(config.endpoint(two.address)),
            },
        )

    seen: list[bytes] = []
    for _ in range(16):
        await proxy.apply(same())
        seen.append((await fetch(proxy.outbound, request())).body)
    assert Counter(seen) == {b"1": 12, b"2": 4}, seen
    for start in range(0, 16, 4):
        assert seen[start : start + 4].count(b"2") == 1, seen


async def test_requests_at_an_endpoint_that_leaves_finish_and_idle_connections_close(rig):
    release = asyncio.Event()

    async def slow(received: Request, connection: Connection) -> bool:
        if received.target == "/slow":
            await release.wait()
        await connection.respond(200, b"old")
        return True

    old, new = await rig.backend(slow), await rig.backend(answering(200, name="new"))
    proxy = await rig.pipy()
    await proxy.apply(upstream(proxy.outbound.port, config.endpoint(old.address)))
    busy = asyncio.create_task(fetch(proxy.outbound, request("GET", "/slow")))
    await until(lambda: len(old.requests) == 1, "the slow request arrived")
    assert (await fetch(proxy.outbound, request())).body == b"old"
    await until(lambda: old.open == 2, "one connection is busy, one idle")
    await proxy.apply(upstream(proxy.outbound.port, config.endpoint(new.address)))
    await until(lambda: old.open == 1, "the idle connection is closed")
    assert (await fetch(proxy.outbound, request())).body == b"new"
    assert not busy.done()
    release.set()
    assert (await busy).body == b"old"
    await until(lambda: old.open == 0, "the last connection is closed")


async def test_more_than_may_be_connected_waits_in_line_and_more_than_that_is_refused(rig):
    release = asyncio.Event()

    async def slow(_request: Request, connection: Connection) -> bool:
        await release.wait()
        await connection.respond(200)
        return True

    backend = await rig.backend(slow)
    proxy = await rig.pipy()
    limits = {"connections_max": 2, "pending_max": 3}
    await proxy.apply(
        upstream(proxy.outbound.port, config.endpoint(backend.address), limits=limits)
    )
    tasks = [asyncio.create_task(fetch(proxy.outbound, request())) for _ in range(9)]
    await until(lambda: sum(t.done() for t in tasks) == 4, "four are refused")
    refused = [t.result() for t in tasks if t.done()]
    assert {r.status for r in refused} == {503}
    assert refused[0].body == b"upstream overflow: too many requests wait for a connection"
    assert len(backend.connections) == 2
    assert await counted(proxy, "upstream_rq_pending_overflow") == 4
    release.set()
    statuses = Counter([(await task).status for task in tasks])
    assert statuses == {200: 5, 503: 4}
    assert len(backend.connections) == 2


async def test_nobody_waits_in_line_for_ever(rig):
    async def silent(_request: Request, _connection: Connection) -> bool:
        await asyncio.Event().wait()
        return False

    backend = await rig.backend(silent)
    proxy = await rig.pipy()
    await proxy.apply(
        upstream(
            proxy.outbound.port,
            config.endpoint(backend.address),
            limits={"connections_max": 1},
            connect_timeout_ms=200,
        )
    )
    first = asyncio.create_task(fetch(proxy.outbound, request()))
    await until(lambda: len(backend.requests) == 1, "the connection is taken")
    begun = time.monotonic()
    response = await fetch(proxy.outbound, request())
    assert (response.status, time.monotonic() - begun > 0.15) == (503, True)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)


async def test_a_client_that_leaves_the_line_hands_its_turn_on(rig):
    release = asyncio.Event()

    async def slow(_request: Request, connection: Connection) -> bool:
        await release.wait()
        await connection.respond(200)
        return True

    backend = await rig.backend(slow)
    proxy = await rig.pipy()
    await proxy.apply(
        upstream(
            proxy.outbound.port, config.endpoint(backend.address), limits={"connections_max": 1}
        )
    )
    first = asyncio.create_task(fetch(proxy.outbound, request()))
    await until(lambda: len(backend.requests) == 1, "the connection is taken")
    async with await Wire.open(proxy.outbound) as leaver:
        await leaver.send(request())
        await until(lambda: _is(proxy, "upstream_cx_overflow", 1), "it waits")
    third = asyncio.create_task(fetch(proxy.outbound, request()))
    await until(lambda: _is(proxy, "upstream_cx_overflow", 2), "the next one waits")
    release.set()
    assert [(await task).status for task in (first, third)] == [200, 200]


async def test_more_requests_than_may_be_under_way_are_refused(rig):
    release = asyncio.Event()

    async def slow(_request: Request, connection: Connection) -> bool:
        await release.wait()
        await connection.respond(200)
        return True

    backend = await rig.backend(slow)
    proxy = await rig.pipy()
    await proxy.apply(
        upstream(proxy.outbound.port, config.endpoint(backend.address), limits={"requests_max": 2})
    )
    tasks = [asyncio.create_task(fetch(proxy.outbound, request())) for _ in range(5)]
    await until(lambda: sum(t.done() for t in tasks) == 3, "three are refused")
    release.set()
    assert Counter([(await task).status for task in tasks]) == {200: 2, 503: 3}
    assert await counted(proxy, "upstream_rq_overflow") == 3
    assert (await fetch(proxy.outbound, request())).status == 200


async def test_a_connection_carries_no_more_requests_than_it_may(rig):
    backend = await rig.backend()
    proxy = await rig.pipy()
    limits = {"requests_per_connection_max": 3}
    await proxy.apply(
        upstream(proxy.outbound.port, config.endpoint(backend.address), limits=limits)
    )
    async with await Wire.open(proxy.outbound) as wire:
        for _ in range(10):
            assert (await wire.ask(request())).status == 200
    assert len(backend.connections) == 4


async def test_an_idle_connection_is_closed_when_the_cluster_says_so(rig):
    backend = await rig.backend()
    proxy = await rig.pipy()
    await proxy.apply(
        upstream(proxy.outbound.port, config.endpoint(backend.address), idle_timeout_ms=100)
    )
    assert (await fetch(proxy.outbound, request())).status == 200
    await until(lambda: backend.open == 0, "the idle connection is closed")


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_a_kept_connection_that_was_closed_costs_no_idempotent_request(rig, method):
    async def once(_request: Request, connection: Connection) -> bool:
        await connection.respond(200)
        # Closes when the next request comes, without a word.
        await connection.reader.readline()
        return False

    backend = await rig.backend(once)
    proxy = await rig.plain(backend)
    body = b"abc" if method == "PUT" else b""
    for _ in range(4):
        assert (await fetch(proxy.outbound, request(method, "/", body=body))).status == 200


async def test_a_circuit_breaker_answers_for_a_cluster_that_fails(rig):
    backend = await rig.backend(answering(200, 200, 511, 200, 511, 511, 200))
    proxy = await rig.pipy()
    breaker = {
        "origin": "UpstreamTrafficSetting/shop/app",
        "window_ms": 60_000,
        "open_ms": 300,
        "error_amount": 3,
        "status": 503,
        "body": "Service Unavailable!",
    }
    await proxy.apply(
        upstream(proxy.outbound.port, config.endpoint(backend.address), circuit_breaker=breaker)
    )
    seen = [(await fetch(proxy.outbound, request())).status for _ in range(6)]
    assert seen == [200, 200, 511, 200, 511, 511]
    response = await fetch(proxy.outbound, request())
    assert (response.status, response.body) == (503, b"Service Unavailable!")
    assert len(backend.requests) == 6
    words = "[circuit_breaker] total/slowAmount/errorAmount (open) app 6 0 3"
    await until(lambda: proxy.noticed(words), "it says so")
    assert await counted(proxy, "circuit_breaker_open") == 1
    # An open one stays open when the configuration changes elsewhere.
    await proxy.apply(
        upstream(
            proxy.outbound.port,
            config.endpoint(backend.address),
            circuit_breaker=breaker,
            connect_timeout_ms=1_000,
        )
    )
    assert (await fetch(proxy.outbound, request())).status == 503

    async def closed() -> bool:
        return (await fetch(proxy.outbound, request())).status == 200

    await until(closed, "it closes again")
    assert await counted(proxy, "circuit_breaker_open") == 0


def limited(number: int, address: Any, **limits: Any) -> Any:
    """Give a configuration of the inbound side, without encryption."""
    match = config.http_match(number, config.host(config.route(("app", 100))), mtls="disabled")
    rule = {"origin": "UpstreamTrafficSetting/shop/app", "amount": 3, "window_ms": 60_000}
    for place, changes in limits.items():
        where = {"port": match, "service": match["hosts"][0], "route": None}[place]
        (where if where is not None else match["hosts"][0]["routes"][0])["rate_limit"] = {
            **rule,
            **changes,
        }
    return config.whole(
        inbound={"matches": [match]},
        clusters={"app": config.cluster(config.endpoint(address))},
    )


@pytest.mark.parametrize(("place", "counter"), [("service", "service"), ("route", "route")])
async def test_three_of_ten_requests_pass_a_limit_of_three_per_minute(rig, place, counter):
    backend = await rig.backend()
    proxy = await rig.pipy()
    headers = [{"name": "retry-after", "value": "60"}]
    port = proxy.inbound.port
    await proxy.apply(limited(port, backend.address, **{place: {"headers": headers}}))
    responses = [await fetch(proxy.inbound, request()) for _ in range(10)]
    assert Counter(r.status for r in responses) == {200: 3, 429: 7}
    assert (responses[-1].body, responses[-1].header("retry-after")) == (b"", "60")
    line = f"http_local_rate_limiter.http_local_rate_limit.rate_limited.throttle_{counter}"
    assert (await proxy.stats())[line] == "7"
    # The bucket is as empty after a change as before, and full again when the limit itself changes.
    await proxy.apply(limited(port, backend.address, **{place: {"headers": headers}}))
    assert (await fetch(proxy.inbound, request())).status == 429
    await proxy.apply(limited(port, backend.address, **{place: {"burst": 10}}))
    statuses = [(await fetch(proxy.inbound, request())).status for _ in range(11)]
    assert statuses == [200] * 10 + [429]


async def test_connections_beyond_the_limit_of_a_port_are_reset(rig):
    backend = await rig.backend()
    proxy = await rig.pipy()
    await proxy.apply(limited(proxy.inbound.port, backend.address, port={"amount": 2}))
    for _ in range(2):
        assert (await fetch(proxy.inbound, request())).status == 200
    for _ in range(3):
        with pytest.raises((ConnectionError, EOFError, asyncio.IncompleteReadError)):
            await fetch(proxy.inbound, request())
    stats = await proxy.stats()
    name = f"local_rate_limit.inbound_shop/client_{proxy.inbound.port}_tcp.rate_limited"
    assert stats[name] == "3"
