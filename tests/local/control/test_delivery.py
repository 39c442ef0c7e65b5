"""Delivery over real TLS: who gets a certificate, who gets a configuration, and how fast."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import orjson
import pytest
from prometheus_client import CollectorRegistry

from fsm.ca import Tresor, new_root
from fsm.delivery import (
    Compiled,
    DeliveryServer,
    FailingPlugins,
    PodFacts,
    ProxyKey,
    ProxyRegistry,
    channel,
)
from fsm.delivery.metrics import DeliveryMetrics
from fsm.delivery.tls import ServerTls
from fsm.kube import TokenIdentity


def compiled(version: str, **content: Any) -> Compiled:
    return Compiled(version, orjson.dumps({"version": version, **content}))


@dataclass
class Mesh:
    """A delivery server with a world that the test writes."""

    server: DeliveryServer
    registry: ProxyRegistry
    kube: Any
    pods: dict[tuple[str, str], PodFacts]
    late: dict[tuple[str, str], PodFacts]
    namespaces: set[str]
    clock: Any
    roots: str
    asked: list[ProxyKey] = field(default_factory=list)

    def pod(self, namespace: str, name: str) -> PodFacts | None:
        return self.pods.get((namespace, name))

    async def fetch_pod(self, namespace: str, name: str) -> PodFacts | None:
        return self.late.get((namespace, name))

    def monitored(self, namespace: str) -> bool:
        return namespace in self.namespaces

    def add(self, namespace: str, name: str, account: str = "web") -> PodFacts:
        facts = PodFacts(ProxyKey(namespace, name, f"uid-{name}"), account)
        self.pods[namespace, name] = facts
        token = TokenIdentity(namespace, account, name, facts.key.uid)
        self.kube.tokens[f"token-{name}"] = token
        return facts


class Clock:
    """The wall clock, which tests may push."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
async def mesh(kube, tresor):
    clock = Clock()
    metrics = DeliveryMetrics(CollectorRegistry())
    registry = ProxyRegistry(time.monotonic, time.time, metrics.applied.observe)
    failing = FailingPlugins(
        CollectorRegistry(), clock=time.monotonic, alive=lambda key: registry.get(key) is not None
    )
    world = Mesh(None, registry, kube, {}, {}, {"shop"}, clock, "".join(tresor.roots))
    server = DeliveryServer(
        authority=tresor,
        registry=registry,
        reviewer=kube,
        world=world,
        metrics=metrics,
        leaf_lifetime=lambda: timedelta(hours=1),
        now=clock,
        on_new_proxy=lambda record: world.asked.append(record.key),
        failing=failing,
    )
    tls = ServerTls(
        tresor,
        ["fsm-controller.fsm-system.svc"],
        lifetime=timedelta(hours=1),
        now=clock,
        client_certificates=True,
    )
    await server.start(tls.context, "127.0.0.1", 0)
    world.server = server
    world.tls = tls
    world.metrics = metrics
    world.failing = failing
    yield world
    await server.stop()


@pytest.fixture
async def proxy(mesh, make_proxy):
    """A proxy of Pod shop/web-1 with its token, and no certificate yet."""
    mesh.add("shop", "web-1")
    return await make_proxy(
        mesh.server.port, mesh.roots, "shop", "web-1", "uid-web-1", "token-web-1"
    )


