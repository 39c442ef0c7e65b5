"""Applications end under load while their callers still count on them, and no request fails.

As a Pod that ends: its application gets SIGTERM first and goes within milliseconds, its sidecar
later; that the endpoint leaves is heard by callers later still, here never. All cores are taken
meanwhile. What may have been carried out is not sent twice, so the load is of GET.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from proxyrig import config
from proxyrig.certs import Authority, spiffe
from proxyrig.process import Pipy
from proxyrig.waiting import until
from proxyrig.wire import Address, Wire, request

BUYER, STORE = spiffe("bookbuyer"), spiffe("bookstore")

APPLICATION = r"""
import http.server, signal, threading
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer leaves whole or not at all: half of one can't be taken back.
    wbufsize = 65536
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *args):
        pass
class S(http.server.ThreadingHTTPServer):
    request_queue_size = 128
server = S(("127.0.0.1", 0), H)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
print(server.server_address[1], flush=True)
server.serve_forever()
"""


class Application:
    """A web server as many write it: its threads do not outlive it, whatever they are about."""

    async def __aenter__(self) -> Application:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", APPLICATION, stdout=asyncio.subprocess.PIPE
        )
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), 30)
        self.address = Address("127.0.0.1", int(line))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def end(self) -> None:
        """Tell it to end, and wait until it has."""
        self.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(self.process.wait(), 30)


class Burner(Application):
    """Takes a core."""

    async def __aenter__(self) -> Burner:
        self.process = await asyncio.create_subprocess_exec(sys.executable, "-c", "while True: 1")
        return self


class Callers:
    """Ask again and again, some over kept connections, and note what is not 200."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.answered: dict[int, int] = {}
        self.failures: list[str] = []
        self.stop = False

    async def caller(self, number: int, keep: bool) -> None:
        self.answered[number] = 0
        while not self.stop:
            try:
                async with await Wire.open(self.address) as wire:
                    while not self.stop:
                        response = await wire.ask(request("GET", "/"))
                        if response.status != 200 or response.body != b"ok":
                            self.failures.append(f"{response.status} {response.body!r}")
                        self.answered[number] += 1
                        if not keep or response.header("connection") == "close":
                            break
            except (OSError, EOFError, AssertionError, TimeoutError) as error:
                self.failures.append(repr(error))

    async def more(self) -> None:
        """Wait until no request is under way that was before, and each caller has asked again."""
        before = dict(self.answered)

        def look() -> bool:
            return all(self.answered[number] > count + 1 for number, count in before.items())

        await until(lambda: look() or self.failures, "answers", 60)


# The requests of many share connections between the sidecars.
@pytest.mark.parametrize("callers", [4, 24])
@pytest.mark.timeout(3600)
async def test_applications_end_before_callers_hear_of_it(tmp_path: Path, amount, tell, callers):
    authority, rounds = Authority("the mesh"), amount(6, 100)

    def serving(port: int, address: Address) -> dict:
        match = config.http_match(port, config.host(config.route(allowed=config.allow(BUYER))))
        return config.whole(
            identity=STORE,
            inbound={"matches": [match]},
            clusters={"app": config.cluster(config.endpoint(address))},
        )

    async with AsyncExitStack() as stack:
        servers, applications = [], []
        for name in ("a", "b"):
            application = await stack.enter_async_context(Application())
            server = await stack.enter_async_context(Pipy(tmp_path / name, authority.member(STORE)))
            await server.apply(serving(server.inbound.port, application.address))
            servers.append(server)
            applications.append(application)
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
        for _ in range(os.cpu_count() or 1):
            await stack.enter_async_context(Burner())
        load, begun = Callers(client.outbound), time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(callers):
                group.create_task(load.caller(number, keep=number % 2 == 0))
            try:
                for number in range(rounds):
                    which = number % 2
                    await load.more()
                    await applications[which].end()
                    await load.more()
                    applications[which] = await stack.enter_async_context(Application())
                    server = servers[which]
                    await server.apply(serving(server.inbound.port, applications[which].address))
            finally:
                load.stop = True
        stats = await client.stats()
        elsewhere = int(stats.get("cluster.app.upstream_rq_elsewhere", 0))
        tell(
            applications=rounds,
            requests=sum(load.answered.values()),
            elsewhere=elsewhere,
            failed=len(load.failures),
            seconds=round(time.monotonic() - begun),
        )
        told = [line for line in client.all_log() if line.get("status") != 200]
        assert not load.failures, (len(load.failures), load.failures[:3], told[:3])
        assert elsewhere > 0
