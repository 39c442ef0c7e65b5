"""Restarts, changes and connections in numbers: no request fails, and nothing stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import shutil
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from proxyrig import config
from proxyrig.backend import Backend
from proxyrig.certs import Authority, spiffe
from proxyrig.process import Pipy
from proxyrig.waiting import until
from proxyrig.wire import Address, Wire, fetch, request

BUYER, STORE = spiffe("bookbuyer"), spiffe("bookstore")


class Load:
    """Clients that ask without a pause; each answer but 200 is a failure, and so is none."""

    def __init__(self, address: Address, clients: int = 6) -> None:
        self.address, self.clients = address, clients
        self.answered = 0
        self.failures: list[str] = []
        self._stop = False

    async def client(self, keep: bool) -> None:
        """Ask over a kept connection, or over a new one for each request."""
        while not self._stop:
            try:
                async with await Wire.open(self.address) as wire:
                    last = False
                    while not last and not self._stop:
                        response = await wire.ask(request("POST", "/", body=b"x" * 100))
                        if response.status != 200:
                            self.failures.append(f"{response.status} {response.body!r}")
                        self.answered += 1
                        last = not keep or response.header("connection") == "close"
            except (OSError, EOFError, AssertionError, TimeoutError) as error:
                self.failures.append(repr(error))

    async def during(self, work) -> None:
        """Ask as long as the work goes on."""
        async with asyncio.TaskGroup() as group:
            for number in range(self.clients):
                group.create_task(self.client(keep=number % 3 != 0))
            try:
                await until(lambda: self.answered > 50, "load")
                await work
            finally:
                self._stop = True


# The requests of many share connections between the sidecars.
@pytest.mark.parametrize("clients", [6, 40])
@pytest.mark.timeout(3600)
async def test_a_pair_is_restarted_in_turn_and_no_request_fails(tmp_path, amount, tell, clients):
    authority, restarts = Authority("the mesh"), amount(20, 1000)
    async with AsyncExitStack() as stack:
        backend = await stack.enter_async_context(Backend("app"))

        def serving(port: int) -> dict:
            route = config.route(allowed=config.allow(BUYER))
            return config.whole(
                identity=STORE,
                inbound={"matches": [config.http_match(port, config.host(route))]},
                clusters={"app": config.cluster(config.endpoint(backend.address))},
            )

        servers: list[Pipy] = []
        for name in ("a", "b"):
            server = Pipy(tmp_path / name, authority.member(STORE))
            servers.append(await stack.enter_async_context(server))
            await server.apply(serving(server.inbound.port))
        client = await stack.enter_async_context(Pipy(tmp_path / "c", authority.member(BUYER)))
        endpoints = [config.endpoint(server.inbound, STORE) for server in servers]
        match = config.http_match(client.outbound.port, config.host(config.route()))
        await client.apply(
            config.whole(
                identity=BUYER,
                outbound={"matches": [match]},
                clusters={"app": config.cluster(*endpoints)},
            )
        )
        load = Load(client.outbound, clients)

        async def restart() -> None:
            for number in range(restarts):
                old = servers[number % 2]
                old.signal(signal.SIGTERM)
                assert await old.ended(15) == 0
                # The same address, so that nothing tells the client.
                new = Pipy(
                    old.directory,
                    authority.member(STORE),
                    inbound=str(old.inbound),
                    boot=serving(old.inbound.port),
                )
                servers[number % 2] = await stack.enter_async_context(new)

        begun = time.monotonic()
        await load.during(restart())
        tell(
            restarts=restarts,
            requests=load.answered,
            failed=len(load.failures),
            seconds=round(time.monotonic() - begun),
        )
        assert not load.failures, (len(load.failures), load.answered, load.failures[:5])


@pytest.mark.timeout(3600)
async def test_a_configuration_is_replaced_under_load_and_no_request_fails(tmp_path, amount, tell):
    changes = amount(50, 1000)
    async with AsyncExitStack() as stack:
        backends = [await stack.enter_async_context(Backend(name)) for name in ("a", "b")]
        proxy = await stack.enter_async_context(Pipy(tmp_path / "pipy"))
        load = Load(proxy.outbound)

        def told(number: int) -> dict:
            """Another endpoint, other routes, another number of them, a cluster of another name."""
            name = f"app-{number % 3}"
            routes = [
                config.route((name, 1), path={"prefix": f"/{other}"}) for other in range(number % 5)
            ]
            return config.whole(
                outbound={
                    "matches": [
                        config.http_match(
                            proxy.outbound.port, config.host(*routes, config.route((name, 1)))
                        )
                    ]
                },
                clusters={
                    name: config.cluster(config.endpoint(backends[number % 2].address)),
                },
            )

        async def change() -> None:
            for number in range(1, changes + 1):
                await proxy.apply(told(number))

        await proxy.apply(told(0))
        begun = time.monotonic()
        await load.during(change())
        tell(
            changes=changes,
            requests=load.answered,
            failed=len(load.failures),
            seconds=round(time.monotonic() - begun),
        )
        assert not load.failures, (len(load.failures), load.answered, load.failures[:5])


NGINX = """
daemon off; worker_processes 1; user root; pid {directory}/nginx.pid; error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
    access_log off; keepalive_requests 100000000; keepalive_timeout 1s;
    server {{ listen 127.0.0.1:{port}; return 200 "x"; }}
}}
"""


@contextlib.asynccontextmanager
async def nginx(directory: Path) -> AsyncIterator[Address]:
    """Start a server that answers fast."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = Address(*free.getsockname())
    file = directory / "nginx.conf"
    file.write_text(NGINX.format(directory=directory, port=address.port))
    found = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    process = await asyncio.create_subprocess_exec(str(found), "-c", str(file))

    async def answers() -> bool:
        try:
            return (await fetch(address)).status == 200
        except OSError:
            return False

    try:
        await until(answers, "nginx")
        yield address
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.timeout(3600)
@pytest.mark.skipif(not shutil.which("ab"), reason="needs ab, of apache2-utils")
@pytest.mark.skipif(
    resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 1024, reason="needs file descriptors"
)
async def test_descriptors_and_memory_are_what_they_were_after_many_connections(
    tmp_path, amount, tell
):
    count = amount(20_000, 1_000_000)
    async with nginx(tmp_path) as address, Pipy(tmp_path / "pipy") as proxy:
        told = config.plain(proxy.outbound.port, address)
        # A line per connection would be measured, too: in the test's own memory.
        told["telemetry"] = {"access_log": "off"}
        await proxy.apply(told)

        async def connect(number: int) -> str:
            process = await asyncio.create_subprocess_exec(
                *("ab", "-q", "-r", "-n", str(number), "-c", "50"),
                f"http://{proxy.outbound}/",
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            out, _ = await process.communicate()
            return out.decode()

        # The first connections make what stays: buffers, pools, the allocator's own.
        await connect(5_000)
        await until(lambda: proxy.descriptors() < 40, "the first closed")
        await asyncio.wait_for(proxy.stats(), 5)
        before = proxy.descriptors(), proxy.resident_kib()
        begun = time.monotonic()
        said = await connect(count)
        seconds = time.monotonic() - begun
        done = re.search(r"Complete requests:\s+(\d+)", said)
        assert done, said
        assert int(done.group(1)) == count, said
        assert "Failed requests:        0\n" in said, said
        assert "Non-2xx" not in said, said
        await until(lambda: proxy.descriptors() <= before[0], "all closed", 20)
        await until(lambda: proxy.resident_kib() < before[1] + 1024, "the memory given back", 30)
        tell(
            connections=count,
            per_second=round(count / seconds),
            descriptors=f"{before[0]} to {proxy.descriptors()}",
            rss_kib=f"{before[1]} to {proxy.resident_kib()}",
        )
