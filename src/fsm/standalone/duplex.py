"""Two directions of one connection, of which either's end is the end of both.

What comes in: what carries each direction. What goes out: nothing; it returns when one has ended.

Invariants: the other is cancelled and awaited before this returns; a side that is lost is an end
like any other; every other failure is raised. Not done here: carrying anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import aiohttp


async def until_one_ends(*ways: Awaitable[None]) -> None:
    """Run all until one ends."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception) and not isinstance(end, aiohttp.ClientError | OSError):
            raise end
