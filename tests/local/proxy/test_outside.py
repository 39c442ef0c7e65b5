"""Servers outside of the mesh that want TLS: the application speaks plain text, the sidecar TLS.

The server is Python's; it asks for a certificate and answers with the names that it saw in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl

import pytest
from cryptography import x509
from proxyrig import config
from proxyrig.certs import spiffe
from proxyrig.wire import fetch, request

CLIENT, SERVER = "client.example", "server.example"


@contextlib.asynccontextmanager
async def server(member, believed: str, tmp_path, *, asks: bool = True, alpn: tuple[str, ...] = ()):
    """A TLS server that answers each request with who asked; yields its address and its log."""
    (tmp_path / "server").mkdir(exist_ok=True)
    member.write(tmp_path / "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    files = tmp_path / "server"
    context.load_cert_chain(files / "cert.pem", files / "key.pem")
    context.load_verify_locations(cadata=believed)
    context.verify_mode = ssl.CERT_REQUIRED if asks else ssl.CERT_NONE
    asked: list[str | None] = []
    context.sni_callback = lambda tls, name, _: asked.append(name)
    connections = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                peer = writer.get_extra_info("peercert") or {}
                seen = {
                    "names": [name for _, name in peer.get("subjectAltName", ())],
                    "connection": connections,
                }
                body = json.dumps(seen).encode()
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    try:
        yield f"127.0.0.1:{listening.sockets[0].getsockname()[1]}", asked
    finally:
        listening.close()


def outward(port: int, address: str, **tls) -> dict[str, object]:
    tls = {"origin": "Egress/shop/out", "server_name": SERVER, **tls}
    told = config.plain(port, address)
    return {**told, "originates": {"app": {k: v for k, v in tls.items() if v is not None}}}


def shown(member) -> dict[str, str]:
    return {"chain": "".join(member.chain), "key": member.key}


async def test_a_certificate_that_was_made_elsewhere_is_shown(rig, authority, stranger, tmp_path):
    client = stranger.named([x509.DNSName(CLIENT)])
    proxy = await rig.pipy(member=authority.member(spiffe("app")))
    served = stranger.named([x509.DNSName(SERVER)])
    async with server(served, stranger.root, tmp_path) as (address, asked):
        tls = {"roots": [stranger.root], "certificate": shown(client)}
        await proxy.apply(outward(proxy.outbound.port, address, **tls))
        seen = [json.loads((await fetch(proxy.outbound)).body) for _ in range(2)]
        assert seen == [{"names": [CLIENT], "connection": 1}] * 2, "its connection is kept"
        assert asked == [SERVER]
        dump = (await proxy.page("/config_dump")).body.decode()
        assert "PRIVATE" not in dump
        assert '"key": "***"' in dump
        # Another certificate is shown from the next request on.
        other = stranger.named([x509.DNSName("other.example")])
        tls["certificate"] = shown(other)
        await proxy.apply(outward(proxy.outbound.port, address, **tls))
        assert json.loads((await fetch(proxy.outbound)).body)["names"] == ["other.example"]


async def test_the_proxys_own_certificate_is_shown_where_no_other_is_given(
    rig, authority, tmp_path
):
    member = authority.member(spiffe("app"))
    proxy = await rig.pipy(member=member)
    served = authority.named([x509.DNSName(SERVER)])
    async with server(served, authority.root, tmp_path) as (address, _):
        await proxy.apply(outward(proxy.outbound.port, address))
        assert spiffe("app") in json.loads((await fetch(proxy.outbound)).body)["names"]


@pytest.mark.parametrize(
    "case", ["another name", "another root", "no certificate", "a key of another", "no PEM"]
)
async def test_whoever_is_not_whom_we_expect_gets_no_request_and_nothing_in_plain_text(
    rig, authority, stranger, tmp_path, case
):
    client = stranger.named([x509.DNSName(CLIENT)])
    proxy = await rig.pipy(member=authority.member(spiffe("app")))
    name = "other.example" if case == "another name" else SERVER
    served = stranger.named([x509.DNSName(name)])
    roots = [authority.root if case == "another root" else stranger.root]
    certificate = shown(client)
    if case == "a key of another":
        certificate["key"] = stranger.named([x509.DNSName(CLIENT)]).key
    if case == "no PEM":
        certificate["chain"] = "garbage"
    if case == "no certificate":
        # The mesh's own is of nobody whom this server believes.
        certificate = None
    tls = {"roots": roots, "certificate": certificate}
    async with server(served, stranger.root, tmp_path) as (address, _):
        await proxy.apply(outward(proxy.outbound.port, address, **tls))
        answer = await fetch(proxy.outbound, request("GET", "/"))
        assert answer.status in (502, 503), answer
    line = (await proxy.log(1))[0]
    assert line["status"] == answer.status


async def test_a_server_that_is_known_by_its_address_must_carry_it(
    rig, authority, stranger, tmp_path
):
    from ipaddress import ip_address

    client = stranger.named([x509.DNSName(CLIENT)])
    proxy = await rig.pipy(member=authority.member(spiffe("app")))
    tls = {"roots": [stranger.root], "certificate": shown(client), "server_name": None}
    for names, status in (
        ([x509.IPAddress(ip_address("127.0.0.1"))], 200),
        ([x509.DNSName(SERVER)], 503),
    ):
        async with server(stranger.named(names), stranger.root, tmp_path) as (address, _):
            await proxy.apply(outward(proxy.outbound.port, address, **tls))
            found = (await fetch(proxy.outbound)).status
            assert found == status or (status == 503 and found == 502)
