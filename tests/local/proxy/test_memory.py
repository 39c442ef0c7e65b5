"""What connections cost, and that it is given back when they close."""

from __future__ import annotations

import asyncio
import resource

import pytest
from proxyrig.waiting import until

COUNT = 3_000


@pytest.mark.skipif(
    resource.getrlimit(resource.RLIMIT_NOFILE)[0] < COUNT + 500,
    reason=f"needs {COUNT + 500} file descriptors (ulimit -n)",
)
async def test_idle_connections_are_cheap_and_give_their_memory_back(rig):
    backend = await rig.backend()
    proxy = await rig.plain(backend)
    before = proxy.resident_kib()
    for _ in range(2):
        writers = []
        for _ in range(0, COUNT, 100):
            opened = [asyncio.open_connection(*proxy.outbound) for _ in range(100)]
            writers += [writer for _, writer in await asyncio.gather(*opened)]
        await until(lambda: proxy.descriptors() > COUNT, "all accepted")
        # KiB per connection; the aim is 4.
        assert (proxy.resident_kib() - before) / COUNT < 6
        for writer in writers:
            writer.transport.abort()
        await until(lambda: proxy.descriptors() < 40, "all closed")
    # The first round makes what stays; the second adds nothing to it.
    await until(lambda: proxy.resident_kib() - before < 2_000, "memory given back")
