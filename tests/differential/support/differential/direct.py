"""The same cases without the proxy: which of those that it refuses does a server carry out itself?

In: the corpus, a running server. Out: for each class, how many of its cases the server read as
requests though the corpus demands a refusal. That is what the proxy keeps from it, and it shows
that the corpus bites. Not here: cases over HTTP/2, which few of the servers speak in plain text.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter

from proxyrig.waiting import until
from proxyrig.wire import Wire, request

from differential.corpus import Case, Family
from differential.servers import Server

# A server that has read half a request waits for the rest; nobody waits for it here.
_PATIENCE_S = 0.3
_AT_ONCE = 16


async def lenient(families: list[Family], server: Server) -> dict[str, int]:
    """Count the cases to be refused of which the server read anything as a request."""
    refused = [case for family in families for case in family.cases if _is_refused(case)]
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(case: Case) -> None:
        async with gate:
            with contextlib.suppress(OSError, TimeoutError):
                async with await Wire.open(server.address) as wire, asyncio.timeout(_PATIENCE_S):
                    await wire.send(case.raw)
                    await wire.some()
                    # Of two requests the second may still be on its way to the log.
                    await wire.rest()

    await asyncio.gather(*(one(case) for case in refused))
    try:
        async with await Wire.open(server.address) as wire:
            await wire.ask(request("GET", "/end"))
        await until(lambda: any(one.target == "/end" for one in server.seen()), "the last line")
    except (OSError, EOFError, TimeoutError):
        # It did not survive; that counts as a case of its own.
        return Counter({"the server ended": 1})
    read = {tag for one in server.seen() for tag in re.findall(r"x\d+x", one.target)}
    return Counter(case.family for case in refused if case.tag in read)


def _is_refused(case: Case) -> bool:
    return bool(case.refused) and case.h2 is None and not case.seen and not case.finish
