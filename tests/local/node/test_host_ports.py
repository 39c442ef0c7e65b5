"""The way into the box: Services on ports of the host, conflicts told, nothing left open."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import aiohttp
import pytest
from box_world import Box, apply, service, until, web

pytestmark = pytest.mark.box


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def balancer(name: str, port: int, app: str = "web") -> dict[str, Any]:
    ports = [{"name": "http", "port": port, "targetPort": "http"}]
    return service(name, {"app": app}, type="LoadBalancer", ports=ports)


async def fetched(port: int) -> str:
    timeout = aiohttp.ClientTimeout(total=5)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(f"http://127.0.0.1:{port}/") as answer,
    ):
        return await answer.text()


async def refused(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


def found(box: Box, namespace: str, name: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(
        box.kubectl("get", "service", name, "-n", namespace, "-o", "json")
    )
    return made


async def published(box: Box, namespace: str, name: str) -> None:
    """Wait until a Service shows its address (`kubectl wait` cannot wait for one before 1.23)."""

    async def shown() -> bool:
        ingress = found(box, namespace, name)["status"]["loadBalancer"].get("ingress") or [{}]
        return bool(ingress[0].get("ip") == "127.0.0.1")

    await until(shown, f"Service {name} has an address")


async def test_a_load_balancer_answers_on_the_host_until_it_is_deleted(
    box: Box, namespace: str
) -> None:
    port = free_port()
    apply(box, namespace, web("web", "hello from the box"), balancer("web", port))
    box.kubectl("wait", "-n", namespace, "pod/web", "--for=condition=Ready", "--timeout=30s")

    async def answers() -> bool:
        return await fetched(port) == "hello from the box"

    await until(answers, "the load balancer answers on the host")
    await published(box, namespace, "web")
    assert "127.0.0.1" in box.kubectl("get", "service", "web", "-n", namespace)
    node_port = found(box, namespace, "web")["spec"]["ports"][0]["nodePort"]
    assert await fetched(node_port) == "hello from the box"
    # The ports belong to the gateway; the one that follows it opens them again.
    box.inside("kill", "-9", str(box.child("gateway")["pid"]))
    await until(answers, "the load balancer answers again")
    box.kubectl("delete", "service", "web", "-n", namespace)
    await until(lambda: refused(port), "the port is closed")
    assert await refused(node_port)


async def test_a_service_that_is_no_load_balancer_any_more_has_no_address(
    box: Box, namespace: str
) -> None:
    port = free_port()
    apply(box, namespace, balancer("web", port))
    await published(box, namespace, "web")
    box.kubectl("patch", "service", "web", "-n", namespace, "-p", '{"spec":{"type":"ClusterIP"}}')

    async def cleared() -> bool:
        return not found(box, namespace, "web")["status"]["loadBalancer"].get("ingress")

    await until(cleared, "the address is taken back")
    await until(lambda: refused(port), "the port is closed")


async def test_a_port_that_another_program_has_is_told_and_taken_when_it_is_free(
    box: Box, namespace: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        apply(box, namespace, balancer("web", port))

        async def told() -> bool:
            return f"127.0.0.1:{port}" in box.kubectl("get", "events", "-n", namespace)

        await until(told, "an event tells of the conflict")
        assert not found(box, namespace, "web")["status"]["loadBalancer"].get("ingress")
    await published(box, namespace, "web")


async def test_of_two_services_the_older_has_the_port(box: Box, namespace: str) -> None:
    port = free_port()
    apply(box, namespace, balancer("first", port))
    await published(box, namespace, "first")
    # Ages count in seconds; by name `second` comes later too.
    apply(box, namespace, balancer("second", port))

    async def told() -> bool:
        events = box.kubectl("get", "events", "-n", namespace)
        return "PortTaken" in events and f"{namespace}/first" in events

    await until(told, "an event names the Service that has the port")
    box.kubectl("delete", "service", "first", "-n", namespace)
    await published(box, namespace, "second")
