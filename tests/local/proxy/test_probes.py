"""Probes of the application through the proxy: carried out as configured, and nothing else is."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest
from proxyrig import config
from proxyrig.backend import Backend, Connection, Request
from proxyrig.process import Pipy
from proxyrig.waiting import until
from proxyrig.wire import Address, Wire, fetch, request

FLAGS = tuple(
    f"--{flag}=127.0.0.1:0" for flag in ("liveness", "readiness", "startup", "tcp-probes")
)


def http(port: int, path: str = "/health", listener: str = "readiness", **more: Any) -> config.Json:
    return {
        "listener": listener,
        "kind": "http",
        "port": port,
        "path": path,
        "origin": f"Pod/shop/till#till.{listener}Probe",
        **more,
    }


def tcp(port: int, listener: str = "tcp", **more: Any) -> config.Json:
    return {
        "listener": listener,
        "kind": "tcp",
        "port": port,
        "origin": "Pod/shop/till#till.livenessProbe",
        **more,
    }


def ask_http(port: int, path: str = "/health", *headers: str, method: str = "GET") -> bytes:
    target = (f"Original-Http-Port: {port}", f"Original-Http-Path: {path}")
    return request(method, "/fsm-healthcheck", *target, *headers)


def ask_tcp(port: int) -> bytes:
    return request("GET", "/fsm-healthcheck", f"Original-Tcp-Port: {port}")


async def listeners(proxy: Pipy) -> dict[str, Address]:
    """Find the probe listeners that are open."""
    lines = (await proxy.page("/listeners")).body.decode().splitlines()
    found = {name: Address.parse(at) for name, _, at in (line.partition("::") for line in lines)}
    suffix = "-probe-listener"
    return {k.removesuffix(suffix): at for k, at in found.items() if k.endswith(suffix)}


async def probing(rig: Any, *probes: config.Json) -> tuple[Pipy, dict[str, Address]]:
    proxy = await rig.pipy(flags=FLAGS)
    await proxy.apply(config.whole(probes=list(probes)))
    return proxy, await listeners(proxy)


def closed_port() -> int:
    """A port on which nobody listens; held by nobody, so asked for at once."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.mark.parametrize("listener", ["liveness", "readiness", "startup"])
async def test_the_application_is_asked_as_the_kubelet_would_have(rig, listener):
    backend = await rig.backend()
    port = backend.address.port
    _, at = await probing(rig, http(port, "/health?full=1", listener, headers=["x-probe"]))
    answer = await fetch(
        at[listener],
        ask_http(
            port, "/health?full=1", "User-Agent: kube-probe/1.32", "X-Probe: 7", "Cookie: a=b"
        ),
    )
    assert answer.status == 200
    assert answer.header("content-type") == "application/json"
    assert json.loads(answer.body)["target"] == "/health?full=1"
    (asked,) = backend.requests
    headers = {name.lower(): value for name, value in asked.headers}
    assert asked.method == "GET"
    assert headers == {
        "host": f"127.0.0.1:{port}",
        "user-agent": "kube-probe/1.32",
        "x-probe": "7",
        "connection": "close",
    }


async def test_the_host_is_the_configured_one_whatever_the_caller_says(rig):
    backend = await rig.backend()
    port = backend.address.port
    _, at = await probing(rig, http(port, host="till.example"), http(port, "/other"))
    named = ask_http(port, "/health", "Host: Till.Example")
    assert (await fetch(at["readiness"], named)).status == 200
    assert backend.requests[0].header("host") == "till.example"
    other = await fetch(at["readiness"], ask_http(port, "/other", "Host: till.example"))
    assert other.status == 200
    assert backend.requests[1].header("host") == f"127.0.0.1:{port}"
    assert (await fetch(at["readiness"], ask_http(port))).status == 403


@pytest.mark.parametrize("status", [200, 204, 302, 404, 500, 503])
async def test_the_applications_status_comes_back(rig, status):
    async def script(request: Request, connection: Connection) -> None:
        if status == 204:
            await connection.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        else:
            await connection.respond(status, b"so it is", "Location: /login", "Set-Cookie: a=b")

    backend = await rig.backend(script)
    _, at = await probing(rig, http(backend.address.port))
    answer = await fetch(at["readiness"], ask_http(backend.address.port))
    assert answer.status == status
    assert answer.body == (b"" if status == 204 else b"so it is")
    # The kubelet would follow it, and find nothing at the listener.
    assert answer.header("location") is None
    assert answer.header("set-cookie") is None


