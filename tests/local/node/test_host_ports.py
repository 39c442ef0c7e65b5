"""The way into the box: Services on ports of the host, conflicts told, nothing left open."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from typing import Any

import aiohttp
import pytest
from box_world import Box, apply, pod, service, until, web

from fsm.standalone.node import host_udp

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


ECHO = """
import os, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("", 7000))
while True:
    data, who = s.recvfrom(65535); s.sendto(os.environ["HOSTNAME"].encode() + b":" + data, who)
"""


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def asked(port: int, *texts: bytes) -> list[bytes]:
    """Send datagrams from one socket to a port of the host; returns what came back in time."""
    loop = asyncio.get_running_loop()
    answers = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        # Connected: what comes from another port than was asked is no answer.
        sock.connect(("127.0.0.1", port))
        for text in texts:
            try:
                await loop.sock_sendall(sock, text)
                async with asyncio.timeout(5):
                    answers.append(await loop.sock_recv(sock, 65535))
            except (OSError, TimeoutError):
                continue
    return answers


async def test_datagrams_of_the_host_reach_a_load_balancer(box: Box, namespace: str) -> None:
    port = free_udp_port()
    ports = [{"name": "game", "port": port, "targetPort": 7000, "protocol": "UDP"}]
    container = {"image": "python", "command": [sys.executable, "-c", ECHO]}
    pods = [
        pod(name, container=container, labels={"app": "game"}, terminationGracePeriodSeconds=0)
        for name in ("one", "two")
    ]
    apply(box, namespace, *pods, service("game", {"app": "game"}, type="LoadBalancer", ports=ports))

    async def both() -> bool:
        heard = {answer.split(b":")[0] for _ in range(6) for answer in await asked(port, b"x")}
        return heard == {b"one", b"two"}

    await until(both, "both Pods answer, each to its clients")
    await published(box, namespace, "game")
    # One client meets one Pod, and long datagrams come whole.
    long = b"y" * 20_000
    answers = await asked(port, b"a", b"b", long)
    (server,) = {answer.split(b":")[0] for answer in answers}
    assert answers == [server + b":a", server + b":b", server + b":" + long]
    node_port = found(box, namespace, "game")["spec"]["ports"][0]["nodePort"]
    assert await asked(node_port, b"z")
    box.inside("kill", "-9", str(box.child("gateway")["pid"]))
    await until(lambda: asked(port, b"again"), "the port is open again")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
    box.kubectl("delete", "service", "game", "-n", namespace)

    async def closed() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", port))
        return True

    await until(closed, "the port is free")


async def test_sessions_of_a_port_end_when_silent_and_make_room_when_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(host_udp, "SESSIONS_MAX", 2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service:
        service.setblocking(False)
        service.bind(("127.0.0.1", 0))
        outer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        outer.bind(("127.0.0.1", 0))
        relay = host_udp.UdpPort(outer, service.getsockname())
        clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
        loop = asyncio.get_running_loop()
        seen = []
        try:
            for client in clients:
                client.connect(outer.getsockname())
                client.send(b"x")
                async with asyncio.timeout(10):
                    seen.append((await loop.sock_recvfrom(service, 10))[1])
            # Each client is one to the service; the first had to make room.
            assert len(set(seen)) == 3
            kept = list(relay._sessions)
            assert kept == [client.getsockname() for client in clients[1:]]
            latest = max(session.seen_at for session in relay._sessions.values())
            relay.expire(latest + host_udp.IDLE_S + 1)
            assert not relay._sessions
            clients[0].send(b"y")
            async with asyncio.timeout(10):
                await loop.sock_recvfrom(service, 10)
            relay.lead(("127.0.0.1", 9))
            assert not relay._sessions
        finally:
            relay.close()
            for client in clients:
                client.close()
