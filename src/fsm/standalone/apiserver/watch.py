"""Watches: the changes of one resource, as a stream of lines.

What comes in: a version to start after, selectors, and the store's event log. What goes out:
``WatchEvent`` dictionaries, in order, each seen once.

Invariants: a watcher holds a position in the log and no queue, so a slow client costs no memory;
when the log has moved past it, it is told 410 and must list again; an object that stops matching
a selector is reported as deleted, one that begins to match as added.
Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from fsm.standalone.apiserver.errors import StatusError
from fsm.standalone.apiserver.selectors import ObjectTest
from fsm.standalone.apiserver.store import Event, GroupResource, KubeObject, Store

# LIMIT seconds between bookmarks: what a client that resumes after an idle time has to replay.
BOOKMARK_S = 30.0


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """What a client asked for.

    Attributes:
        after: version to start after; 0 means: first everything that exists.
        namespace: empty for all.
        test: selectors, or ``None``.
        bookmarks: whether to send versions when nothing happens.
        timeout_s: when to end, seconds.
        initial: send what exists first, closed by a marked bookmark (streaming lists).
    """

    after: int
    namespace: str
    test: ObjectTest | None
    bookmarks: bool
    timeout_s: float
    initial: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the stream; for a bookmark, ``object`` is ``None``."""

    type: str
    object: KubeObject | None
    rv: int
    initial_end: bool = False


async def follow(
    store: Store, gr: GroupResource, options: WatchOptions, closing: asyncio.Event
) -> AsyncIterator[list[Change]]:
    """Yield batches of changes until the time is over or the server closes.

    Raises:
        StatusError: 410, the position is older than the log.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + options.timeout_s
    position = options.after
    with store.listen(gr) as wake:
        if options.initial or position == 0:
            position = store.rv
            found = [
                Change("ADDED", obj, int(obj["metadata"]["resourceVersion"]))
                for obj in store.list(gr, options.namespace or None)
                if options.test is None or options.test(obj)
            ]
            if options.initial and options.bookmarks:
                found.append(Change("BOOKMARK", None, position, initial_end=True))
            yield found
        else:
            # Tells a client at once, before it waits, that its version is too old.
            store.events(gr, position)
        while not closing.is_set():
            wake.clear()
            events = store.events(gr, position)
            position = store.rv
            changes = [c for event in events if (c := _seen(event, options)) is not None]
            left = deadline - loop.time()
            if changes:
                yield changes
            elif left <= 0:
                break
            elif await _woken(wake, closing, min(left, BOOKMARK_S)):
                continue
            elif options.bookmarks and left > BOOKMARK_S:
                yield [Change("BOOKMARK", None, position)]
        if options.bookmarks:
            yield [Change("BOOKMARK", None, position)]


async def _woken(wake: asyncio.Event, closing: asyncio.Event, seconds: float) -> bool:
    """Wait for a change or the end; ``False`` when the time passed without either."""
    if closing.is_set():
        return True
    try:
        async with asyncio.timeout(seconds):
            await wake.wait()
    except TimeoutError:
        return False
    return True


def _seen(event: Event, options: WatchOptions) -> Change | None:
    """Translate a change into what a client with these selectors sees of it."""
    obj, before, test = event.object, event.before, options.test
    if options.namespace and obj["metadata"].get("namespace") != options.namespace:
        return None
    if test is None:
        return Change(event.type, obj, event.rv)
    now = test(obj)
    if event.type != "MODIFIED":
        return Change(event.type, obj, event.rv) if now else None
    # After a restart the state before is not known: saying once too often that an object changed
    # or went is harmless, missing it is not.
    then = test(before) if before is not None else True
    if now:
        known = before is None or then
        return Change("MODIFIED" if known else "ADDED", obj, event.rv)
    if not then:
        return None
    last = before or obj
    meta = last["metadata"] | {"resourceVersion": str(event.rv)}
    return Change("DELETED", last | {"metadata": meta}, event.rv)


def expired_event(error: StatusError) -> dict[str, object]:
    """Return the line that ends a watch whose position is gone."""
    return {"type": "ERROR", "object": error.status()}
