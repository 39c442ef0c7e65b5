"""A pair of sidecars over loopback: who is who is proved by certificates, on both ends.

There is no redirection here, so the original destination of a connection is the listener itself.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from datetime import timedelta
from typing import Any

import pytest
from proxyrig import config
from proxyrig.certs import Authority, Member, spiffe
from proxyrig.process import Pipy
from proxyrig.wire import Address, Wire, fetch, request

BUYER, STORE = spiffe("bookbuyer"), spiffe("bookstore")


def store(proxy: Pipy, app: Address, *allowed: str, **changes: Any) -> dict[str, Any]:
    """Serve the application to these callers."""
    route = config.route(allowed=config.allow(*allowed), **changes)
    host = config.host(route, names=("bookstore", "bookstore:14001"))
    return config.whole(
        identity=STORE,
        workload={
            "namespace": "bookstore",
            "kind": "Deployment",
            "name": "bookstore",
            "pod": "bookstore-0",
            "service_account": "bookstore",
        },
        inbound={"matches": [config.http_match(proxy.inbound.port, host)]},
        clusters={"app": config.cluster(config.endpoint(app))},
    )


def buyer(proxy: Pipy, to: Address, identity: str = STORE, **changes: Any) -> dict[str, Any]:
    """Call a sidecar that must prove this identity."""
    cluster = config.cluster(config.endpoint(to, identity), **changes)
    match = config.http_match(proxy.outbound.port, config.host(config.route()))
    return config.whole(identity=BUYER, outbound={"matches": [match]}, clusters={"app": cluster})


async def pair(rig, authority: Authority, app: Address, *allowed: str, **members: Member):
    server = await rig.pipy(member=members.get("server") or authority.member(STORE))
    client = await rig.pipy(member=members.get("client") or authority.member(BUYER))
    await server.apply(store(server, app, *(allowed or (BUYER,))))
    await client.apply(buyer(client, server.inbound))
    return client, server


ASK = request("GET", "/books", "Host: bookstore:14001")


async def test_an_allowed_caller_is_served_and_both_logs_say_by_what(rig, authority):
    backend = await rig.backend()
    client, server = await pair(rig, authority, backend.address)
    response = await fetch(client.outbound, ASK)
    seen = json.loads(response.body)
    assert response.status == 200
    assert seen["peer"] == "127.0.0.6", "the application sees the sidecar's own address"
    # What the sidecars tell each other stays between them.
    assert response.header("fsm-stats") is None
    [out] = await client.log()
    [inn] = await server.log()
    assert (out["decision"], out["destination"], out["upstream"]) == (
        "allowed",
        STORE,
        str(server.inbound),
    )
    assert (inn["decision"], inn["source"], inn["destination"]) == ("allowed", BUYER, STORE)
    assert inn["origin"] == "TrafficTarget/shop/bookbuyer"
    assert inn["rule_origin"] == "HTTPRouteGroup/shop/routes#all"
    metrics = (await fetch(client.metrics, request("GET", "/stats/prometheus"))).body.decode()
    assert 'destination_pod="bookstore-0"' in metrics


async def test_a_caller_that_is_not_allowed_is_denied_in_thirteen_bytes(rig, authority):
    backend = await rig.backend()
    client, server = await pair(rig, authority, backend.address, spiffe("bookthief"))
    async with await Wire.open(client.outbound) as wire:
        for _ in range(2):  # A denial costs no connection.
            response = await wire.ask(ASK)
            assert (response.status, response.body) == (403, b"Access denied")
            assert response.header("content-length") == "13"
    assert backend.requests == []
    lines = await server.log(2, decision="denied")
    assert lines[0]["reason"] == "no policy allows this identity on the routes that fit"
    assert lines[0]["source"] == BUYER
    assert lines[0]["origin"] == "HTTPRouteGroup/shop/routes#all"
    assert (await server.stats())["denied.not_allowed"] == "2"


async def test_a_host_that_no_rule_names_is_denied(rig, authority):
    backend = await rig.backend()
    client, server = await pair(rig, authority, backend.address)
    response = await fetch(client.outbound, request("GET", "/", "Host: elsewhere"))
    assert (response.status, response.body) == (403, b"Access denied")
    [line] = await server.log()
    assert (line["reason"], line["origin"]) == ("no rule names this host", "Service/shop/app")


async def test_bodies_and_trailers_cross_the_encrypted_hop(rig, authority):
    backend = await rig.backend()
    client, _ = await pair(rig, authority, backend.address)
    async with await Wire.open(client.outbound) as wire:
        for size in (0, 1, 16_384, 16_385, 3_000_000):
            body = bytes(i % 253 for i in range(size))
            ask = request("POST", "/", "Host: bookstore", body=body)
            seen = json.loads((await wire.ask(ask)).body)
            assert seen["bytes"] == size
            assert backend.requests[-1].body == body
    assert (await client.stats())["cluster.app.upstream_cx_total"] == "1"


async def test_the_right_address_with_another_identity_is_refused_and_hears_nothing(rig, authority):
    backend = await rig.backend()
    client, server = await pair(
        rig, authority, backend.address, server=authority.member(spiffe("impostor"))
    )
    response = await fetch(client.outbound, ASK)
    assert (response.status, response.body) == (502, b"upstream has another identity than expected")
    assert backend.requests == []
    [line] = await client.log()
    assert (line["decision"], line["reason"]) == ("failed", "wrong_peer")
    # The other side hears why, and that it was no member that called.
    await server.log(1, decision="denied")


@pytest.mark.parametrize("uris", [(), (STORE, spiffe("other")), ("https://bookstore",)])
async def test_a_certificate_that_names_no_one_clearly_is_no_proof(rig, authority, uris):
    backend = await rig.backend()
    client, _ = await pair(rig, authority, backend.address, server=authority.member(*uris))
    assert (await fetch(client.outbound, ASK)).status == 502
    assert backend.requests == []


async def test_nothing_is_sent_to_a_server_that_speaks_no_tls(rig, authority):
    heard = bytearray()
    done = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read(65536))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        heard.extend(await reader.read(-1))
        writer.close()
        done.set()

    plain = await asyncio.start_server(listen, "127.0.0.1", 0)
    client = await rig.pipy(member=authority.member(BUYER))
    await client.apply(buyer(client, Address(*plain.sockets[0].getsockname())))
    ask = request("POST", "/secret-path", "X-Secret: hidden", body=b"confidential")
    response = await fetch(client.outbound, ask)
    assert (response.status, response.body) == (502, b"upstream TLS failure")
    await asyncio.wait_for(done.wait(), 10)
    plain.close()
    assert heard[0] == 22, "a TLS handshake"
    for secret in (b"secret", b"hidden", b"confidential"):
        assert secret not in heard


async def test_a_server_that_never_answers_the_handshake_is_given_up(rig, authority):
    async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    silent = await asyncio.start_server(ignore, "127.0.0.1", 0)
    client = await rig.pipy(member=authority.member(BUYER))
    told = buyer(client, Address(*silent.sockets[0].getsockname()), connect_timeout_ms=50)
    await client.apply({**told, "timeouts": {"handshake_ms": 50}})
    before = client.resident_kib()
    async with await Wire.open(client.outbound) as wire:
        # What waits for the handshake is bounded, whatever the client sends.
        wire.writer.write(request("POST", "/", "Content-Length: 50000000") + b"x" * 50_000_000)
        response = await wire.response()
    assert (response.status, response.body) == (504, b"upstream connect timeout")
    assert client.resident_kib() - before < 4 << 10
    silent.close()


async def test_a_member_of_another_mesh_is_refused(rig, authority, stranger):
    backend = await rig.backend()
    server = await rig.pipy(member=authority.member(STORE))
    # It believes our root, so the refusal is the server's.
    client = await rig.pipy(member=stranger.member(BUYER), roots=authority.root)
    await server.apply(store(server, backend.address, BUYER))
    await client.apply(buyer(client, server.inbound))
    response = await fetch(client.outbound, ASK)
    assert (response.status, response.body) == (502, b"upstream TLS failure")
    assert backend.requests == []
    [line] = await server.log(1, decision="denied")
    assert "mutual TLS" in line["reason"]
    assert line["origin"] == "Service/shop/app"
    assert (await server.stats())["tls.handshake_failure.unknown_issuer"] == "1"


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("when", ["expired", "not yet valid"])
async def test_a_certificate_out_of_its_time_is_refused(rig, authority, side, when):
    day, hour = timedelta(days=1), timedelta(hours=1)
    begins, ends = (-day, -hour) if when == "expired" else (hour, day)
    who = BUYER if side == "client" else STORE
    backend = await rig.backend()
    late = authority.member(who, begins=begins, ends=ends)
    client, _ = await pair(rig, authority, backend.address, **{side: late})
    assert (await fetch(client.outbound, ASK)).status == 502
    assert backend.requests == []


async def curl(*arguments: str) -> int:
    process = await asyncio.create_subprocess_exec(
        "curl", "-s", "-o", "/dev/null", "--max-time", "10", *arguments
    )
    return await process.wait()


async def test_a_client_in_plain_text_is_reset(rig, authority):
    backend = await rig.backend()
    server = await rig.pipy(member=authority.member(STORE))
    await server.apply(store(server, backend.address, BUYER))
    assert await curl(f"http://{server.inbound}/books") == 56
    [line] = await server.log()
    assert (line["decision"], line["protocol"]) == ("denied", "tcp")
    assert "mutual TLS" in line["reason"]
    assert backend.requests == []


async def test_a_tls_client_without_a_certificate_gets_nothing(rig, authority):
    backend = await rig.backend()
    server = await rig.pipy(member=authority.member(STORE))
    await server.apply(store(server, backend.address, BUYER))
    context = ssl.create_default_context(cadata=authority.root)
    context.check_hostname = False
    reader, writer = await asyncio.open_connection(*server.inbound, ssl=context)
    writer.write(ASK)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.wait_for(reader.readexactly(1), 10)
    writer.transport.abort()
    assert backend.requests == []
    await server.log(1, decision="denied")


async def test_the_application_is_told_the_proved_caller_and_not_the_claimed_one(
    rig, authority, tmp_path
):
    backend = await rig.backend()
    server = await rig.pipy(member=authority.member(STORE))
    await server.apply(store(server, backend.address, BUYER))
    member = authority.member(BUYER)
    member.write(tmp_path)
    context = ssl.create_default_context(cadata=authority.root)
    context.check_hostname = False
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    reader, writer = await asyncio.open_connection(*server.inbound, ssl=context)
    writer.write(request("GET", "/", "Host: bookstore:14001", "ServiceIdentity: admin.kube-system"))
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n"), 10)).startswith(b"HTTP/1.1 200")
    writer.transport.abort()
    values = [v for k, v in backend.requests[0].headers if k.lower() == "serviceidentity"]
    assert values == [BUYER.rpartition("/")[2] + "." + BUYER.split("/")[4]]


async def test_an_inbound_port_that_no_rule_names_is_reset(rig, authority):
    server = await rig.pipy(member=authority.member(STORE))
    assert await curl(f"http://{server.inbound}/") == 56
    [line] = await server.log()
    assert line["reason"] == "no service of the mesh listens on this port"


async def test_a_destination_that_no_rule_names_is_closed_without_a_word(rig, authority):
    client = await rig.pipy(member=authority.member(BUYER))
    for _ in range(20):
        # However early the client speaks, it sees an end and no error.
        assert await curl(f"http://{client.outbound}/") == 52
    assert (await client.stats())["denied.egress_closed"] == "20"


async def test_a_listener_without_rules_is_closed(rig, authority):
    client = await rig.pipy(member=authority.member(BUYER))
    port = client.outbound
    await client.apply(config.whole())
    assert await curl(f"http://{port}/") == 7
    assert "outbound" not in (await client.page("/listeners")).body.decode()


async def test_certificates_are_replaced_while_connections_go_on(rig, authority, stranger):
    backend = await rig.backend()
    client, server = await pair(rig, authority, backend.address)
    async with await Wire.open(client.outbound) as kept:
        assert (await kept.ask(ASK)).status == 200
        before = json.loads((await server.page("/certs")).body)
        server_config = store(server, backend.address, BUYER)
        authority.member(STORE).write(server.directory, authority.root + stranger.root)
        await server.apply(server_config)
        after = json.loads((await server.page("/certs")).body)
        assert before["chain"] != after["chain"]
        assert before["identity"] == after["identity"] == STORE
        assert (await kept.ask(ASK)).status == 200
        # The new trust counts for new connections: a stranger's member comes in now.
        guest = await rig.pipy(member=stranger.member(BUYER), roots=authority.root)
        await guest.apply(buyer(guest, server.inbound))
        assert (await fetch(guest.outbound, ASK)).status == 200


async def test_credentials_that_do_not_fit_change_nothing(rig, authority):
    backend = await rig.backend()
    client, server = await pair(rig, authority, backend.address)
    other = authority.member(STORE)
    (server.directory / "key.pem").write_text(other.key)
    reason = await server.refuse(store(server, backend.address))
    assert "certificate" in reason
    response = await fetch(client.outbound, ASK)
    assert response.status == 200, "both the certificate and the rules of before are at work"


async def test_tcp_runs_over_mutual_tls_and_is_authorised(rig, authority):
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"welcome\n")
        while data := await reader.read(65536):
            writer.write(data.upper())
        writer.close()

    app = await asyncio.start_server(shout, "127.0.0.1", 0)
    at = Address(*app.sockets[0].getsockname())
    server = await rig.pipy(member=authority.member(STORE))
    client = await rig.pipy(member=authority.member(BUYER))

    def served(*allowed: str) -> dict[str, Any]:
        match = config.tcp_match(server.inbound.port, allowed=config.allow(*allowed))
        return config.whole(
            identity=STORE,
            inbound={"matches": [match]},
            clusters={"app": config.cluster(config.endpoint(at))},
        )

    await server.apply(served(BUYER))
    await client.apply(
        config.whole(
            identity=BUYER,
            outbound={"matches": [config.tcp_match(client.outbound.port)]},
            clusters={"app": config.cluster(config.endpoint(server.inbound, STORE))},
        )
    )
    async with await Wire.open(client.outbound) as wire:
        assert await wire.exactly(8) == b"welcome\n"
        await wire.send(b"hello")
        wire.finish()
        assert await wire.rest() == b"HELLO"
    [line] = await server.log(1, decision="allowed")
    assert (line["protocol"], line["source"], line["response_bytes"]) == ("tcp", BUYER, 13)
    await server.apply(served(spiffe("other")))
    async with await Wire.open(client.outbound) as wire:
        assert await wire.rest() == b""
    [line] = await server.log(1, decision="denied")
    assert line["reason"] == "no policy allows this identity on the routes that fit"
    app.close()
