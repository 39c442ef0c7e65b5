"""Claims: evidence first, then judgement; nothing passes by waiting alone."""

import asyncio
import time

import pytest

from fsm.cli.demo import claims, observer
from fsm.cli.demo.claims import ClaimFailed, Condition
from fsm.cli.demo.observer import Reading, RestartedApp, Window


class Counting:
    """An observer whose application counts by itself, one step per look."""

    def __init__(self, *steps):
        self.steps = list(steps)
        self.now = {}

    def since(self, mark):
        return Window(mark, dict(self.now))

    async def fresh(self):
        await self.news()
        return dict(self.now)

    async def news(self):
        await asyncio.sleep(0)
        if self.steps:
            counts = self.steps.pop(0)
            self.now = {"app": Reading(time.monotonic(), counts, {}, None)}


def at_least(name, count):
    return Condition(
        f"{count} {name}",
        lambda w: w.count("app", name) >= count,
        lambda w: f"{w.count('app', name)}",
    )


def none_of(name):
    return Condition(f"no {name}", lambda w: w.count("app", name) == 0, lambda w: "some")


async def test_a_claim_holds_when_all_the_evidence_agrees():
    app = Counting({"ok": 5, "bad": 1}, {"ok": 7, "bad": 1}, {"ok": 15, "bad": 1})
    window = await claims.holds(app, "it works", at_least("ok", 10), none_of("bad"))
    assert window.count("app", "ok") == 10


async def test_one_contradiction_in_the_evidence_fails_the_claim():
    app = Counting({"ok": 0, "bad": 0}, {"ok": 10, "bad": 1})
    with pytest.raises(ClaimFailed, match="it works") as failed:
        await claims.holds(app, "it works", at_least("ok", 10), none_of("bad"))
    assert "expected: no bad" in failed.value.message
    assert "seen:     some" in failed.value.message


async def test_a_claim_without_evidence_fails():
    app = Counting({"ok": 0, "bad": 0})
    with pytest.raises(ClaimFailed, match=r"10 ok, within 0\.05 s"):
        await claims.holds(app, "it works", at_least("ok", 10), none_of("bad"), deadline_s=0.05)


async def test_a_change_is_awaited():
    app = Counting({"ok": 0}, {"ok": 0}, {"ok": 1})
    window = await claims.becomes(app, "it starts", at_least("ok", 1), {})
    assert window.count("app", "ok") == 1


async def test_something_that_stops_is_noticed_at_the_first_clean_window():
    app = Counting(
        {"ok": 0, "bad": 0}, {"ok": 5, "bad": 2}, {"ok": 6, "bad": 3}, {"ok": 12, "bad": 3}
    )
    began = await claims.settles(app, "it stops", at_least("ok", 5), none_of("bad"))
    assert began <= time.monotonic()
    assert app.steps == []


async def test_something_that_never_stops_fails():
    app = Counting(*({"ok": n, "bad": n} for n in range(0, 100_000, 5)))
    with pytest.raises(ClaimFailed, match="it stops"):
        await claims.settles(app, "it stops", at_least("ok", 5), none_of("bad"), deadline_s=0.05)


async def test_an_application_that_restarts_cannot_prove_anything():
    app = Counting({"ok": 100, "bad": 0}, {"ok": 3, "bad": 0})
    with pytest.raises(ClaimFailed, match="lost its counters"):
        await claims.holds(app, "it works", at_least("ok", 1), none_of("bad"), deadline_s=0.05)


def test_a_window_over_a_restart_says_so():
    window = Window(
        {"app": Reading(0, {"ok": 9}, {}, None)}, {"app": Reading(1, {"ok": 2}, {}, None)}
    )
    with pytest.raises(RestartedApp, match="app lost its counters"):
        window.count("app", "ok")


def test_a_window_shows_only_what_happened_in_it():
    before = {"app": Reading(0, {"ok": 9}, {"a": 5, "b": 1}, "a")}
    after = {"app": Reading(2, {"ok": 12}, {"a": 5, "b": 3, "c": 9}, "c")}
    window = Window(before, after)
    assert window.count("app", "ok") == 3
    assert window.count("app", "never") == 0
    assert window.failures("app") == {"c": 9, "b": 2}
    assert window.seconds("app") == 2
    assert window.count("unknown", "ok") == 0


async def test_a_silent_application_stops_the_story(monkeypatch):
    monkeypatch.setattr(observer, "FRESH_TIMEOUT_S", 0.05)

    class Nowhere:
        async def port_forward(self, *_):
            raise ConnectionRefusedError("no Pod")

    watching = observer.Observer(Nowhere())
    watching.follow("bookbuyer", "ns", "pod")
    try:
        with pytest.raises(Exception, match="no counters from bookbuyer"):
            await watching.fresh()
    finally:
        await watching.close()