async def test_of_a_long_answer_the_beginning_comes_back_and_an_endless_one_is_left(rig):
    gone = asyncio.Event()

    async def script(request: Request, connection: Connection) -> None:
        await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                await connection.send(b"400\r\n" + b"x" * 1024 + b"\r\n")
        except ConnectionError:
            gone.set()

    backend = await rig.backend(script)
    _, at = await probing(rig, http(backend.address.port))
    answer = await fetch(at["readiness"], ask_http(backend.address.port))
    assert (answer.status, len(answer.body)) == (200, 10 * 1024)
    await asyncio.wait_for(gone.wait(), 10)


async def test_an_application_that_breaks_off_or_speaks_otherwise_is_not_well(rig):
    async def breaks(request: Request, connection: Connection) -> None:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

    async def babbles(request: Request, connection: Connection) -> None:
        await connection.send(b"220 mail.example ESMTP\r\n")

    async def leaves(request: Request, connection: Connection) -> None:
        pass

    backends = [await rig.backend(script) for script in (breaks, babbles, leaves)]
    ports = [backend.address.port for backend in backends]
    _, at = await probing(rig, *(http(port) for port in ports))
    for port in ports:
        assert (await fetch(at["readiness"], ask_http(port))).status == 502


async def test_an_application_that_does_not_listen_is_502_and_one_that_is_silent_504(rig):
    async def silent(request: Request, connection: Connection) -> bool:
        await connection.reader.read()
        return False

    port = closed_port()
    backend = await rig.backend(silent)
    hung = backend.address.port
    _, at = await probing(rig, http(port), http(hung, timeout_ms=50))
    refused = await fetch(at["readiness"], ask_http(port))
    assert (refused.status, refused.body) == (502, b"the application does not listen\n")
    late = await fetch(at["readiness"], ask_http(hung))
    assert (late.status, late.body) == (504, b"the application did not answer in time\n")
    # The connection of a probe that was given up does not stay.
    await until(lambda: backend.open == 0, "the application is let go")


async def test_a_kubelet_that_goes_away_takes_the_question_with_it(rig):
    asked = asyncio.Event()

    async def silent(request: Request, connection: Connection) -> bool:
        asked.set()
        await connection.reader.read()
        return False

    backend = await rig.backend(silent)
    _, at = await probing(rig, http(backend.address.port, timeout_ms=60_000))
    async with await Wire.open(at["readiness"]) as wire:
        await wire.send(ask_http(backend.address.port))
        await asyncio.wait_for(asked.wait(), 10)
        wire.abort()
        await until(lambda: backend.open == 0, "the application is let go")


async def test_a_connection_that_is_made_is_enough_for_a_tcp_probe(rig):
    silent = socket.create_server(("127.0.0.1", 0))
    port, nobody = silent.getsockname()[1], closed_port()
    with silent:
        _, at = await probing(rig, tcp(port), tcp(nobody), tcp(port, "liveness"))
        # Nobody accepts, nobody speaks: the kernel has made the connection all the same.
        for listener in ("tcp", "liveness"):
            made = await fetch(at[listener], ask_tcp(port))
            assert (made.status, made.body) == (200, b"the application listens\n")
        refused = await fetch(at["tcp"], ask_tcp(nobody))
        assert (refused.status, refused.body) == (404, b"the application does not listen\n")


async def test_a_port_that_accepts_no_more_is_404_in_time(rig):
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    port = full.getsockname()[1]
    # What fills the queue is not accepted: the kernel drops the handshakes of those that follow.
    waiting = []
    for _ in range(3):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(("127.0.0.1", port))
        waiting.append(one)
    try:
        _, at = await probing(rig, tcp(port, timeout_ms=100))
        assert (await fetch(at["tcp"], ask_tcp(port))).status == 404
    finally:
        for one in (*waiting, full):
            one.close()


