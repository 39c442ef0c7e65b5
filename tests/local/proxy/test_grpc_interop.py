"""gRPC's interoperability cases through a pair of sidecars, each under its own name.

Cases that need an identity provider of a cloud (``compute_engine_creds`` and others)
are not about what is between client and server, and not here. The table is in
``docs/reference/protocols.md``; a test checks that it names what is here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from proxyrig import config
from proxyrig.certs import spiffe
from proxyrig.interop import InteropClient, InteropServer, asking
from proxyrig.process import Pipy
from proxyrig.waiting import until

CLIENT, SERVER = spiffe("caller"), spiffe("interop")

REQUESTED, ANSWERED = 271_828, 314_159
INPUTS = [27_182, 8, 1_828, 45_904]
OUTPUTS = [31_415, 9, 2_653, 58_979]


class Site:
    """A client before two sidecars, a server behind them."""

    def __init__(self, client: InteropClient, proxy: Pipy, last: Pipy) -> None:
        self.client, self.proxy, self.last = client, proxy, last

    async def active(self, count: int) -> None:
        """Wait until so many calls are under way between the last sidecar and the server."""

        async def reached() -> bool:
            stats = await self.last.stats()
            return stats["cluster.app.upstream_rq_active"] == str(count)

        await until(reached, f"{count} calls under way")

    async def taken_back(self) -> None:
        """Wait until the call was taken back from the server, whose library does not say so."""
        await self.active(0)
        assert (await self.last.stats())["cluster.app.upstream_rq_tx_reset"] == "1"


@pytest.fixture
async def site(rig, authority) -> AsyncIterator[Site]:
    async with InteropServer() as app:
        server = await rig.pipy(member=authority.member(SERVER))
        client = await rig.pipy(member=authority.member(CLIENT))
        host = config.host(config.route(allowed=config.allow(CLIENT)))
        inbound = config.http_match(server.inbound.port, host, protocol="grpc")
        clusters = {"app": config.cluster(config.endpoint(app.address))}
        await server.apply(
            config.whole(identity=SERVER, inbound={"matches": [inbound]}, clusters=clusters)
        )
        clusters = {"app": config.cluster(config.endpoint(server.inbound, SERVER))}
        match = config.http_match(
            client.outbound.port, config.host(config.route()), protocol="grpc"
        )
        await client.apply(
            config.whole(identity=CLIENT, outbound={"matches": [match]}, clusters=clusters)
        )
        async with InteropClient(client.outbound) as calls:
            yield Site(calls, client, server)


async def inputs(*sizes: int) -> AsyncIterator[bytes]:
    """Send payloads."""
    for size in sizes:
        yield asking(pad=size)


async def test_empty_unary(site):
    assert await site.client.empty(b"", timeout=10) == b""


async def test_large_unary(site):
    answer = await site.client.unary(asking(size=ANSWERED, pad=REQUESTED), timeout=10)
    assert len(answer) == ANSWERED


async def test_client_compressed_unary(site):
    for compression in (grpc.Compression.Gzip, grpc.Compression.NoCompression):
        call = site.client.unary(
            asking(size=ANSWERED, pad=REQUESTED), timeout=10, compression=compression
        )
        assert len(await call) == ANSWERED


async def test_server_compressed_unary(site):
    for compress in (True, False):
        request = asking(size=ANSWERED, pad=REQUESTED, compress=compress)
        assert len(await site.client.unary(request, timeout=10)) == ANSWERED
    lines = await site.proxy.log(2)
    compressed, plain = (line["response_bytes"] for line in lines)
    assert compressed < 10_000 < ANSWERED < plain


async def test_client_streaming(site):
    assert await site.client.streaming_input(inputs(*INPUTS), timeout=10) == b"74922"


async def test_client_compressed_streaming(site):
    call = site.client.streaming_input(
        inputs(27_182, 45_904), timeout=10, compression=grpc.Compression.Gzip
    )
    assert await call == b"73086"


async def test_server_streaming(site):
    call = site.client.streaming_output(asking(sizes=OUTPUTS), timeout=10)
    assert [len(one) async for one in call] == OUTPUTS


async def test_server_compressed_streaming(site):
    call = site.client.streaming_output(asking(sizes=[31_415, 92_653], compress=True), timeout=10)
    assert [len(one) async for one in call] == [31_415, 92_653]


async def test_ping_pong(site):
    call = site.client.full_duplex(timeout=10)
    for size, payload in zip(OUTPUTS, INPUTS, strict=True):
        await call.write(asking(size=size, pad=payload))
        assert len(await call.read()) == size
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() == grpc.StatusCode.OK


async def test_empty_stream(site):
    call = site.client.full_duplex(timeout=10)
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() == grpc.StatusCode.OK


METADATA = (
    ("x-grpc-test-echo-initial", "test_initial_metadata_value"),
    ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab"),
)


@pytest.mark.parametrize("kind", ["unary", "full_duplex"])
async def test_custom_metadata(site, kind):
    if kind == "unary":
        call = site.client.unary(asking(size=10), timeout=10, metadata=METADATA)
        await call
    else:
        call = site.client.full_duplex(timeout=10, metadata=METADATA)
        await call.write(asking(size=10))
        await call.read()
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
    initial, trailing = METADATA
    assert dict(await call.initial_metadata())[initial[0]] == initial[1]
    assert dict(await call.trailing_metadata())[trailing[0]] == trailing[1]


@pytest.mark.parametrize("kind", ["unary", "full_duplex"])
@pytest.mark.parametrize(
    "words",
    ["test status message", "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"],
    ids=["status_code_and_message", "special_status_message"],
)
async def test_status_code_and_message(site, kind, words):
    request = asking(status=["UNKNOWN", words])
    if kind == "unary":
        call = site.client.unary(request, timeout=10)
    else:
        call = site.client.full_duplex(timeout=10)
        await call.write(request)
        await call.done_writing()
        with pytest.raises(grpc.aio.AioRpcError):
            await call.read()
    assert await call.code() == grpc.StatusCode.UNKNOWN
    assert await call.details() == words


async def test_unimplemented_method(site):
    assert await site.client.unimplemented(b"", timeout=10).code() == grpc.StatusCode.UNIMPLEMENTED


async def test_unimplemented_service(site):
    assert await site.client.no_service(b"", timeout=10).code() == grpc.StatusCode.UNIMPLEMENTED


async def test_cancel_after_begin(site):
    call = site.client.streaming_input(timeout=10)
    await call.write(asking(pad=1))
    await site.active(1)
    call.cancel()
    assert await call.code() == grpc.StatusCode.CANCELLED
    await site.taken_back()


async def test_cancel_after_first_response(site):
    call = site.client.full_duplex(timeout=10)
    await call.write(asking(size=31_415, pad=27_182))
    assert len(await call.read()) == 31_415
    call.cancel()
    assert await call.code() == grpc.StatusCode.CANCELLED
    await site.taken_back()


async def test_timeout_on_sleeping_server(site):
    call = site.client.full_duplex(timeout=0.3)
    await call.write(asking(sleep=True, pad=27_182))
    with pytest.raises(grpc.aio.AioRpcError):
        await call.read()
    assert await call.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    # Both ends know of the deadline; either may be the first to end the call.
    await site.active(0)


async def test_concurrent_large_unary(site):
    request = asking(size=ANSWERED, pad=REQUESTED)
    answers = await asyncio.gather(*(site.client.unary(request, timeout=60) for _ in range(50)))
    assert {len(answer) for answer in answers} == {ANSWERED}


async def test_rpc_soak(site):
    for _ in range(100):
        assert len(await site.client.unary(asking(size=ANSWERED, pad=REQUESTED), timeout=10))


async def test_a_message_of_sixteen_mebibytes(site):
    assert len(await site.client.unary(asking(size=16 << 20), timeout=30)) == 16 << 20


def test_the_table_names_every_case():
    page = Path(__file__).parents[3] / "docs" / "reference" / "protocols.md"
    cases = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    cases -= {"the_table_names_every_case", "a_message_of_sixteen_mebibytes"}
    missing = {case for case in cases | {"special_status_message"} if case not in page.read_text()}
    assert not missing
