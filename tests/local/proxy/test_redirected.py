"""A pair of sidecars behind a firewall that redirects to them, each in a network namespace.

The client dials an address that no one has, as a cluster IP; the packet mark keeps the sidecar's
own connections out of the redirection; the application sees them come from 127.0.0.6. The ports
are fixed, for a namespace has all of them to itself.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from proxyrig import config
from proxyrig.certs import spiffe
from proxyrig.waiting import until

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("nft") or not shutil.which("ip"),
    reason="needs root, nft and ip to make network namespaces",
)

BUYER, STORE = spiffe("bookbuyer"), spiffe("bookstore")
MARK = 1500
SERVICE = "10.99.0.1"

OUTPUT = f"""table ip mesh {{
  chain output {{
    type nat hook output priority -100;
    meta mark {MARK} return
    oifname lo return
    meta l4proto tcp redirect to :15001
  }}
}}"""
INPUT = """table ip mesh {
  chain prerouting {
    type nat hook prerouting priority -100;
    tcp dport 15010 return
    meta l4proto tcp redirect to :15003
  }
}"""

APP = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = self.client_address[0].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass
server = http.server.ThreadingHTTPServer(("0.0.0.0", 14001), Handler)
print("ready", flush=True)
server.serve_forever()
"""

# A client whose packets bear the sidecar's mark: not redirected, and no member of the mesh.
INTRUDER = f"""
import socket
with socket.socket() as s:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, {MARK})
    s.settimeout(10)
    s.connect(("10.77.0.2", 14001))
    s.sendall(b"GET / HTTP/1.1\\r\\nHost: bookstore\\r\\n\\r\\n")
    try:
        print(s.recv(100))
    except ConnectionResetError:
        print("reset")
"""


async def sh(*command: str, stdin: str | None = None) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate((stdin or "").encode()), 20)
    return process.returncode or 0, out.decode()


async def must(*command: str, stdin: str | None = None) -> str:
    code, out = await sh(*command, stdin=stdin)
    assert code == 0, (command, out)
    return out


@dataclass
class Spaces:
    client: str
    server: str

    def within(self, name: str) -> tuple[str, ...]:
        return ("ip", "netns", "exec", name)


_numbers = itertools.count()


@pytest.fixture
async def spaces() -> AsyncIterator[Spaces]:
    stem = f"pipytest-{os.getpid()}-{next(_numbers)}"
    made = Spaces(f"{stem}-a", f"{stem}-b")
    try:
        for name in (made.client, made.server):
            await must("ip", "netns", "add", name)
            await must("ip", "-n", name, "link", "set", "lo", "up")
        await must(
            "ip",
            "-n",
            made.client,
            "link",
            "add",
            "eth0",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            made.server,
        )
        for name, host in ((made.client, 1), (made.server, 2)):
            await must("ip", "-n", name, "addr", "add", f"10.77.0.{host}/24", "dev", "eth0")
            await must("ip", "-n", name, "link", "set", "eth0", "up")
        await must("ip", "-n", made.client, "route", "add", "default", "via", "10.77.0.2")
        await must(*made.within(made.client), "nft", "-f", "-", stdin=OUTPUT)
        await must(*made.within(made.server), "nft", "-f", "-", stdin=INPUT)
        yield made
    finally:
        for name in (made.client, made.server):
            await sh("ip", "netns", "del", name)


def sides() -> tuple[dict, dict]:
    names = ("bookstore", "bookstore:14001")
    inbound = config.whole(
        identity=STORE,
        inbound={
            "matches": [
                config.http_match(
                    14001, config.host(config.route(allowed=config.allow(BUYER)), names=names)
                )
            ]
        },
        clusters={"app": config.cluster(config.endpoint("127.0.0.1:14001"))},
    )
    outbound = config.whole(
        identity=BUYER,
        outbound={
            "matches": [
                config.http_match(
                    14001, config.host(config.route(), names=names), destinations=[f"{SERVICE}/32"]
                )
            ]
        },
        clusters={"app": config.cluster(config.endpoint("10.77.0.2:14001", STORE))},
    )
    return inbound, outbound


