"""The six chapters of the story. Each says something, makes it so, and proves it.

What comes in: a ``Scene``. What goes out: proven claims, or a ``ClaimFailed`` that ends the story.

Not done here: opening and closing the mesh (``run``), how things look (``stage``).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping

from fsm.cli.demo import capture, cast, claims, wire
from fsm.cli.demo.claims import ClaimFailed, Condition
from fsm.cli.demo.observer import APP_PORT, Reading, Window
from fsm.cli.demo.scene import STRICT, Noticed, Scene
from fsm.cli.errors import Failure

TAKE = "GET /buy-a-book/new"
LOOK = "GET /books-bought"

REFUSALS = 40
"""Requests of somebody that are looked at before the story says that all of them failed."""

BOOKS = 100
"""Books that must all arrive before the story says "works"."""

SPLIT_BOOKS = 200
"""Books on which a share is measured."""

SHARE_TOLERANCE = 0.05
"""How far a measured share may be from its weight; round robin is far closer than chance is."""

CAPTURE_S = 1.0


async def deny_by_default(scene: Scene) -> None:
    """Show that nobody may do anything."""
    stage = scene.stage
    stage.chapter(
        "Nothing is allowed until a policy says so",
        "Four applications, each with a sidecar and an identity of its own. No policy names them.",
    )
    stage.command(
        "kubectl patch meshconfig fsm-mesh-config -n fsm-system --type merge -p \\",
        f"  '{json.dumps({'spec': {'traffic': STRICT}})}'",
    )
    stage.command("kubectl apply -f apps/")

    def everyone_tried(window: Window) -> bool:
        return all(window.count(app, "requests") >= REFUSALS for app in ("bookbuyer", "bookthief"))

    def nobody_got_through(window: Window) -> bool:
        quiet = all(window.count(app, "succeeded") == 0 for app in ("bookbuyer", "bookthief"))
        return quiet and window.count("bookstore-v1", "books_sold") == 0

    claim = "Nobody gets a book: not the thief, not the buyer."
    window = await claims.holds(
        scene.observer,
        claim,
        Condition(f"{REFUSALS} requests from each", everyone_tried, _attempts),
        Condition("not one request that succeeds", nobody_got_through, _attempts),
    )
    stage.proven(claim, _attempts(window))
    stage.say(f"What they see: {_reason(window, 'bookbuyer')}", style="dim")


async def allow_the_buyer(scene: Scene) -> None:
    """Show one policy, for one identity, for two routes."""
    stage = scene.stage
    stage.chapter(
        "One policy lets the buyer in",
        "A TrafficTarget names who may call whom; an HTTPRouteGroup names the requests.",
    )
    stage.excerpt(_from("access/traffic-access.yaml", "  destination:", until="apiVersion"))
    await scene.change(
        "allow the buyer",
        ["access/"],
        # The last object of that folder: when its change has been applied, so have all.
        "HTTPRouteGroup/bookwarehouse/bookwarehouse-service-routes",
        _first(scene, "bookbuyer", "books_bought"),
    )

    claim = "Every request of the buyer works, and the thief still gets nothing."
    # The shop's own way to the warehouse was opened by the same command, a moment later.
    mark = await scene.observer.fresh()
    restocked = Condition(
        "orders that reach the warehouse",
        lambda w: w.count("bookwarehouse", "orders") > 0,
        lambda w: f"{w.count('bookwarehouse', 'orders')} orders",
    )
    await claims.becomes(scene.observer, claim, restocked, mark)
    window = await claims.holds(
        scene.observer,
        claim,
        Condition(f"{BOOKS} books bought", _least("bookbuyer", "books_bought", BOOKS), _attempts),
        Condition(
            "no failed request of the buyer or the shop, no successful one of the thief",
            lambda w: (
                w.count("bookbuyer", "failed") == 0
                and w.count("bookstore-v1", "failed") == 0
                and w.count("bookthief", "succeeded") == 0
            ),
            _attempts,
        ),
    )
    stage.proven(claim, _attempts(window))
    restocked_now = window.count("bookstore-v1", "books_restocked")
    stage.proven("The shop restocks from the warehouse.", f"{restocked_now} orders delivered")


async def let_the_thief_in_and_out(scene: Scene) -> None:
    """Show that a change of policy works at the next request, in both directions."""
    stage = scene.stage
    stage.chapter("The thief is let in, and out again", "One more source in the same policy.")
    allowed = "access-allow-bookthief/traffic-access-v1-allow-bookthief.yaml"
    usual = "access/traffic-access.yaml"
    stage.excerpt(_from(allowed, "  sources:", until=None, added=("bookthief",)))
    await scene.change(
        "let the thief in",
        [allowed],
        "TrafficTarget/bookstore/bookstore-v1",
        _first(scene, "bookthief", "books_stolen"),
    )
    claim = "The thief takes books now."
    window = await claims.holds(
        scene.observer,
        claim,
        Condition(
            f"{2 * REFUSALS} requests of the thief",
            _least("bookthief", "requests", 2 * REFUSALS),
            _attempts,
        ),
        Condition(
            "every try to take a book works, every look at the books stays refused",
            lambda w: (
                w.count("bookthief", "books_stolen") > 0
                and _failed(w, "bookthief", TAKE) == 0
                and _failed(w, "bookthief", LOOK) > 0
            ),
            lambda w: f"failures of the thief: {w.failures('bookthief')}",
        ),
    )
    stage.proven(claim, f"{window.count('bookthief', 'books_stolen')} stolen")
    stage.proven(
        "It may not look at the books, though: that route asks for “client-app: bookbuyer”.",
        f"{_failed(window, 'bookthief', LOOK)} refused: {_reason(window, 'bookthief')}",
    )
    await scene.breathe()

    await scene.change(
        "keep the thief out",
        [usual],
        "TrafficTarget/bookstore/bookstore-v1",
        _stops(scene, "bookthief", "books_stolen", "failed"),
    )
    claim = "It is out again, and the buyer did not notice."
    window = await claims.holds(
        scene.observer,
        claim,
        Condition(
            f"{REFUSALS} requests of the thief",
            _least("bookthief", "requests", REFUSALS),
            _attempts,
        ),
        Condition(
            "no successful request of the thief, no failed one of the buyer",
            lambda w: (
                w.count("bookthief", "succeeded") == 0
                and w.count("bookbuyer", "failed") == 0
                and w.count("bookbuyer", "books_bought") > 0
            ),
            _attempts,
        ),
    )
    stage.proven(claim, _attempts(window))


async def split_the_traffic(scene: Scene) -> None:
    """Show the second version taking over, step by step."""
    stage = scene.stage
    stage.chapter(
        "A second version takes over",
        "Customers call “bookstore”; a TrafficSplit decides which version answers.",
    )
    stage.command("kubectl apply -f bookstore-v2/")
    await scene.applier.apply(cast.load("bookstore-v2"))
    await scene.enter("bookstore", "bookstore-v2")
    await _share(scene, "Version 2 runs, and gets nothing yet.", {"bookstore-v1": 1.0})

    for folder, what, claim, shares in (
        (
            "split-50-50",
            "split 50 / 50",
            "Half to each version.",
            {"bookstore-v1": 0.5, "bookstore-v2": 0.5},
        ),
        ("split-v2", "split 0 / 100", "Everything goes to version 2.", {"bookstore-v2": 1.0}),
    ):
        stage.excerpt(_from(f"{folder}/traffic-{folder}.yaml", "  backends:", until=None))
        await scene.change(
            what,
            [f"{folder}/"],
            "TrafficSplit/bookstore/bookstore-split",
            _first(scene, "bookbuyer", "books_bought.bookstore-v2")
            if len(shares) == 2
            else _stops(scene, "bookbuyer", "books_bought.bookstore-v1", "books_bought"),
        )
        await _share(scene, claim, shares)
        await scene.breathe()


async def look_at_the_wire(scene: Scene) -> None:
    """Show that what travels between two Pods cannot be read."""
    stage = scene.stage
    stage.chapter(
        "The wire is encrypted",
        "A capture on the link of bookstore-v2's Pod, while the buyer buys from it.",
    )
    shop, buyer = scene.pods["bookstore-v2"], scene.pods["bookbuyer"]
    stage.command(f"tcpdump -i <link of {shop.name}> tcp port {APP_PORT}")
    mark = await scene.observer.fresh()
    raw = await capture.capture(scene.state_dir, shop.namespace, shop.name, APP_PORT, CAPTURE_S)
    bought = scene.observer.since(mark).count("bookbuyer", "books_bought")
    evidence = _read(raw).between(buyer.ip)

    claim = "Not one word of the requests can be read; all of it is TLS."
    readable = evidence.readable()
    if readable:
        word, segment = readable[0]
        seen = f"{word.decode()!r} from {segment.source} to {segment.target}"
        raise ClaimFailed(claim, "no readable word between the two Pods", seen)
    if (
        bought < 10
        or evidence.data_bytes < 1000
        or evidence.tls_records < len(evidence.segments) / 2
    ):
        raise ClaimFailed(
            claim,
            "TLS records of at least 10 purchases",
            f"{bought} books bought, {len(evidence.segments)} segments, "
            f"{evidence.tls_records} TLS records, {evidence.data_bytes} bytes",
        )
    requests = [s for s in evidence.segments if s.target == shop.ip and s.is_tls_record()]
    sample = next(iter(requests), evidence.segments[0])
    stage.dump(
        wire.hex_lines(sample.payload),
        f"{len(sample.payload)} bytes from {sample.source} to {sample.target}:{sample.target_port}",
    )
    stage.proven(
        claim,
        f"{bought} books, {evidence.tls_records} TLS records, {evidence.data_bytes:,} bytes read",
    )


async def send_a_stranger(scene: Scene) -> None:
    """Show that who has no identity gets nothing."""
    stage = scene.stage
    stage.chapter(
        "Without an identity there is nothing to get",
        "A Pod outside the mesh sends the same requests, straight to the shop's Pod.",
    )
    stage.command("kubectl apply -f stranger/")
    objects = cast.load("stranger")
    for container in (c for o in objects for c in o["spec"]["containers"]):
        for variable in container["env"]:
            if variable["name"] == cast.INTERVAL_VARIABLE:
                variable["value"] = str(cast.INTERVAL_MS)
    await scene.applier.apply(objects)
    stranger = await scene.enter(cast.OUTSIDE, "stranger")
    shop = scene.pods["bookstore-v2"]

    claim = "The stranger gets nothing, and the buyer goes on buying."
    watching = asyncio.create_task(
        capture.capture(scene.state_dir, shop.namespace, shop.name, APP_PORT, CAPTURE_S)
    )
    try:
        window = await claims.holds(
            scene.observer,
            claim,
            Condition(
                f"{REFUSALS} requests of the stranger",
                _least("stranger", "requests", REFUSALS),
                lambda w: f"{w.count('stranger', 'requests')} requests",
            ),
            Condition(
                "no successful request of the stranger, no failed one of the buyer",
                lambda w: (
                    w.count("stranger", "succeeded") == 0 and w.count("bookbuyer", "failed") == 0
                ),
                lambda w: (
                    f"{w.count('stranger', 'succeeded')} requests of the stranger succeeded, "
                    f"{w.count('bookbuyer', 'failed')} of the buyer failed"
                ),
            ),
        )
        evidence = _read(await watching)
    finally:
        watching.cancel()
    stage.proven(
        claim,
        f"0 of {window.count('stranger', 'requests')} requests answered: "
        f"{_reason(window, 'stranger')}",
    )
    # This also proves the chapter before: the same capture does show words when there are any.
    claim = "The same capture reads its plain request, and still nothing of the buyer's."
    heard = evidence.between(stranger.ip).readable((b"GET /buy-a-book/new HTTP/1.1",))
    others = evidence.without(stranger.ip).readable()
    if not heard or others:
        raise ClaimFailed(
            claim,
            "the stranger's request in the clear, and nothing else",
            f"{len(heard)} readable requests of the stranger, {len(others)} words of others",
        )
    line = heard[0][1].payload
    at = max(0, line.find(b"GET "))
    stage.dump(wire.hex_lines(line[at:], 2), f"sent by {stranger.ip}, answered by nobody")
    stage.proven(claim, f"{len(evidence.segments)} segments searched")


CHAPTERS: tuple[Callable[[Scene], Awaitable[None]], ...] = (
    deny_by_default,
    allow_the_buyer,
    let_the_thief_in_and_out,
    split_the_traffic,
    look_at_the_wire,
    send_a_stranger,
)


async def _share(scene: Scene, claim: str, shares: Mapping[str, float]) -> None:
    versions = ("bookstore-v1", "bookstore-v2")

    def parts(window: Window) -> dict[str, int]:
        return {v: window.count("bookbuyer", f"books_bought.{v}") for v in versions}

    def as_stated(window: Window) -> bool:
        counted = parts(window)
        total = sum(counted.values())
        exact = all(counted[v] == 0 for v in versions if v not in shares)
        near = all(
            abs(counted[v] / total - share) <= SHARE_TOLERANCE
            for v, share in shares.items()
            if share < 1
        )
        return exact and near and window.count("bookbuyer", "failed") == 0

    books = SPLIT_BOOKS if len(shares) > 1 else BOOKS
    stated = ", ".join(f"{100 * shares.get(v, 0.0):.0f} % from {v}" for v in versions)
    window = await claims.holds(
        scene.observer,
        claim,
        Condition(f"{books} books bought", _least("bookbuyer", "books_bought", books), _attempts),
        Condition(
            f"{stated}, no failed request",
            as_stated,
            lambda w: f"{parts(w)}; failures of the buyer: {w.failures('bookbuyer') or 'none'}",
        ),
    )
    scene.stage.proven(claim, f"{sum(parts(window).values())} books")
    scene.stage.share(parts(window))


def _first(scene: Scene, app: str, counter: str) -> Noticed:
    """Wait until ``counter`` grows for the first time."""

    async def noticed(mark: Mapping[str, Reading]) -> float:
        grows = Condition(
            f"the first of “{counter}” at {app}",
            lambda w: w.count(app, counter) > 0,
            lambda w: f"none; failures of {app}: {w.failures(app) or 'none'}",
        )
        await claims.becomes(scene.observer, "the change takes effect", grows, mark)
        return time.monotonic()

    return noticed


def _stops(scene: Scene, app: str, counter: str, meanwhile: str) -> Noticed:
    """Wait until ``counter`` stands still while ``meanwhile`` grows by ten."""

    async def noticed(_: Mapping[str, Reading]) -> float:
        return await claims.settles(
            scene.observer,
            "the change takes effect",
            Condition(f"10 of “{meanwhile}” at {app}", _least(app, meanwhile, 10), _attempts),
            Condition(
                f"no more “{counter}” at {app}",
                lambda w: w.count(app, counter) == 0,
                lambda w: f"{w.count(app, counter)} more",
            ),
        )

    return noticed


def _least(app: str, counter: str, count: int) -> Callable[[Window], bool]:
    return lambda window: window.count(app, counter) >= count


def _attempts(window: Window) -> str:
    parts = []
    for app in ("bookbuyer", "bookthief"):
        # Those that have ended: at both ends of a window one may be under way.
        done, failed = window.count(app, "succeeded"), window.count(app, "failed")
        parts.append(f"{app} {done} of {done + failed}")
    return "got through: " + ", ".join(parts)


def _failed(window: Window, app: str, request: str) -> int:
    return sum(n for reason, n in window.failures(app).items() if reason.startswith(request))


def _reason(window: Window, app: str) -> str:
    return next(iter(window.failures(app)), "no failure").rpartition(": ")[2]


def _read(raw: bytes) -> wire.Evidence:
    try:
        return wire.read(raw)
    except wire.BadCapture as error:
        raise Failure(f"the node agent's capture cannot be read: {error}") from error


def _from(path: str, first: str, *, until: str | None, added: tuple[str, ...] = ()) -> list[str]:
    """Return a part of a manifest; entries of a list that name something ``added`` get a +."""
    lines = cast.text(path)
    start = lines.index(first)
    end = len(lines)
    if until is not None:
        end = next((i for i in range(start, len(lines)) if lines[i].startswith(until)), end)
    part = lines[start:end]
    marked: set[int] = set()
    for index, line in enumerate(part):
        if any(name in line for name in added):
            entry = max(i for i in range(index + 1) if part[i].lstrip().startswith("- "))
            marked |= set(range(entry, index + 1))
    level = min(len(line) - len(line.lstrip()) for line in part)
    return [f"{'+' if i in marked else ' '} {line[level:]}" for i, line in enumerate(part)]
