"""Retry and UpstreamTrafficSetting: what they make of clusters, hosts, routes and ports."""

from typing import Any

import pytest
from world import World, port

from fsm.compile import Change, IncrementalCompiler, assess
from fsm.model import Key

API = "policy.flomesh.io/v1alpha1"


def shop(*, permissive: bool = True, retries: bool = True) -> World:
    world = World().namespace("shop")
    world.mesh(permissive=permissive, featureFlags={"enableRetryPolicy": retries})
    world.pod("shop", "clerk")
    world.pod("shop", "guard")
    world.workload("shop", "till", port(80, 8080, app="http"))
    return world.workload("shop", "db", port(3306, app="tcp"))


def retry(world: World, name: str = "retry", **policy: Any) -> World:
    return world.policy(
        "Retry",
        API,
        "shop",
        name,
        {
            "source": {"kind": "ServiceAccount", "name": "clerk", "namespace": "shop"},
            "destinations": [{"kind": "Service", "name": "till", "namespace": "shop"}],
            "retryPolicy": {"retryOn": "5xx", "numRetries": 5, **policy},
        },
    )


def setting(world: World, service: str, name: str = "setting", **spec: Any) -> World:
    spec = {"host": f"{service}.shop.svc.cluster.local", **spec}
    return world.policy("UpstreamTrafficSetting", API, "shop", name, spec)


def told(world: World, kind: str, name: str) -> tuple[str, str]:
    (found,) = [s for s in assess(world.snapshot()) if (s.kind, s.name) == (kind, name)]
    return found.current_status, found.reason


def test_only_the_source_of_a_retry_tries_again_and_only_at_its_destinations() -> None:
    world = retry(shop(), perTryTimeout="1s", retryBackoffBaseInterval="2s")
    clerk, guard = world.compile("shop", "clerk"), world.compile("shop", "guard")
    rule = clerk.clusters["shop/till|8080"].retry
    assert rule is not None
    assert (rule.origin, rule.retries_max) == ("Retry/shop/retry", 5)
    assert (rule.per_try_timeout_ms, rule.backoff_ms) == (1_000, 1_000)
    assert [(s.first, s.last) for s in rule.statuses] == [(500, 599)]
    assert clerk.clusters["shop/db|3306"].retry is None
    assert guard.clusters["shop/till|8080"].retry is None


@pytest.mark.parametrize("retries", [True, False])
def test_retries_have_a_switch(retries: bool) -> None:
    world = retry(shop(retries=retries))
    cluster = world.compile("shop", "clerk").clusters["shop/till|8080"]
    assert (cluster.retry is not None) == retries
    expected = "in effect" if retries else "enableRetryPolicy"
    assert expected in told(world, "Retry", "retry")[1]


def test_the_first_of_two_retries_by_name_is_followed_and_the_other_says_so() -> None:
    world = retry(retry(shop(), "b", numRetries=2), "a", numRetries=3)
    rule = world.compile("shop", "clerk").clusters["shop/till|8080"].retry
    assert rule is not None
    assert rule.retries_max == 3
    assert "Retry shop/a is about the same calls" in told(world, "Retry", "b")[1]


def test_limits_and_the_circuit_breaker_are_kept_by_the_callers() -> None:
    http = {
        "maxRequests": 1,
        "maxPendingRequests": 2,
        "maxRequestsPerConnection": 3,
        "maxRetries": 4,
        "circuitBreaking": {
            "statTimeWindow": "1m",
            "minRequestAmount": 200,
            "errorRatioThreshold": 0.1,
            "degradedTimeWindow": "10s",
        },
    }
    tcp = {"maxConnections": 5, "connectTimeout": "2s"}
    world = setting(shop(), "till", connectionSettings={"tcp": tcp, "http": http})
    cluster = world.compile("shop", "guard").clusters["shop/till|8080"]
    limits = cluster.limits
    assert (limits.requests_max, limits.pending_max, limits.connections_max) == (1, 2, 5)
    assert (limits.requests_per_connection_max, limits.retries_max) == (3, 4)
    assert limits.origin == "UpstreamTrafficSetting/shop/setting"
    assert cluster.connect_timeout_ms == 2_000
    breaker = cluster.circuit_breaker
    assert breaker is not None
    assert (breaker.window_ms, breaker.open_ms, breaker.error_permille) == (60_000, 10_000, 100)
    assert (breaker.status, breaker.body) == (409, "Coming soon ...")
    assert world.compile("shop", "guard").clusters["shop/db|3306"].circuit_breaker is None