async def test_whoever_asks_for_anything_else_gets_nothing(rig):
    """The listener is open to everyone who reaches the Pod: it must be no way to loopback."""
    backend, other = await rig.backend(), await rig.backend()
    port, hidden = backend.address.port, other.address.port
    proxy, at = await probing(rig, http(port), tcp(port))
    admin, there = proxy.admin.port, str(proxy.admin)
    readiness = at["readiness"]
    attempts: list[tuple[Address, bytes, int]] = [
        (readiness, ask_http(admin, "/config_dump"), 403),
        (readiness, ask_http(admin, "/quitquitquit"), 403),
        (readiness, ask_http(admin, "/health"), 403),
        (readiness, ask_http(proxy.metrics.port, "/ready"), 403),
        (readiness, ask_http(hidden), 403),
        (readiness, ask_http(port, "/admin"), 403),
        (readiness, ask_http(port, "/health?x=1"), 403),
        (readiness, ask_http(port, "/health/../admin"), 403),
        (readiness, ask_http(port, "http://127.0.0.1/health"), 403),
        (readiness, ask_http(0), 403),
        (readiness, ask_tcp(admin), 403),
        (readiness, ask_tcp(port), 403),
        (at["tcp"], ask_tcp(admin), 403),
        (at["tcp"], ask_tcp(hidden), 403),
        (at["tcp"], ask_http(port), 403),
        (readiness, ask_http(port, method="POST"), 405),
        (readiness, request("GET", "/health", f"Original-Http-Port: {port}"), 404),
        (readiness, request("GET", f"http://{there}/config_dump", f"Host: {there}"), 404),
        (readiness, request("GET", "/config_dump"), 404),
        (readiness, request("GET", "/fsm-healthcheck"), 400),
        (readiness, request("GET", "/fsm-healthcheck", "Original-Http-Port: 80"), 400),
        (at["tcp"], request("GET", "/fsm-healthcheck", "Original-Tcp-Port: x"), 400),
    ]
    for where, raw, status in attempts:
        answer = await fetch(where, raw)
        assert answer.status == status, raw
        assert b"version" not in answer.body
    assert backend.connections == other.connections == []
    assert proxy.process.returncode is None
    denied = sum(status == 403 for _, _, status in attempts)
    lines = await proxy.log(denied, decision="denied", status=403)
    assert {line["reason"] for line in lines} == {"no probe of this Pod has this target"}
    assert (await proxy.stats())["denied.no_probe"] == str(denied)


async def test_a_configuration_that_leads_to_the_proxy_itself_is_refused(rig):
    proxy = await rig.pipy(flags=FLAGS)
    for probe in (http(proxy.admin.port, "/quitquitquit"), tcp(proxy.metrics.port)):
        reason = await proxy.refuse(config.whole(probes=[tcp(1), probe]))
        assert reason == "probes[1].port: a listener of this proxy is no application"
        assert await listeners(proxy) == {}


async def test_listeners_are_open_while_there_are_probes_for_them(rig):
    backend = await rig.backend()
    port = backend.address.port
    proxy, at = await probing(rig, http(port))
    assert set(at) == {"readiness"}
    await proxy.apply(config.whole(probes=[http(port), http(port, listener="startup"), tcp(port)]))
    more = await listeners(proxy)
    assert set(more) == {"readiness", "startup", "tcp"}
    assert more["readiness"] == at["readiness"]
    assert (await fetch(more["startup"], ask_http(port))).status == 200
    await proxy.apply(config.whole(probes=[tcp(port)]))
    assert set(await listeners(proxy)) == {"tcp"}

    async def refused() -> bool:
        try:
            await fetch(at["readiness"], ask_http(port))
        except OSError:
            return True
        return False

    await until(refused, "the listener is closed")


async def test_a_target_that_is_no_longer_listed_is_not_asked_on_a_kept_connection(rig):
    backend = await rig.backend()
    port = backend.address.port
    proxy, at = await probing(rig, http(port), http(port, "/other"))
    async with await Wire.open(at["readiness"]) as wire:
        assert (await wire.ask(ask_http(port))).status == 200
        await proxy.apply(config.whole(probes=[http(port, "/other")]))
        assert (await wire.ask(ask_http(port))).status == 403
        assert (await wire.ask(ask_http(port, "/other"))).status == 200


async def test_many_probes_leave_nothing_behind(rig):
    backend = await rig.backend()
    port = backend.address.port
    proxy, at = await probing(rig, http(port), tcp(port))

    async def some(count: int) -> None:
        asked = [fetch(at["readiness"], ask_http(port)) for _ in range(count)]
        asked += [fetch(at["tcp"], ask_tcp(port)) for _ in range(count)]
        assert {answer.status for answer in await asyncio.gather(*asked)} == {200}

    await some(5)
    before = await settled(proxy, backend)
    for _ in range(5):
        await some(20)
    after = await settled(proxy, backend)
    assert after <= before


async def settled(proxy: Pipy, backend: Backend) -> int:
    """Count descriptors once no connection to the application is left."""
    await until(lambda: backend.open == 0, "the connections end")
    counts: list[int] = []

    def steady() -> bool:
        counts.append(proxy.descriptors())
        return len(counts) > 20 and len(set(counts[-20:])) == 1

    await until(steady, "the number of descriptors is steady")
    return counts[-1]