async def test_a_pod_gets_the_certificate_of_its_service_account(mesh, proxy):
    status, answer = await proxy.certify()
    assert status == 200
    assert answer["identity"] == "spiffe://cluster.local/ns/shop/sa/web"
    assert answer["roots"] == [mesh.roots]
    assert answer["renew_after_s"] in (2399, 2400)  # certificates know whole seconds
    assert datetime.fromisoformat(answer["not_after"]) > datetime.now(UTC)


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"token": ""}, 401, "token is needed"),
        ({"token": "stolen"}, 401, "token is refused"),
        ({"bound": (None, None)}, 403, "not bound to a Pod"),
        ({"bound": ("web-2", "uid-web-2")}, 403, "belongs to Pod shop/web-2"),
        ({"bound": ("web-1", "uid-of-a-predecessor")}, 403, "belongs to Pod"),
        ({"account": "admin"}, 403, "runs as ServiceAccount web"),
        ({"outside": True}, 403, "not in this mesh"),
        ({"gone": True}, 403, "there is no Pod shop/web-1"),
        ({"body": {"csr": "junk"}}, 400, "not a PKCS #10"),
        ({"body": {"csr": 7}}, 400, "must hold a signing request"),
        ({"body": {"pod": "web-1"}}, 400, "namespace/name/uid"),
        ({"body": {"pod": {"namespace": "shop", "name": "../x", "uid": "u"}}}, 400, "name is"),
        ({"down": True}, 503, "cannot review"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
async def test_whoever_does_not_fit_gets_no_certificate(mesh, proxy, kube, change, status, words):
    if "token" in change:
        proxy.token = change["token"]
    if "bound" in change:
        kube.tokens["token-web-1"] = TokenIdentity("shop", "web", *change["bound"])
    if "account" in change:
        kube.tokens["token-web-1"] = TokenIdentity("shop", "admin", "web-1", "uid-web-1")
    if "outside" in change:
        mesh.namespaces.clear()
    if "gone" in change:
        mesh.pods.clear()
    kube.down = "down" in change
    answered, answer = await proxy.certify(**change.get("body", {}))
    assert (answered, words in answer["error"]) == (status, True), answer


async def test_a_pod_that_our_watch_has_not_seen_yet_is_asked_for(mesh, proxy):
    mesh.late.update(mesh.pods)
    mesh.pods.clear()
    status, _ = await proxy.certify()
    assert status == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
async def test_a_body_that_is_no_json_object_is_refused_in_words(mesh, proxy, body):
    status, answer = await proxy.post(
        "/v1/certificates", body, {"Authorization": "Bearer token-web-1"}
    )
    assert status == 400
    assert "JSON" in answer["error"]


async def test_a_huge_body_is_refused(mesh, proxy):
    status, answer = await proxy.post(
        "/v1/certificates", b"x" * 100_000, {"Authorization": "Bearer t"}
    )
    assert status == 413
    assert answer["error"]


async def test_a_configuration_needs_a_certificate(mesh, proxy):
    status, answer = await proxy.poll()
    assert (status, "certificate" in answer["error"]) == (401, True)


async def test_a_certificate_of_another_authority_does_not_connect(mesh, proxy):
    other = Tresor(*new_root(datetime.now(UTC)), trust_domain="cluster.local")
    mesh.server._authority, own = other, mesh.server._authority
    await proxy.certify()
    mesh.server._authority = own
    with pytest.raises((aiohttp.ClientError, ConnectionError, ssl.SSLError)):
        await proxy.poll()


async def test_a_new_proxy_is_announced_and_gets_what_is_published(mesh, proxy):
    await proxy.certify()
    poll = asyncio.create_task(proxy.poll(wait_s=10))
    await _until(lambda: mesh.asked)
    key = mesh.asked[0]
    assert key == ("shop", "web-1", "uid-web-1")
    mesh.registry.publish(key, compiled("v1", identity="x"))
    assert await poll == (200, {"version": "v1", "identity": "x"})
    assert await proxy.ack("v1") == (204, {})
    assert mesh.registry.get(key).applied_version == "v1"
    assert mesh.registry.get(key).certificate_not_after > time.time()


async def test_a_poll_without_news_ends_with_304_and_with_news_at_once(mesh, proxy):
    await proxy.certify()
    await proxy.poll()
    key = mesh.asked[0]
    mesh.registry.publish(key, compiled("v1"))
    assert (await proxy.poll(version="v1", wait_s=0.05))[0] == 304
    waiting = asyncio.create_task(proxy.poll(version="v1", wait_s=50))
    await _until(lambda: mesh.registry.get(key).polls == 1)
    mesh.registry.publish(key, compiled("v1"))
    await asyncio.sleep(0)
    assert not waiting.done(), "the same version wakes nobody"
    mesh.registry.publish(key, compiled("v2"))
    assert (await waiting)[1]["version"] == "v2"


async def test_a_poll_that_says_what_runs_is_an_acknowledgement(mesh, proxy):
    await proxy.certify()
    await proxy.poll()
    key = mesh.asked[0]
    change = mesh.registry.begin_change(time.monotonic(), ("TrafficSplit/shop/s",))
    mesh.registry.publish(key, compiled("v1"), change)
    assert (await proxy.poll())[0] == 200
    # Received, and not applied yet: it runs nothing.
    assert (await proxy.poll(version="v1"))[0] == 304
    assert (change.applied, mesh.registry.get(key).applied_version) == (0, None)
    runs = proxy.headers() | {"fsm-applied": "v1"}
    assert (await proxy.poll(version="v1", headers=runs))[0] == 304
    assert (change.applied, mesh.registry.get(key).applied_version) == (1, "v1")
    # Said again it is no news, and a later version is not applied by it.
    later = mesh.registry.begin_change(time.monotonic(), ("TrafficSplit/shop/s",))
    mesh.registry.publish(key, compiled("v2"), later)
    assert (await proxy.poll(version="v1", headers=runs))[1]["version"] == "v2"
    assert (change.applied, later.applied) == (1, 0)


@dataclass(frozen=True, slots=True)
class Different(Compiled):
    """A configuration that says how to come to it from others."""

    said: bytes | None = None

    def difference(self, other: Compiled) -> bytes | None:
        return self.said and orjson.dumps({"from": other.version, "said": self.said.decode()})


async def test_a_difference_goes_to_whoever_takes_it_and_holds_its_base(mesh, proxy):
    await proxy.certify()
    await proxy.poll()
    key = mesh.asked[0]

    async def ask(version: str, **more: str):
        return await proxy.poll(version=version, headers=proxy.headers() | more)

    mesh.registry.publish(key, compiled("v1"))
    takes = {"A-IM": "gzip, fsm-difference"}
    assert (await ask("", **takes))[0] == 200, "it holds nothing"
    whole = compiled("v2").body
    mesh.registry.publish(key, Different("v2", whole, b"short"))
    assert await ask("v1", **takes) == (226, {"from": "v1", "said": "short"})
    mesh.registry.publish(key, Different("v3", compiled("v3").body, b"short"))
    assert (await ask("v1", **takes))[0] == 200, "it says that it holds another one"
    mesh.registry.publish(key, Different("v4", compiled("v4").body, b"short"))
    assert (await ask("v3", **{"A-IM": "vcdiff"}))[0] == 200, "it takes none"
    mesh.registry.publish(key, Different("v5", compiled("v5").body, None))
    assert (await ask("v4", **takes))[0] == 200, "the whole is as short"


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"headers": {"other": "x"}}, 400, "fsm-pod"),
        ({"headers": {"fsm-pod": "shop/web-1"}}, 400, "namespace/name/uid"),
        ({"headers": {"fsm-pod": "shop/web-2/uid-web-2"}}, 403, "runs as ServiceAccount other"),
        ({"headers": {"fsm-pod": "bank/web-1/uid-web-1"}}, 403, "may not ask"),
        ({"headers": {"fsm-pod": "shop/web-1/uid-old"}}, 404, "not known here"),
        ({"outside": True}, 403, "not in this mesh"),
        ({"gone": True}, 404, "not known here"),
        ({"late": True}, 401, "expired"),
        ({"wait": float("nan")}, 400, "wait_s"),
        ({"wait": -1}, 400, "wait_s"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else None,
)
async def test_a_configuration_is_for_its_own_pod_only(mesh, proxy, change, status, words):
    mesh.add("shop", "web-2", "other")
    await proxy.certify()
    if "outside" in change:
        mesh.namespaces.clear()
    if "gone" in change:
        mesh.pods.clear()
    if "late" in change:
        assert (await proxy.poll())[0] == 503
        mesh.clock.ahead = timedelta(hours=2)
    answered, answer = await proxy.poll(wait_s=change.get("wait", 0), headers=change.get("headers"))
    assert (answered, words in answer["error"]) == (status, True), answer