def test_rate_limits_are_kept_by_the_service_itself() -> None:
    world = setting(
        shop(),
        "till",
        rateLimit={
            "local": {
                "tcp": {"connections": 7, "unit": "hour"},
                "http": {"requests": 3, "unit": "minute", "burst": 10},
            }
        },
        httpRoutes=[
            {"path": ".*", "rateLimit": {"local": {"requests": 1, "unit": "second"}}},
            {"path": "/never", "rateLimit": {"local": {"requests": 1, "unit": "second"}}},
        ],
    )
    inbound = world.compile("shop", "till").inbound
    assert inbound is not None
    (match,) = inbound.matches
    assert match.rate_limit is not None
    assert (match.rate_limit.amount, match.rate_limit.window_ms) == (7, 3_600_000)
    limits = [host.rate_limit for host in match.hosts]
    assert all(limit and (limit.amount, limit.burst) == (3, 10) for limit in limits)
    routes = [route.rate_limit for host in match.hosts for route in host.routes]
    assert all(limit and limit.origin.endswith("setting#.*") for limit in routes)
    assert world.compile("shop", "db").inbound.matches[0].rate_limit is None


def test_the_newest_setting_of_a_service_is_followed() -> None:
    world = shop()
    for name, created, burst in (("z", "2026-01-01", 1), ("a", "2026-01-02", 2)):
        limit = {"local": {"http": {"requests": 3, "unit": "minute", "burst": burst}}}
        setting(world, "till", name, rateLimit=limit)
        created = f"{created}T00:00:00Z"
        world.found["UpstreamTrafficSetting"][-1]["metadata"]["creationTimestamp"] = created
    inbound = world.compile("shop", "till").inbound
    assert inbound is not None
    limit = inbound.matches[0].hosts[0].rate_limit
    assert limit is not None
    assert (limit.burst, limit.origin) == (2, "UpstreamTrafficSetting/shop/a")
    assert "is newer and is followed" in told(world, "UpstreamTrafficSetting", "z")[1]
    assert told(world, "UpstreamTrafficSetting", "a")[1] == "in effect"


def test_a_setting_of_no_service_says_so() -> None:
    assert (
        "not in the mesh" in told(setting(shop(), "nobody"), "UpstreamTrafficSetting", "setting")[1]
    )


@pytest.mark.parametrize("permissive", [True, False])
def test_a_policy_that_comes_and_goes_is_delivered_and_taken_back(permissive: bool) -> None:
    world = shop(permissive=permissive)
    if not permissive:
        world.group("shop", "all", {"name": "all", "pathRegex": ".*", "methods": ["*"]})
        rule = ("HTTPRouteGroup", "all")
        world.target("open", ("shop", "till"), [("shop", "clerk"), ("shop", "guard")], rule)
    compiler = IncrementalCompiler(world.settings)
    compiler.begin(world.objects(), trust_roots=world.roots)
    uids = [pod["metadata"]["uid"] for pod in world.found["Pod"]]
    texts = {uid: str(compiler.compile(uid)) for uid in uids}
    assert compiler.due == []
    retry(world)
    setting(world, "till", connectionSettings={"tcp": {"maxConnections": 5}})
    added = {kind: world.found[kind][-1] for kind in ("Retry", "UpstreamTrafficSetting")}
    compiler.update(
        [Change(kind, Key("shop", _name(obj)), obj) for kind, obj in added.items()],
        trust_roots=world.roots,
    )
    due = set(compiler.due)
    assert due
    for uid in due:
        compiler.compile(uid)
    fresh = IncrementalCompiler(world.settings)
    fresh.begin(world.objects(), trust_roots=world.roots)
    for uid in uids:
        mine, anew = compiler.compile(uid), fresh.compile(uid)
        assert mine is not None
        assert anew is not None
        assert mine.version == anew.version
    assert len(texts) == len(uids)


def _name(obj: Any) -> str:
    return str(obj["metadata"]["name"])
