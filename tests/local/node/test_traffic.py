"""Pods, names and addresses: what a client in one Pod meets when it calls another."""

from __future__ import annotations

import asyncio
import struct

import pytest
from box_world import Box, apply, pod, service, until, web

from fsm.kube.resources import PODS

pytestmark = pytest.mark.box


async def _ready(box: Box, namespace: str, *names: str) -> None:
    async with box.client() as client:
        for name in names:

            async def check(name: str = name) -> bool:
                found = await client.get(PODS, name, namespace)
                conditions = found["status"].get("conditions") or []
                return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

            await until(check, f"Pod {name} is ready")


async def _calls(box: Box, namespace: str, script: str) -> str:
    """Run a script in the client Pod until it succeeds once; names may be on their way."""

    async def check() -> str | None:
        outcome = await box.run(namespace, "client", script)
        return outcome["stdout"] if outcome["exitCode"] == 0 else None

    return str(await until(check, script))


async def test_pods_talk_by_service_name_address_and_pod_ip(box: Box, namespace: str) -> None:
    apply(box, namespace, web("a", "I am a"), service("a", {"app": "a"}), pod("client"))
    await _ready(box, namespace, "a", "client")
    host = f"a.{namespace}.svc.cluster.local"
    for target in ("a", f"a.{namespace}", host, host + "."):
        assert await _calls(box, namespace, f"curl -sSf http://{target}/") == "I am a"
    address = box.kubectl("get", "-n", namespace, "service/a", "-o", "jsonpath={.spec.clusterIP}")
    assert await _calls(box, namespace, f"curl -sSf http://{address}/") == "I am a"
    ip = box.kubectl("get", "-n", namespace, "pod/a", "-o", "jsonpath={.status.podIP}")
    assert await _calls(box, namespace, f"curl -sSf http://{ip}:8080/") == "I am a"


async def test_connections_are_spread_over_all_endpoints(box: Box, namespace: str) -> None:
    labels = {"app": "many"}
    pods = [web(f"w{n}", f"w{n} ", labels=labels) for n in range(3)]
    apply(box, namespace, *pods, service("many", labels), pod("client"))
    await _ready(box, namespace, "w0", "w1", "w2", "client")

    async def all_seen() -> bool:
        calls = "for i in $(seq 30); do curl -sSf http://many/; done"
        return set((await _calls(box, namespace, calls)).split()) == {"w0", "w1", "w2"}

    await until(all_seen, "all three answered")


async def test_pod_reaches_itself_through_its_service(box: Box, namespace: str) -> None:
    apply(box, namespace, web("me", "it is me"), service("self", {"app": "me"}))
    await _ready(box, namespace, "me")

    async def check() -> bool:
        outcome = await box.run(namespace, "me", "curl -sSf -m 2 http://self/")
        return bool(outcome["stdout"] == "it is me")

    await until(check, "the Pod answers itself")


async def test_service_without_endpoints_refuses_at_once(box: Box, namespace: str) -> None:
    apply(box, namespace, service("empty", {"app": "nobody"}), pod("client"))
    await _ready(box, namespace, "client")
    await _calls(box, namespace, "getent hosts empty")
    outcome = await box.run(namespace, "client", "curl -sS -m 5 http://empty/")
    assert outcome["exitCode"] == 7, outcome
    outcome = await box.run(namespace, "client", "curl -sS -m 5 http://10.96.250.250/")
    assert outcome["exitCode"] == 7, outcome


async def test_names_that_do_not_exist_fail_fast(box: Box, namespace: str) -> None:
    apply(box, namespace, pod("client"))
    await _ready(box, namespace, "client")
    for name in ("nosuch", "example.org"):
        outcome = await box.run(namespace, "client", f"curl -sS -m 5 http://{name}/")
        assert outcome["exitCode"] == 6, outcome


async def test_headless_service_names_each_pod(box: Box, namespace: str) -> None:
    labels = {"app": "set"}
    first = web("s0", "s0", labels=labels, hostname="s0", subdomain="set")
    headless = service("set", labels, clusterIP="None")
    apply(box, namespace, first, web("s1", "s1", labels=labels), headless, pod("client"))
    await _ready(box, namespace, "s0", "s1", "client")
    answer = await _calls(box, namespace, "curl -sSf http://s0.set:8080/")
    assert answer == "s0"

    async def two() -> bool:
        out = await _calls(box, namespace, "getent ahostsv4 set | awk '{print $1}' | sort -u")
        return len(out.split()) == 2

    await until(two, "both addresses")


async def test_external_name_is_an_alias(box: Box, namespace: str) -> None:
    alias = service(
        "alias", {}, type="ExternalName", externalName=f"real.{namespace}.svc.cluster.local"
    )
    del alias["spec"]["selector"]
    real = web("real", "real")
    apply(box, namespace, real, service("real", {"app": "real"}), alias, pod("client"))
    await _ready(box, namespace, "real", "client")
    assert await _calls(box, namespace, "curl -sSf http://alias/") == "real"


async def test_port_forward_carries_bytes_both_ways(box: Box, namespace: str) -> None:
    apply(box, namespace, web("a", "through the tunnel"))
    await _ready(box, namespace, "a")
    async with box.client() as client:
        reader, writer = await client.port_forward(namespace, "a", 8080)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        await writer.drain()
        answer = b""
        async with asyncio.timeout(10):
            while b"through the tunnel" not in answer:
                chunk = await reader.read(4096)
                assert chunk, answer
                answer += chunk
        await writer.close()


async def test_logs_follow_until_the_container_ends(box: Box, namespace: str) -> None:
    script = "echo one; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo two"
    apply(box, namespace, pod("talker", script, restartPolicy="Never"))
    async with box.client() as client:

        async def first() -> bool:
            return b"one" in await box.node("GET", f"/logs/{namespace}/talker/main")

        await until(first, "the first line")
        async with asyncio.timeout(20), await client.logs(namespace, "talker", follow=True) as log:
            seen = b""
            async for chunk in log:
                if not seen:
                    await box.run(namespace, "talker", "touch /tmp/go")
                seen += chunk
    assert seen == b"one\ntwo\n"
    assert box.kubectl("logs", "-n", namespace, "talker", "--tail=1") == "two\n"


async def test_capture_shows_what_crosses_the_link(box: Box, namespace: str) -> None:
    apply(box, namespace, web("a", "plainly visible"), pod("client"))
    await _ready(box, namespace, "a", "client")
    ip = box.kubectl("get", "-n", namespace, "pod/a", "-o", "jsonpath={.status.podIP}")
    path = f"/capture/{namespace}/a?seconds=20&max_bytes=300&port=8080"
    task = asyncio.create_task(box.node("GET", path))

    async def recorded() -> bool:
        await box.run(namespace, "client", f"curl -sS http://{ip}:8080/")
        return task.done()

    await until(recorded, "enough was recorded")
    data = task.result()
    magic, *_, link = struct.unpack_from("<IHHiIII", data)
    assert (magic, link) == (0xA1B2C3D4, 1)
    assert b"GET / HTTP/1.1" in data