async def test_a_waiting_poll_ends_when_its_pod_goes(mesh, proxy):
    await proxy.certify()
    waiting = asyncio.create_task(proxy.poll(wait_s=50))
    await _until(lambda: mesh.asked)
    mesh.pods.clear()
    mesh.registry.forget_except([])
    status, answer = await waiting
    assert (status, "gone" in answer["error"]) == (404, True)


async def test_a_proxy_that_hangs_up_leaves_no_poll_behind(mesh, proxy):
    await proxy.certify()
    waiting = asyncio.create_task(proxy.poll(wait_s=50))
    await _until(lambda: mesh.asked)
    record = mesh.registry.get(mesh.asked[0])
    assert record.polls == 1
    waiting.cancel()
    await proxy.close()
    await _until(lambda: record.polls == 0)


async def test_stopping_sends_waiting_proxies_away_at_once(mesh, proxy):
    await proxy.certify()
    waiting = asyncio.create_task(proxy.poll(wait_s=50))
    await _until(lambda: mesh.asked)
    begun = time.monotonic()
    await mesh.server.stop()
    status, answer = await waiting
    assert (status, "shutting down" in answer["error"]) == (503, True)
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"version": "", "outcome": "applied"},
        {"version": "v1", "outcome": "eaten"},
        {"version": "v1", "outcome": "refused", "reason": 7},
    ],
)
async def test_a_malformed_acknowledgement_is_refused(mesh, proxy, body):
    await proxy.certify()
    status, answer = await proxy.post("/v1/acks", body)
    assert (status, "the field" in answer["error"]) == (400, True)


