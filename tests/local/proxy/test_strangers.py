"""Clients that are no members: let in by address, by a name in their certificate, or not."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from datetime import timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from proxyrig import config, streams
from proxyrig.certs import spiffe
from proxyrig.wire import Wire

STORE, INGRESS = spiffe("bookstore"), spiffe("nginx", "ingress")
HOUR = timedelta(hours=1)


async def open_to(rig, authority, allowed=(), **source):
    """Start a sidecar that lets strangers of loopback in, by this rule, and these members."""
    backend = await rig.backend()
    proxy = await rig.pipy(member=authority.member(STORE))
    rule = {"cidrs": ["127.0.0.0/8"], "origin": "IngressBackend/shop/app", **source}
    match = config.http_match(
        proxy.inbound.port,
        config.host(config.route(allowed=None if allowed is None else list(allowed))),
        sources=[rule],
    )
    cluster = config.cluster(config.endpoint(backend.address))
    await proxy.apply(
        config.whole(identity=STORE, inbound={"matches": [match]}, clusters={"app": cluster})
    )
    return proxy


async def ask(proxy, authority, member, tmp_path, path="/", server="app.shop") -> int | None:
    """Ask over mutual TLS; the status, or none when the connection was refused."""
    context = ssl.create_default_context(cadata=authority.root)
    context.check_hostname = False
    if member is not None:
        member.write(tmp_path)
        context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    try:
        reader, writer = await asyncio.open_connection(
            *proxy.inbound, ssl=context, server_hostname=server
        )
    except (ssl.SSLError, ConnectionError):
        return None
    try:
        head = f"GET {path} HTTP/1.1\r\nHost: whatever.example\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        line = await asyncio.wait_for(reader.readline(), 10)
        return int(line.split()[1]) if line else None
    except (ssl.SSLError, ConnectionError):
        return None
    finally:
        writer.close()
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            await writer.wait_closed()


NAMES = {
    "uri": [x509.UniformResourceIdentifier(INGRESS)],
    "dns": [x509.DNSName("ingress.example")],
    "other uri": [x509.UniformResourceIdentifier(INGRESS + "x")],
    "other dns": [x509.DNSName("ingress.example.evil.example")],
    "wildcard": [x509.DNSName("*.example")],
    "nul": [x509.DNSName("ingress.example\0.evil.example")],
    "nul uri": [x509.UniformResourceIdentifier(INGRESS + "\0.evil")],
    "address": [x509.IPAddress(ip_address("127.0.0.1"))],
    "second of two": [x509.DNSName("first.example"), x509.DNSName("ingress.example")],
}


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("uri", 200),
        ("dns", 200),
        ("second of two", 200),
        ("other uri", 403),
        ("other dns", 403),
        ("wildcard", 403),
        ("nul", 403),
        ("nul uri", 403),
        ("address", 403),
    ],
)
async def test_a_principal_is_a_name_in_the_certificate(rig, authority, tmp_path, kind, status):
    principals = [INGRESS, "ingress.example"]
    proxy = await open_to(rig, authority, mtls=True, principals=principals)
    member = authority.named(NAMES[kind])
    seen = await ask(proxy, authority, member, tmp_path)
    # What the TLS library itself finds unreadable is refused by it, before any rule.
    assert seen == status or (status == 403 and seen is None), kind
    line = (await proxy.log(1))[0]
    assert line["decision"] == ("allowed" if status == 200 else "denied")


async def test_a_common_name_is_a_principal_too(rig, authority, tmp_path):
    proxy = await open_to(rig, authority, mtls=True, principals=["ingress-nginx"])
    right = authority.named([], common_name="ingress-nginx")
    wrong = authority.named([], common_name="ingress-nginx2")
    assert await ask(proxy, authority, right, tmp_path) == 200
    assert await ask(proxy, authority, wrong, tmp_path) == 403


@pytest.mark.parametrize(
    ("case", "word", "counter"),
    [
        ("none", "showed no certificate", "no_certificate"),
        ("expired", "has expired", "expired"),
        ("early", "not valid yet", "not_yet_valid"),
        ("stranger", "no authority of the mesh", "unknown_issuer"),
    ],
)
async def test_a_certificate_that_proves_nothing_is_refused_and_the_log_says_why(
    rig, authority, stranger, tmp_path, case, word, counter
):
    proxy = await open_to(rig, authority, mtls=True, principals=[INGRESS])
    member = {
        "none": None,
        "expired": authority.member(INGRESS, begins=-2 * HOUR, ends=-HOUR),
        "early": authority.member(INGRESS, begins=HOUR, ends=2 * HOUR),
        "stranger": stranger.member(INGRESS),
    }[case]
    assert await ask(proxy, authority, member, tmp_path) is None
    [line] = await proxy.log(1, decision="denied")
    assert word in line["reason"]
    assert line["origin"] == "Service/shop/app"
    assert (await proxy.stats())[f"tls.handshake_failure.{counter}"] == "1"


async def test_any_certificate_of_the_mesh_will_do_where_no_principal_is_named(
    rig, authority, stranger, tmp_path
):
    proxy = await open_to(rig, authority, mtls=True)
    assert await ask(proxy, authority, authority.member(INGRESS), tmp_path) == 200
    assert await ask(proxy, authority, stranger.member(INGRESS), tmp_path) is None


async def ask_plainly(proxy) -> int | None:
    reader, writer = await asyncio.open_connection(*proxy.inbound)
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: whatever.example\r\nConnection: close\r\n\r\n")
        line = await asyncio.wait_for(reader.readline(), 10)
        return int(line.split()[1]) if line else None
    except ConnectionError:
        return None
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_tls_without_a_certificate_where_the_rule_asks_for_none(rig, authority, tmp_path):
    proxy = await open_to(rig, authority, tls=True)
    assert await ask(proxy, authority, None, tmp_path) == 200
    assert await ask(proxy, authority, authority.member(INGRESS), tmp_path) == 200
    assert await ask_plainly(proxy) is None, "plain text is not TLS"


async def test_a_member_whose_address_a_rule_covers_is_a_member_still(rig, authority, tmp_path):
    client = spiffe("client")
    allowed = [{"identity": client, "origin": "TrafficTarget/shop/t"}]
    proxy = await open_to(rig, authority, allowed)
    assert await ask_plainly(proxy) == 200
    assert await ask(proxy, authority, authority.member(client), tmp_path) == 200
    assert (await proxy.log(2))[1]["source"] == client
    assert await ask(proxy, authority, authority.member(spiffe("thief")), tmp_path) == 403
    assert await ask(proxy, authority, None, tmp_path) is None, "TLS is what members speak"


@pytest.mark.parametrize("protocol", ["tcp", "auto"])
async def test_on_ports_of_bytes_who_comes_from_a_covered_address_speaks_plainly(
    rig, authority, protocol
):
    """What a member would begin with may be the application's own TLS: nobody can tell."""
    client = spiffe("client")
    async with streams.server(streams.echo) as application:
        inner = await rig.pipy(member=authority.member(STORE))
        outer = await rig.pipy(member=authority.member(client))
        hosts = [config.host(config.route(allowed=config.allow(client)))]

        async def cover(cidr: str) -> None:
            match = config.tcp_match(
                inner.inbound.port,
                protocol=protocol,
                allowed=config.allow(client),
                sources=[{"cidrs": [cidr], "origin": "IngressBackend/shop/app"}],
                **({"hosts": hosts} if protocol == "auto" else {}),
            )
            cluster = config.cluster(config.endpoint(application))
            await inner.apply(
                config.whole(
                    identity=STORE,
                    inbound={"matches": [match]},
                    clusters={"app": cluster},
                    timeouts={"detect_ms": 200},
                )
            )

        cluster = config.cluster(config.endpoint(inner.inbound, STORE))
        match = config.tcp_match(outer.outbound.port)
        await outer.apply(
            config.whole(identity=client, outbound={"matches": [match]}, clusters={"app": cluster})
        )
        # Covered: strangers are let in, and members are not understood.
        await cover("127.0.0.0/8")
        async with await Wire.open(inner.inbound) as wire:
            await wire.send(b"\x00hello")
            assert await wire.exactly(6) == b"\x00hello"
        async with await Wire.open(outer.outbound) as wire:
            await wire.send(b"\x00hello")
            with contextlib.suppress(ConnectionError):
                assert await wire.rest() == b""
        [line] = await outer.log(1, decision="failed")
        assert line["reason"] == "tls_failed"
        # Not covered: the other way round.
        await cover("192.0.2.0/24")
        async with await Wire.open(outer.outbound) as wire:
            await wire.send(b"\x00hello")
            assert await wire.exactly(6) == b"\x00hello"
        async with await Wire.open(inner.inbound) as wire:
            await wire.send(b"\x00hello")
            with contextlib.suppress(ConnectionError):
                assert await wire.rest() == b""