async def test_a_redirected_pair_carries_a_request_and_keeps_others_out(rig, authority, spaces):
    app = await asyncio.create_subprocess_exec(
        *spaces.within(spaces.server), sys.executable, "-c", APP, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert app.stdout is not None
        assert await asyncio.wait_for(app.stdout.readline(), 10) == b"ready\n"
        inbound, outbound = sides()
        flags = (f"--mark={MARK}",)
        server = await rig.pipy(
            member=authority.member(STORE),
            boot=inbound,
            flags=flags,
            inbound="0.0.0.0:15003",
            command=spaces.within(spaces.server),
        )
        client = await rig.pipy(
            member=authority.member(BUYER),
            boot=outbound,
            flags=flags,
            outbound="0.0.0.0:15001",
            command=spaces.within(spaces.client),
        )
        curl = (*spaces.within(spaces.client), "curl", "-s", "--max-time", "10")
        for _ in range(3):
            seen = await must(*curl, "-H", "Host: bookstore", f"http://{SERVICE}:14001/")
            assert seen == "127.0.0.6"
        [out, *_] = await client.log(3)
        [inn, *_] = await server.log(3)
        assert out["original_destination"] == f"{SERVICE}:14001"
        assert out["upstream"] == "10.77.0.2:14001"
        assert inn["original_destination"] == "10.77.0.2:14001"
        assert inn["peer"].startswith("10.77.0.1:")
        assert (inn["source"], inn["decision"]) == (BUYER, "allowed")
        # A port that no rule names, an address that none names, and a foreign client.
        assert (await sh(*curl, f"http://{SERVICE}:14002/"))[0] == 52
        assert (await sh(*curl, "http://10.99.0.2:14001/"))[0] == 52
        python = (*spaces.within(spaces.client), sys.executable, "-c", INTRUDER)
        assert (await must(*python)).strip() == "reset"
        [denied] = await server.log(1, decision="denied")
        assert "mutual TLS" in denied["reason"]
    finally:
        app.terminate()
        await app.wait()


async def test_egress_passes_through_to_where_it_was_going(rig, authority, spaces):
    listener = await asyncio.create_subprocess_exec(
        *spaces.within(spaces.server), sys.executable, "-c", APP, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert listener.stdout is not None
        await asyncio.wait_for(listener.stdout.readline(), 10)
        await must(*spaces.within(spaces.server), "nft", "flush", "ruleset")
        told = config.whole(outbound={"matches": [], "unmatched": "passthrough"})
        client = await rig.pipy(
            boot=told,
            flags=(f"--mark={MARK}",),
            outbound="0.0.0.0:15001",
            command=spaces.within(spaces.client),
        )
        curl = (*spaces.within(spaces.client), "curl", "-s", "--max-time", "10")
        assert await must(*curl, "http://10.77.0.2:14001/") == "10.77.0.1"
        [line] = await client.log(1)
        # Nothing waited for it, yet what was spoken is known.
        assert (line["decision"], line["protocol"]) == ("passthrough", "http")
        assert line["upstream"] == line["original_destination"] == "10.77.0.2:14001"
        # Called at its own port it must not call itself, over and over.
        code, _ = await sh(*curl, "http://127.0.0.1:15001/")
        assert code == 52
        stats = await must(
            *spaces.within(spaces.client), "curl", "-s", f"http://{client.admin}/stats"
        )
        assert json.dumps(stats).count("denied.") == 0
        await until(lambda: client.descriptors() < 40, "few descriptors")
    finally:
        listener.terminate()
        await listener.wait()


RESETTING = """
import socket, struct
server = socket.create_server(("0.0.0.0", 14001))
print("ready", flush=True)
while True:
    client, _ = server.accept()
    client.recv(100)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
"""

ASKING = """
import socket, sys
with socket.create_connection(("10.77.0.2", 14001), 10) as server:
    server.sendall(sys.argv[1].encode())
    try:
        print("ended" if not server.recv(1) else "answered")
    except ConnectionResetError:
        print("reset")
"""


async def test_a_server_that_resets_looks_closed_to_http_and_broken_to_others(rig, spaces):
    server = await asyncio.create_subprocess_exec(
        *spaces.within(spaces.server),
        sys.executable,
        "-c",
        RESETTING,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert server.stdout is not None
        await asyncio.wait_for(server.stdout.readline(), 10)
        await must(*spaces.within(spaces.server), "nft", "flush", "ruleset")
        await rig.pipy(
            boot=config.whole(outbound={"matches": [], "unmatched": "passthrough"}),
            flags=(f"--mark={MARK}",),
            outbound="0.0.0.0:15001",
            command=spaces.within(spaces.client),
        )
        ask = (*spaces.within(spaces.client), sys.executable, "-c", ASKING)
        # curl has a code of its own for a server that ends without a word (52).
        assert await must(*ask, "GET / HTTP/1.1\r\nHost: server\r\n\r\n") == "ended\n"
        assert await must(*ask, "hello\n") == "reset\n"
    finally:
        server.terminate()
        await server.wait()


async def test_ipv6_is_redirected_and_its_destination_known(rig, spaces):
    """The product's own ruleset; the sidecar listens on all addresses of IPv4 and so of IPv6."""
    from fsm.injector.ruleset import Redirection, redirect_ruleset
    from fsm.settings import Ports

    rules = redirect_ruleset(Redirection(ports=Ports(), mark=MARK))
    for name, host in ((spaces.client, 1), (spaces.server, 2)):
        address = f"fd77::{host}/64"
        await must("ip", "-n", name, "-6", "addr", "add", address, "dev", "eth0", "nodad")
    await must("ip", "-n", spaces.client, "-6", "route", "add", "default", "via", "fd77::2")
    await must(*spaces.within(spaces.server), "nft", "flush", "ruleset")
    await must(*spaces.within(spaces.client), "nft", "flush", "ruleset")
    await must(*spaces.within(spaces.client), "nft", "-f", "-", stdin=rules)
    app = await asyncio.create_subprocess_exec(
        *spaces.within(spaces.server),
        sys.executable,
        "-c",
        APP.replace("http.server.ThreadingHTTPServer((", "Server((")
        .replace(
            "server = ",
            "import socket\nclass Server(http.server.ThreadingHTTPServer):\n"
            "    address_family = socket.AF_INET6\nserver = ",
        )
        .replace("0.0.0.0", "::"),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert app.stdout is not None
        assert await asyncio.wait_for(app.stdout.readline(), 10) == b"ready\n"
        match = config.http_match(
            14001, config.host(config.route(), names=("*",)), destinations=["fd99::1/128"]
        )
        told = config.whole(
            outbound={"matches": [match], "unmatched": "passthrough"},
            clusters={"app": config.cluster(config.endpoint("[fd77::2]:14001"))},
        )
        client = await rig.pipy(
            boot=told,
            flags=(f"--mark={MARK}",),
            outbound="0.0.0.0:15001",
            command=spaces.within(spaces.client),
        )
        curl = (*spaces.within(spaces.client), "curl", "-s", "--max-time", "10")
        # By rule, to an address that no one has; and passing through, to where it was going.
        assert await must(*curl, "http://[fd99::1]:14001/") == "fd77::1"
        assert await must(*curl, "http://[fd77::2]:14001/") == "fd77::1"
        ruled, passed = await client.log(2)
        assert ruled["original_destination"] == "[fd99::1]:14001"
        assert ruled["upstream"] == "[fd77::2]:14001"
        assert (passed["decision"], passed["upstream"]) == ("passthrough", "[fd77::2]:14001")
        # The other family goes on beside it.
        assert (await sh(*curl, "http://10.77.0.9:1/"))[0] == 52
    finally:
        app.terminate()
        await app.wait()