async def test_a_refusal_is_kept_with_its_reason_until_a_version_is_applied(mesh, proxy):
    await proxy.certify()
    await proxy.poll()
    key = mesh.asked[0]
    change = mesh.registry.begin_change(time.monotonic(), ("TrafficTarget/shop/t",))
    mesh.registry.publish(key, compiled("bad"), change)
    await proxy.ack("bad", "refused", "cluster missing")
    record = mesh.registry.get(key)
    assert (record.refused_version, record.refused_reason) == ("bad", "cluster missing")
    assert (change.refused, change.applied) == (1, 0)
    mesh.registry.publish(key, compiled("good"), mesh.registry.begin_change(time.monotonic(), ()))
    await proxy.ack("good")
    assert (record.refused_reason, record.applied_version) == (None, "good")


async def test_the_server_certificate_is_renewed_while_it_serves(mesh, proxy, make_proxy):
    before = mesh.tls.certificate
    renewing = asyncio.create_task(mesh.tls.keep_fresh())
    mesh.clock.ahead = timedelta(minutes=50)
    renewing.cancel()
    renewing = asyncio.create_task(mesh.tls.keep_fresh())
    await _until(lambda: mesh.tls.certificate is not before)
    renewing.cancel()
    _, writer = await asyncio.open_connection(
        "127.0.0.1", mesh.server.port, ssl=_unverified(), server_hostname=""
    )
    served = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    assert ssl.DER_cert_to_PEM_cert(served) == mesh.tls.certificate.chain[0]
    writer.close()
    await writer.wait_closed()


async def test_old_tls_is_refused(mesh):
    context = _unverified()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", mesh.server.port, ssl=context)


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"])
async def test_whoever_speaks_no_tls_is_cut_off(mesh, proxy, monkeypatch, said):
    monkeypatch.setattr(channel, "HANDSHAKE_S", 0.05)
    monkeypatch.setattr(channel, "SWEEP_S", 0.02)
    mesh.server._channels.sweep()
    reader, writer = await asyncio.open_connection("127.0.0.1", mesh.server.port)
    writer.write(said)
    async with asyncio.timeout(10):
        # What TLS says of it, if anything, and the end.
        with contextlib.suppress(ConnectionError):
            assert len(await reader.read()) < 100
    writer.close()
    assert (await proxy.certify())[0] == 200


