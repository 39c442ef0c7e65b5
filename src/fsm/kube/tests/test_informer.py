"""Informers against a scripted server: resume, relist, duplicates, unknown kinds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fsm.kube import Gone, Informer, NotFound, Unavailable
from fsm.kube import resources as res
from fsm.kube.client import ObjectList, WatchEvent
from fsm.kube.informer import Backoff

Step = tuple[str, Any]


def obj(name: str, version: int, uid: str = "u", **more: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": "n", "uid": uid, "resourceVersion": str(version)}
    return {"metadata": meta} | more


def event(kind: str, name: str, version: int, uid: str = "u") -> WatchEvent:
    return WatchEvent(kind, obj(name, version, uid))  # type: ignore[arg-type]


class Scripted:
    """Plays lists and watches in order, then hangs; remembers from where it was watched."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.watched_from: list[str] = []
        self.done = asyncio.Event()

    def _next(self, kind: str) -> Any:
        if not self.steps:
            self.done.set()
            return None
        wanted, value = self.steps.pop(0)
        assert wanted == kind, f"expected a {wanted}, got a {kind}"
        return value

    async def list(self, *arguments: Any, **options: Any) -> ObjectList:
        value = self._next("list")
        if value is None:
            await asyncio.Future()
        if isinstance(value, Exception):
            raise value
        version, items = value
        return ObjectList(items, str(version))

    async def watch(self, res: Any, ns: Any, version: str, *rest: Any) -> AsyncIterator[WatchEvent]:
        self.watched_from.append(version)
        value = self._next("watch")
        if value is None:
            await asyncio.Future()
        for item in value:
            if isinstance(item, Exception):
                raise item
            yield item


Seen = list[tuple[str, str]]


@asynccontextmanager
async def informing(server: Scripted) -> AsyncIterator[tuple[Informer, Seen]]:
    seen: Seen = []
    informer = Informer(server, res.PODS, backoff=Backoff(0.001, 0.01))  # type: ignore[arg-type]

    def broken(kind: str, old: Any, new: Any) -> None:
        raise RuntimeError("a subscriber that always fails")

    informer.subscribe(broken)
    informer.subscribe(
        lambda kind, old, new: seen.append((kind, (new or old or {})["metadata"]["name"]))
    )
    task = asyncio.create_task(informer.run())
    await asyncio.wait_for(server.done.wait(), 10)
    yield informer, seen
    task.cancel()
    await asyncio.wait([task])


def gone() -> Gone:
    return Gone(410, "Expired", "too old")


async def test_a_watch_resumes_from_the_last_version_it_saw() -> None:
    server = Scripted(
        ("list", (5, [obj("a", 4)])),
        ("watch", [event("ADDED", "b", 6)]),
        ("watch", [WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": "9"}})]),
        ("watch", [event("DELETED", "a", 10), Unavailable(0, "x", "lost")]),
    )
    async with informing(server) as (informer, seen):
        assert server.watched_from == ["5", "6", "9", "10"]
        assert set(informer.store) == {("n", "b")}
        assert seen == [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a")]


async def test_after_410_a_new_list_reports_only_the_differences() -> None:
    server = Scripted(
        ("list", (5, [obj("same", 1), obj("changes", 2), obj("goes", 3), obj("reborn", 4, "u1")])),
        ("watch", [gone()]),
        ("list", (9, [obj("same", 1), obj("changes", 8), obj("comes", 9), obj("reborn", 9, "u2")])),
    )
    async with informing(server) as (informer, seen):
        assert sorted(seen[4:]) == [
            ("ADDED", "comes"),
            ("ADDED", "reborn"),
            ("DELETED", "goes"),
            ("DELETED", "reborn"),
            ("MODIFIED", "changes"),
        ]
        assert len(informer.store) == 4


async def test_duplicates_and_older_events_are_ignored() -> None:
    server = Scripted(
        ("list", (5, [obj("a", 5)])),
        (
            "watch",
            [
                event("ADDED", "a", 5),
                event("MODIFIED", "a", 4),
                event("DELETED", "a", 3),
                event("MODIFIED", "a", 7),
                event("MODIFIED", "a", 7),
                event("MODIFIED", "a", 6),
            ],
        ),
    )
    async with informing(server) as (informer, seen):
        assert seen == [("ADDED", "a"), ("MODIFIED", "a")]
        assert informer.get("n", "a") == obj("a", 7)


async def test_an_object_that_was_replaced_unseen_is_gone_and_new() -> None:
    server = Scripted(
        ("list", (5, [obj("a", 5, "first")])),
        # The second has a lower version on purpose: a restored backup may count from lower down.
        ("watch", [event("MODIFIED", "a", 3, "second")]),
    )
    async with informing(server) as (informer, seen):
        assert seen == [("ADDED", "a"), ("DELETED", "a"), ("ADDED", "a")]
        assert informer.store["n", "a"]["metadata"]["uid"] == "second"


async def test_a_kind_that_is_not_known_yet_counts_as_empty_until_it_comes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    unknown = NotFound(404, "NotFound", "no such kind")
    server = Scripted(
        ("list", unknown),
        ("list", unknown),
        ("list", (5, [obj("a", 5)])),
        ("watch", [unknown]),  # its CRD was deleted
        ("list", unknown),
    )
    async with informing(server) as (informer, seen):
        assert informer.synced.is_set()
        assert seen == [("ADDED", "a"), ("DELETED", "a")]
        assert informer.store == {}
    assert "lost the watch" not in caplog.text


async def test_a_server_that_is_down_is_asked_again_until_it_answers() -> None:
    down = Unavailable(0, "Unreachable", "down")
    server = Scripted(("list", down), ("list", down), ("list", (1, [])))
    async with informing(server) as (informer, seen):
        assert informer.synced.is_set()
        assert seen == []


def test_waits_grow_and_spread_and_end() -> None:
    backoff = Backoff(0.2, 30)
    assert [backoff.wait_s(n, 0.5) for n in (1, 2, 3, 4)] == [0.2, 0.4, 0.8, 1.6]
    assert backoff.wait_s(50, 0.5) == 30
    assert backoff.wait_s(10**9, 1.0) == 45
    assert backoff.wait_s(1, 0.0) == 0.1