async def test_whoever_lacks_the_name_may_not_even_what_all_members_may(rig, authority, tmp_path):
    proxy = await open_to(rig, authority, allowed=None, mtls=True, principals=["ingress-nginx"])
    other = authority.named([x509.DNSName("other.example")])
    assert await ask(proxy, authority, other, tmp_path) == 403
    assert await ask(proxy, authority, authority.member(spiffe("client")), tmp_path) == 200


@pytest.mark.parametrize("allowed", [(), None], ids=["members named", "permissive"])
async def test_a_rule_that_is_bounded_to_routes_lets_in_on_these_alone(
    rig, authority, tmp_path, allowed
):
    backend = await rig.backend()
    proxy = await rig.pipy(member=authority.member(STORE))
    origin = "HTTPRouteGroup/shop/reads#get"
    bounded = {"origin": origin, "path": {"exact": "/get"}, "allowed": []}
    allowed = None if allowed is None else list(allowed)
    routes = [{**config.route(), **bounded}, config.route(allowed=allowed)]
    rule = {"cidrs": ["127.0.0.0/8"], "origin": "IngressBackend/shop/app", "mtls": True}
    source = {**rule, "principals": ["edge.example"], "routes": [origin]}
    match = config.http_match(proxy.inbound.port, config.host(*routes), sources=[source])
    cluster = config.cluster(config.endpoint(backend.address))
    inbound = {"matches": [match]}
    await proxy.apply(config.whole(identity=STORE, inbound=inbound, clusters={"app": cluster}))
    edge = authority.named([x509.DNSName("edge.example")])
    assert await ask(proxy, authority, edge, tmp_path, "/get") == 200
    # The path is looked at as it is carried on, not as it is written.
    assert await ask(proxy, authority, edge, tmp_path, "/x/../get") == 200
    for path in ("/", "/get/", "/GET", "/get%2f", "//get"):
        assert await ask(proxy, authority, edge, tmp_path, path) == 403, path
    [line, *_] = await proxy.log(5, decision="denied")
    assert "bounded to routes" in line["reason"]
    assert line["origin"] == "IngressBackend/shop/app"
    [line, *_] = await proxy.log(2, decision="allowed")
    assert line["origin"] == "IngressBackend/shop/app", "the object that allows it"
    # A certificate of the authority that the rule does not mean opens nothing.
    other = authority.named([x509.DNSName("other.example")])
    assert await ask(proxy, authority, other, tmp_path, "/get") == 403