async def test_two_hundred_proxies_get_a_change_within_a_second(mesh, make_proxy, tresor):
    proxies = []
    for number in range(200):
        mesh.add("shop", f"p-{number}")
        proxies.append(
            await make_proxy(
                mesh.server.port,
                mesh.roots,
                "shop",
                f"p-{number}",
                f"uid-p-{number}",
                f"token-p-{number}",
            )
        )
    for proxy in proxies:
        await proxy.certify()
    tasks = [asyncio.create_task(proxy.follow()) for proxy in proxies]
    try:
        keys = [ProxyKey("shop", p.pod, p.uid) for p in proxies]
        await _until(lambda: len(set(mesh.asked)) == 200, 30)
        for key in keys:
            mesh.registry.publish(key, compiled("v1", me=key.pod))
        await _until(lambda: all(p.applied for p in proxies), 30)
        assert all(p.applied[-1][1]["me"] == p.pod for p in proxies)
        await _until(lambda: all(r.polls for r in mesh.registry.records()), 30)
        begun = time.monotonic()
        change = mesh.registry.begin_change(begun, ("TrafficSplit/shop/s",))
        for key in keys[:150]:
            mesh.registry.publish(key, compiled("v2", me=key.pod), change)
        await _until(lambda: change.applied == 150, 30)
        assert change.slowest_s < 1.0, change
        assert [len(p.applied) for p in proxies] == [2] * 150 + [1] * 50
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _until(state, deadline_s=10.0):
    async with asyncio.timeout(deadline_s):
        while not state():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def in_parts(version: str, shared: bytes) -> Compiled:
    """A large configuration of which most is shared, and cut in odd places."""
    head = orjson.dumps({"version": version, "own": "x" * 10})[:-1]
    return Compiled(
        version, (head, b',"shared":"', memoryview(shared)[:70_001], shared[70_001:], b'"}')
    )


async def test_a_large_configuration_in_parts_arrives_whole(mesh, proxy):
    await proxy.certify()
    record, _ = mesh.registry.touch(ProxyKey("shop", "web-1", "uid-web-1"), "id")
    shared = bytes(random.Random(7).choices(b"abcdefgh", k=1_000_003))
    for version in ("V1", "V2"):
        mesh.registry.publish(record.key, in_parts(version, shared))
        assert await proxy.poll() == (
            200,
            {"version": version, "own": "x" * 10, "shared": shared.decode()},
        )


async def test_a_proxy_that_does_not_read_holds_little_memory_and_nobody_up(
    mesh, proxy, make_proxy, monkeypatch
):
    await proxy.certify()
    mesh.add("shop", "web-2")
    other = await make_proxy(
        mesh.server.port, mesh.roots, "shop", "web-2", "uid-web-2", "token-web-2"
    )
    await other.certify()
    taken = 0
    plain = Compiled.slices

    def counted(compiled, most):
        nonlocal taken
        for piece in plain(compiled, most):
            taken += len(piece)
            yield piece

    monkeypatch.setattr(Compiled, "slices", counted)
    large = Compiled("V1", (b"y" * 40_000_000,))
    for name in ("web-1", "web-2"):
        record, _ = mesh.registry.touch(ProxyKey("shop", name, f"uid-{name}"), "id")
        mesh.registry.publish(record.key, large if name == "web-1" else compiled("V2"))
    reader, writer = await asyncio.open_connection(
        "127.0.0.1",
        mesh.server.port,
        ssl=proxy.tls,
        server_hostname="fsm-controller.fsm-system.svc",
    )
    try:
        # It reads the head and no more: its own buffers and the kernel's fill up, and that is all.
        writer.write(
            b"GET /v1/config?version=&wait_s=0 HTTP/1.1\r\nHost: x\r\n"
            b"fsm-pod: shop/web-1/uid-web-1\r\n\r\n"
        )
        assert b" 200 " in await reader.readline()
        for _ in range(20):
            assert (await other.poll())[1] == {"version": "V2"}
        assert taken < large.size / 2
    finally:
        writer.transport.abort()


async def test_what_fails_in_plugins_is_heard_from_the_proxy_that_it_fails_in(mesh, proxy):
    body = {"plugins": {"verifier": {"errors": 2, "last": "/plugins/verifier.js:2:5: oh"}}}
    assert (await proxy.post("/v1/reports", body))[0] == 401, (
        "without a certificate nobody is heard"
    )
    await proxy.certify()
    assert (await proxy.post("/v1/reports", body))[0] == 204
    assert str(mesh.failing.failing("verifier")) == (
        "fails on 1 proxy; on shop/web-1: /plugins/verifier.js:2:5: oh"
    )
    status, answer = await proxy.post("/v1/reports", {"plugins": []})
    assert status == 400
    assert "plugins must be an object" in answer["error"]
