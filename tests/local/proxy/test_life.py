"""The life of the process: how it starts, drains, ends, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import signal

import pytest
from proxyrig import config
from proxyrig.process import binary
from proxyrig.waiting import until
from proxyrig.wire import Wire, fetch, request


async def run(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        binary(), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 10)
    return process.returncode or 0, out.decode(), err.decode()


async def test_requests_in_flight_are_finished_on_sigterm(rig):
    go = asyncio.Event()

    async def script(request, connection) -> bool:
        await go.wait()
        return await backend.echo(request, connection)

    backend = await rig.backend(script)
    proxy = await rig.plain(backend)
    wires = [await Wire.open(proxy.outbound) for _ in range(20)]
    for i, wire in enumerate(wires):
        await wire.send(request("POST", f"/{i}", body=b"x" * 10_000))
    await until(lambda: len(backend.requests) == 20, "all requests")
    proxy.signal(signal.SIGTERM)
    await until(lambda: proxy.noticed("draining"), "the drain")
    go.set()
    for i, wire in enumerate(wires):
        response = await wire.response()
        assert json.loads(response.body)["target"] == f"/{i}"
        assert response.header("connection") == "close"
        assert await wire.rest() == b""
        wire.close()
    assert await proxy.ended() == 0


async def test_sigterm_under_load_fails_no_request(rig):
    backend = await rig.backend()
    proxy = await rig.plain(backend)
    answered = 0

    async def load() -> None:
        """Ask on one connection until told that it ends; then on another until there is none."""
        nonlocal answered
        while True:
            try:
                wire = await Wire.open(proxy.outbound)
            except ConnectionRefusedError:
                return
            async with wire:
                last = False
                while not last:
                    response = await wire.ask(request("POST", "/", body=b"x"))
                    assert response.status == 200
                    answered += 1
                    last = response.header("connection") == "close"

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(load())
        await until(lambda: answered > 100, "load")
        proxy.signal(signal.SIGTERM)
        assert await proxy.ended() == 0
    assert answered > 100


async def test_a_second_signal_ends_it_at_once(rig):
    async def script(request, connection) -> bool:
        await connection.reader.read(-1)
        return False

    backend = await rig.backend(script)
    proxy = await rig.plain(backend)
    async with await Wire.open(proxy.outbound) as wire:
        await wire.send(request())
        await until(lambda: backend.requests, "the request")
        proxy.signal(signal.SIGTERM)
        await until(lambda: proxy.noticed("draining"), "the drain")
        assert proxy.process.returncode is None
        proxy.signal(signal.SIGTERM)
        assert await proxy.ended(2) == 0


async def test_a_drain_has_an_end(rig):
    async def script(request, connection) -> bool:
        await connection.reader.read(-1)
        return False

    backend = await rig.backend(script)
    proxy = await rig.plain(backend, timeouts={"drain_ms": 100})
    async with await Wire.open(proxy.outbound) as wire:
        await wire.send(request())
        await until(lambda: backend.requests, "the request")
        proxy.signal(signal.SIGTERM)
        assert await proxy.ended(5) == 0


async def test_quit_is_asked_for_over_administration(rig):
    proxy = await rig.pipy()
    assert (await proxy.page("/quitquitquit", "POST")).body == b"DONE\n"
    assert await proxy.ended() == 0


@pytest.mark.parametrize("tls", [False, True])
async def test_two_thousand_connections_leave_nothing_behind(rig, authority, tls):
    backend = await rig.backend()
    if tls:
        from proxyrig.certs import spiffe

        who = spiffe("app")
        member = authority.member(who)
        server = await rig.pipy(member=member)
        proxy = await rig.pipy(member=member)
        route = config.route(allowed=config.allow(who))
        await server.apply(
            config.whole(
                inbound={"matches": [config.http_match(server.inbound.port, config.host(route))]},
                clusters={"app": config.cluster(config.endpoint(backend.address))},
            )
        )
        told = config.plain(proxy.outbound.port, backend.address)
        told["identity"] = who
        told["clusters"]["app"] = config.cluster(config.endpoint(server.inbound, who))
        await proxy.apply(told)
        watched, count = [proxy, server], 200
    else:
        proxy = await rig.plain(backend)
        watched, count = [proxy], 2000
    # One of each kind first: what the process keeps, such as a pooled connection, is there then.
    assert (await fetch(proxy.outbound)).status == 200
    before = [p.descriptors() for p in watched]

    async def some(kind: int, repeats: int) -> None:
        for _ in range(repeats):
            wire = await Wire.open(proxy.outbound)
            match kind:
                case 0:
                    assert (await wire.ask(request())).status == 200
                    wire.close()
                case 1:
                    wire.abort()
                case 2:
                    await wire.send(b"GET / HT")
                    wire.close()
                case 3:
                    await wire.send(request("POST", "/", "Content-Length: 10"))
                    wire.abort()
                case 4:
                    wire.writer.write(b"nonsense\r\n\r\n")
                    assert (await wire.response()).status == 400
                    wire.close()
                case 5:
                    wire.finish()
                    await wire.rest()
                    wire.close()
                case 6:
                    await wire.send(request())
                    wire.abort()
                case _:
                    assert (await wire.ask(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")).status == 200
                    wire.close()

    async with asyncio.TaskGroup() as group:
        for kind in range(8):
            group.create_task(some(kind, count // 8))
    if tls:
        # Straight at the TLS side: cut, silent, and nonsense.
        for raw in (b"", b"\x16\x03\x01", b"nonsense", b"\x16\x03\x01\x00\x02\x01\x00"):
            for _ in range(20):
                async with await Wire.open(server.inbound) as wire:
                    await wire.send(raw)
    # Pooled connections that were in use at once stay; they are as many as were in use.
    slack = 16
    await until(
        lambda: all(p.descriptors() <= b + slack for p, b in zip(watched, before, strict=True)),
        "the file descriptors of before",
    )
    for p in watched:

        async def idle() -> bool:
            stats = await p.stats()  # noqa: B023
            return all(v == "0" for k, v in stats.items() if k.endswith("downstream_cx_active"))

        if p is proxy:
            await until(idle, "no connection of a client")
    assert (await fetch(proxy.outbound)).status == 200


async def test_a_port_in_use_is_said_in_words(rig, tmp_path):
    proxy = await rig.pipy()
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"version": "x", "outbound": {}}))
    code, _, err = await run(
        "sidecar",
        f"--config={path}",
        f"--outbound={proxy.outbound}",
        "--admin=127.0.0.1:0",
        "--metrics=127.0.0.1:0",
    )
    assert code == 1
    assert f"cannot listen on {proxy.outbound}: Address already in use" in err


async def test_a_start_without_a_valid_configuration_fails_with_the_reason(tmp_path):
    path = tmp_path / "c.json"
    path.write_text('{"version": ""}')
    flags = ("--admin=127.0.0.1:0", "--metrics=127.0.0.1:0")
    code, _, err = await run("sidecar", f"--config={path}", *flags)
    assert code == 1
    assert "version: is empty" in err
    code, _, err = await run("sidecar", f"--config={tmp_path / 'none'}", *flags)
    assert code == 1
    assert "No such file" in err


async def test_wrong_flags_are_told_with_a_hint():
    for flags in (
        ["sidecar"],
        ["--nonsense"],
        ["sidecar", "--workers", "0"],
        ["sidecar", "--what"],
        ["sidecar", "--config", "x", "--cert", "y"],
        ["sidecar", "--mark", "z"],
    ):
        code, out, err = await run(*flags)
        # What is no command of ours is an option for scripts, and ends as those do.
        expected = 2 if flags[0] == "sidecar" else 255
        assert (code, out) == (expected, ""), flags
        assert "hint: pipy --help" in err


async def test_what_is_no_command_is_a_script_and_must_be_there():
    code, out, err = await run("nonsense")
    assert (code, out) == (255, "")
    assert "does not exist: nonsense" in err


async def test_check_says_whether_a_configuration_is_valid(tmp_path):
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text('{"version": "7"}')
    bad.write_text('{"version": "7", "inbound": {"matches": 1}}')
    assert await run("check", str(good)) == (0, f"{good}: valid, version 7\n", "")
    code, out, err = await run("check", str(bad))
    assert (code, out) == (1, "")
    assert "inbound.matches" in err


async def test_several_workers_share_the_listeners(rig):
    backend = await rig.backend()
    proxy = await rig.pipy(flags=("--workers=3",))
    await proxy.apply(config.plain(proxy.outbound.port, backend.address))
    for _ in range(60):
        assert (await fetch(proxy.outbound)).status == 200
    # Each worker has its own pool: more than one connection says that more than one worker served.
    assert 2 <= len(backend.connections) <= 3
    assert (await proxy.stats())["cluster.app.upstream_rq_total"] == "60"
    proxy.signal(signal.SIGTERM)
    assert await proxy.ended() == 0