async def test_a_client_must_ask_for_one_of_the_server_names(rig, authority, tmp_path):
    names = ["app.shop", "*.shops.example"]
    proxy = await open_to(rig, authority, mtls=True, server_names=names)
    edge = authority.named([x509.DNSName("edge.example")])
    for server in ("app.shop", "APP.shop", "a.b.shops.example"):
        assert await ask(proxy, authority, edge, tmp_path, server=server) == 200, server
    for server in ("shops.example", "app.shop.evil", "other", None):
        assert await ask(proxy, authority, edge, tmp_path, server=server or "127.0.0.1") == 403
    [line, *_] = await proxy.log(4, decision="denied")
    assert "no rule names the TLS server" in line["reason"]


async def test_a_certificate_without_an_identity_is_no_member(rig, authority, tmp_path):
    backend = await rig.backend()
    proxy = await rig.pipy(member=authority.member(STORE))
    match = config.http_match(proxy.inbound.port, config.host(config.route(allowed=None)))
    cluster = config.cluster(config.endpoint(backend.address))
    inbound = {"matches": [match]}
    await proxy.apply(config.whole(identity=STORE, inbound=inbound, clusters={"app": cluster}))
    edge = authority.named([x509.DNSName("edge.example")])
    assert await ask(proxy, authority, edge, tmp_path) == 403
    assert await ask(proxy, authority, authority.member(INGRESS), tmp_path) == 200
