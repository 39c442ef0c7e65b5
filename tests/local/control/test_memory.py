"""Old objects are looked through in quiet moments only."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from fsm.controllers import memory


class Cycle:
    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def as_before():
    yield
    gc.unfreeze()


def test_what_lives_is_set_aside_and_looked_through_at_the_next_time():
    cycle = Cycle()
    seen = weakref.ref(cycle)
    memory.set_aside()
    assert gc.get_freeze_count() > 1000
    del cycle
    gc.collect()
    assert seen() is not None, "it is set aside"
    memory.set_aside()
    assert seen() is None


async def test_it_waits_until_nothing_happens(monkeypatch):
    now, last, waits, looked = 100.0, 99.0, [], []

    async def sleep(seconds):
        nonlocal now, last
        waits.append(seconds)
        if len(waits) == 1:
            # Something happens meanwhile.
            last = now + 3
        elif len(waits) == 3:
            raise asyncio.CancelledError
        now += seconds

    monkeypatch.setattr(memory, "set_aside", lambda: looked.append(now))
    with pytest.raises(asyncio.CancelledError):
        await memory.tend(lambda: last, clock=lambda: now, sleep=sleep, quiet_s=5.0)
    assert (waits, looked) == ([4.0, 4.0, memory.WHOLE_S], [108.0])
    assert gc.get_freeze_count() == 0, "it leaves the collector as it was"


async def test_a_mesh_that_is_never_quiet_is_looked_through_in_the_end(monkeypatch):
    now, looked = 0.0, []

    async def sleep(seconds):
        nonlocal now
        now += seconds
        if looked:
            raise asyncio.CancelledError

    monkeypatch.setattr(memory, "set_aside", lambda: looked.append(now))
    with pytest.raises(asyncio.CancelledError):
        await memory.tend(lambda: now, clock=lambda: now, sleep=sleep, quiet_s=5.0, whole_s=60.0)
    assert looked == [65.0]
