"""Keeps the garbage collector from looking through the whole world in the middle of a change.

In: the time, and when something last happened. Out: calls of ``gc``. A mesh of 1,000 Services is a
million objects that live as long as their Pods; looking through them takes tenths of a second, in
which nobody is answered, and the collector does so after as many allocations, which is while there
is much to do. So what lives is set aside (``gc.freeze``) in a quiet moment after the start, and
looked through only in quiet moments, rarely.

Invariants: what is not in a cycle is freed at once, as ever; cycles among new objects are found as
ever; cycles among old ones are found at the next quiet moment after ``WHOLE_S``.
LIMIT: a mesh that is never quiet for ``QUIET_S`` is looked through after twice ``WHOLE_S`` anyway.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Awaitable, Callable

log = logging.getLogger("fsm.memory")

# How long nothing must have happened, seconds.
QUIET_S = 1.0
# How often old objects are looked through, seconds.
WHOLE_S = 3600.0


async def tend(
    last_event: Callable[[], float],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    quiet_s: float = QUIET_S,
    whole_s: float = WHOLE_S,
) -> None:
    """Do so until cancelled.

    Args:
        last_event: when something last happened, by the clock.
        clock: monotonic seconds.
        sleep: waits so many of them.
        quiet_s: how long nothing must have happened.
        whole_s: how often old objects are looked through.
    """
    due = clock()
    try:
        while True:
            while (left := last_event() + quiet_s - clock()) > 0 and clock() <= due + whole_s:
                await sleep(left)
            if left > 0:
                log.debug("there was no quiet moment to look for garbage in")
            begun = clock()
            set_aside()
            log.debug("looked for garbage took_ms=%.0f", 1000 * (clock() - begun))
            due = clock() + whole_s
            await sleep(whole_s)
    finally:
        gc.unfreeze()


def set_aside() -> None:
    """Look through everything, and set what lives aside."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
