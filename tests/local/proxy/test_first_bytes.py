"""What the first bytes of a connection decide: protocol, TLS server name, PROXY header."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct

import pytest
from proxyrig import config
from proxyrig.certs import spiffe
from proxyrig.streams import echo, greeting, name, server
from proxyrig.wire import Wire, fetch, request

BUYER, STORE = spiffe("bookbuyer"), spiffe("bookstore")


def rule(target: str):
    return config.tcp_match(1, target)["tcp"]


def auto(port: int, **changes):
    return config.tcp_match(
        port, protocol="auto", hosts=[config.host(config.route(("web", 1)))], **changes
    )


async def detecting(rig, web, raw, detect_ms: int = 200):
    proxy = await rig.pipy()
    clusters = {
        "web": config.cluster(config.endpoint(web)),
        "app": config.cluster(config.endpoint(raw)),
    }
    await proxy.apply(
        config.whole(
            outbound={"matches": [auto(proxy.outbound.port)]},
            clusters=clusters,
            timeouts={"detect_ms": detect_ms},
        )
    )
    return proxy


async def test_unknown_protocols_are_found_out_and_counted(rig):
    web = await rig.backend()
    async with server(name(b"raw")) as raw:
        proxy = await detecting(rig, web.address, raw)
        response = await fetch(proxy.outbound, request("GET", "/books"))
        assert response.status == 200
        assert [seen.target for seen in web.requests] == ["/books"]
        for words in (b"*1\r\n$4\r\nPING\r\n", b"\x10\x1c\0\x04MQTT", b"EHLO a\r\n"):
            async with await Wire.open(proxy.outbound) as wire:
                await wire.send(words)
                assert await wire.rest() == b"raw heard " + words
        stats = await proxy.stats()
        assert stats["protocol_detected.http1"] == "1"
        assert stats["protocol_detected.tcp"] == "3"


async def test_a_request_line_may_come_byte_by_byte(rig):
    web = await rig.backend()
    async with server(name(b"raw")) as raw:
        proxy = await detecting(rig, web.address, raw, detect_ms=5_000)
        async with await Wire.open(proxy.outbound) as wire:
            for byte in request("GET", "/slow"):
                await wire.send(bytes([byte]))
            assert (await wire.response()).status == 200
        assert [seen.target for seen in web.requests] == ["/slow"]


async def test_a_server_that_speaks_first_is_reached_in_time(rig):
    web = await rig.backend()
    async with server(greeting(b"220 hello\r\n")) as raw:
        proxy = await detecting(rig, web.address, raw, detect_ms=100)
        async with await Wire.open(proxy.outbound) as wire:
            assert await wire.line() == "220 hello"
            await wire.send(b"back")
            assert await wire.exactly(4) == b"back"
        assert (await proxy.stats())["protocol_detected.silent"] == "1"


async def test_half_a_request_line_goes_on_as_bytes_when_time_is_up(rig):
    web = await rig.backend()
    async with server(echo) as raw:
        proxy = await detecting(rig, web.address, raw, detect_ms=100)
        async with await Wire.open(proxy.outbound) as wire:
            await wire.send(b"GET /half")
            assert await wire.exactly(9) == b"GET /half"
            wire.finish()
            assert await wire.rest() == b""


async def test_detection_works_behind_mutual_tls(rig, authority):
    web = await rig.backend()
    async with server(greeting(b"220 hello\r\n")) as raw:
        inner = await rig.pipy(member=authority.member(STORE))
        outer = await rig.pipy(member=authority.member(BUYER))
        allowed = config.allow(BUYER)
        match = config.tcp_match(
            inner.inbound.port,
            protocol="auto",
            allowed=allowed,
            hosts=[config.host(config.route(("web", 1), allowed=allowed))],
        )
        await inner.apply(
            config.whole(
                identity=STORE,
                inbound={"matches": [match]},
                clusters={
                    "web": config.cluster(config.endpoint(web.address)),
                    "app": config.cluster(config.endpoint(raw)),
                },
                timeouts={"detect_ms": 100},
            )
        )
        store = config.cluster(config.endpoint(inner.inbound, STORE))
        await outer.apply(
            config.whole(
                identity=BUYER,
                outbound={"matches": [auto(outer.outbound.port)]},
                clusters={"web": store, "app": store},
                timeouts={"detect_ms": 100},
            )
        )
        assert (await fetch(outer.outbound, request("GET", "/"))).status == 200
        async with await Wire.open(outer.outbound) as wire:
            assert await wire.line() == "220 hello"


async def test_tls_is_carried_unopened_by_server_name(rig, authority, tmp_path):
    stores = {
        label: authority.dns_member(label)
        for label in ("pay.shop", "*.mail.shop", "rest.shop", "a.b.mail.shop")
    }
    async with contextlib.AsyncExitStack() as stack:

        async def tls(label: str):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            files = tmp_path / label.replace("*", "any")
            stores[label].write(files)
            context.load_cert_chain(files / "cert.pem", files / "key.pem")

            async def hello(reader, writer):
                writer.write(label.encode())
                await writer.drain()
                writer.close()

            listening = await asyncio.start_server(hello, "127.0.0.1", 0, ssl=context)
            stack.push_async_callback(listening.wait_closed)
            stack.callback(listening.close)
            return f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"

        targets = {"pay": "pay.shop", "mail": "*.mail.shop", "deep": "a.b.mail.shop"}
        clusters = {
            key: config.cluster(config.endpoint(await tls(label))) for key, label in targets.items()
        }
        proxy = await rig.pipy()
        match = config.tcp_match(proxy.outbound.port, protocol="tls")
        match["tcp"] = None
        match["tls"] = [
            {"names": ["*.mail.shop"], "tcp": rule("mail")},
            {"names": ["pay.shop"], "tcp": rule("pay")},
            {"names": ["a.b.mail.shop"], "tcp": rule("deep")},
        ]
        await proxy.apply(config.whole(outbound={"matches": [match]}, clusters=clusters))
        trust = ssl.create_default_context(cadata=authority.root)
        trust.check_hostname = False

        async def ask(server_name: str) -> bytes:
            reader, writer = await asyncio.open_connection(
                *proxy.outbound, ssl=trust, server_hostname=server_name
            )
            try:
                return await asyncio.wait_for(reader.read(-1), 10)
            finally:
                writer.close()
                with contextlib.suppress(ssl.SSLError, ConnectionError):
                    await writer.wait_closed()

        assert await ask("pay.shop") == b"pay.shop"
        assert await ask("PAY.shop") == b"pay.shop"
        assert await ask("x.mail.shop") == b"*.mail.shop"
        assert await ask("x.y.mail.shop") == b"*.mail.shop"
        assert await ask("a.b.mail.shop") == b"a.b.mail.shop"
        for other in ("mail.shop", "evilmail.shop", "rest.shop"):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await ask(other)
        [line, *_] = await proxy.log(1, host="x.mail.shop")
        assert (line["protocol"], line["cluster"]) == ("tls", "mail")
        denied = await proxy.log(3, decision="denied")
        assert "TLS server" in denied[0]["reason"]
        # Not TLS at all, and no rule for it.
        async with await Wire.open(proxy.outbound) as wire:
            await wire.send(b"GET / HTTP/1.1\r\n\r\n")
            assert await wire.rest() == b""
        assert (await proxy.stats())["denied.no_server_name"] == "4"


def v2(source: str, destination: str, ports: tuple[int, int]) -> bytes:
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    body = socket.inet_pton(family, source) + socket.inet_pton(family, destination)
    body += struct.pack("!HH", *ports)
    kind = 0x21 if ":" in source else 0x11
    return b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", 0x21, kind, len(body)) + body


async def headed(rig, app, **match):
    proxy = await rig.pipy()
    match = config.tcp_match(
        proxy.inbound.port,
        mtls="disabled",
        proxy_protocol_from=["127.0.0.0/8"],
        **match,
    )
    cluster = config.cluster(config.endpoint(app))
    await proxy.apply(config.whole(inbound={"matches": [match]}, clusters={"app": cluster}))
    return proxy


@pytest.mark.parametrize(
    ("header", "peer"),
    [
        (b"PROXY TCP4 192.0.2.7 192.0.2.8 4321 80\r\n", "192.0.2.7:4321"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::8 4321 80\r\n", "[2001:db8::7]:4321"),
        (v2("192.0.2.9", "192.0.2.8", (99, 80)), "192.0.2.9:99"),
        (v2("2001:db8::9", "2001:db8::8", (99, 80)), "[2001:db8::9]:99"),
    ],
)
async def test_a_proxy_header_names_the_client(rig, header, peer):
    async with server(echo) as app:
        proxy = await headed(rig, app)
        async with await Wire.open(proxy.inbound) as wire:
            for byte in header:
                await wire.send(bytes([byte]))
            await wire.send(b"hello")
            assert await wire.exactly(5) == b"hello"
        [line] = await proxy.log(1)
        assert line["peer"] == peer


async def test_who_speaks_for_itself_is_who_it_is(rig):
    async with server(echo) as app:
        proxy = await headed(rig, app)
        for header in (b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"):
            async with await Wire.open(proxy.inbound) as wire:
                await wire.send(header + b"x")
                assert await wire.exactly(1) == b"x"
        for line in await proxy.log(2):
            assert line["peer"].startswith("127.0.0.1:")


async def test_without_its_header_a_trusted_peer_is_reset(rig):
    async with server(echo) as app:
        proxy = await headed(rig, app)
        async with await Wire.open(proxy.inbound) as wire:
            await wire.send(b"hello")
            with pytest.raises(ConnectionResetError):
                await wire.rest()
        [line] = await proxy.log(1, decision="denied")
        assert "PROXY header" in line["reason"]
        stats = await proxy.stats()
        assert stats["denied.no_proxy_header"] == "1"
        assert stats["http.protocol_error.proxy_no_header"] == "1"


async def test_rules_by_address_see_the_client_that_the_header_names(rig, authority):
    """A stranger in the named range comes in; one outside of it must be of the mesh."""
    async with server(greeting(b"in")) as app:
        proxy = await rig.pipy(member=authority.member(STORE))
        match = config.tcp_match(
            proxy.inbound.port,
            allowed=[],
            proxy_protocol_from=["127.0.0.0/8"],
            sources=[{"cidrs": ["198.51.100.0/24"], "origin": "IngressBackend/shop/app"}],
        )
        cluster = config.cluster(config.endpoint(app))
        await proxy.apply(config.whole(inbound={"matches": [match]}, clusters={"app": cluster}))
        async with await Wire.open(proxy.inbound) as wire:
            await wire.send(b"PROXY TCP4 198.51.100.3 192.0.2.8 1 2\r\n")
            assert await wire.exactly(2) == b"in"
        async with await Wire.open(proxy.inbound) as wire:
            await wire.send(b"PROXY TCP4 198.51.101.3 192.0.2.8 1 2\r\nplain")
            with pytest.raises(ConnectionResetError):
                await wire.rest()
        [line] = await proxy.log(1, decision="denied")
        assert line["peer"] == "198.51.101.3:1"


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_an_upstream_is_told_the_client(rig, version):
    heard = asyncio.get_running_loop().create_future()

    async def first(reader, writer):
        heard.set_result(await reader.readuntil(b"hello"))

    async with server(first) as app:
        proxy = await rig.pipy()
        cluster = config.cluster(config.endpoint(app), proxy_protocol=version)
        match = config.tcp_match(proxy.outbound.port)
        await proxy.apply(config.whole(outbound={"matches": [match]}, clusters={"app": cluster}))
        async with await Wire.open(proxy.outbound) as wire:
            ours = wire.writer.get_extra_info("sockname")
            await wire.send(b"hello")
            seen = await asyncio.wait_for(heard, 10)
        ports = (ours[1], proxy.outbound.port)
        wanted = {
            "v1": "PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n".format(*ports).encode(),
            "v2": v2("127.0.0.1", "127.0.0.1", ports),
        }
        assert seen == wanted[version] + b"hello"
