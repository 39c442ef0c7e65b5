"""``python -m tools.bench_store``: one API server process, many objects, one table in Markdown.

What comes in: how many objects. What goes out: the table of ``docs/explanation/
standalone-performance.md`` on standard output; a state directory below ``/tmp`` that is removed.
Every figure is seen by a client over the server's own socket, as ``kubectl`` would see it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from fsm.kube import ApiError, Informer, KubeClient
from fsm.kube.resources import CONFIGMAPS

KubeObject = dict[str, Any]
NAMESPACE = "default"
AT_ONCE = 16


@contextlib.asynccontextmanager
async def server(state: Path, *, sync: bool = True) -> AsyncIterator[tuple[KubeClient, int]]:
    """Run one server; yields a client and its process id."""
    words = [sys.executable, "-m", "fsm.standalone.apiserver", "--state-dir", str(state)]
    words += [] if sync else ["--no-sync-every-write"]
    process = await asyncio.create_subprocess_exec(
        *words, "--port", "0", stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with KubeClient.from_unix_socket(state / "api.sock") as client:
            await ready(client)
            yield client, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


async def ready(client: KubeClient) -> None:
    """Wait for the server, half a minute at most."""
    async with asyncio.timeout(30):
        while True:
            try:
                await client.raw_get("/readyz")
                return
            except ApiError:
                await asyncio.sleep(0.02)


def note(number: int, text: str) -> dict[str, object]:
    """Write an object of about one KiB."""
    labels = {"shard": str(number % 100)}
    return {
        "metadata": {"name": f"note-{number}", "labels": labels},
        "data": {"text": f"{text} {number}", "fill": "x" * 700},
    }


async def in_parallel(
    count: int, one: Callable[[int], Awaitable[None]]
) -> tuple[float, list[float]]:
    """Run ``one(number)`` for all numbers, some at a time; returns seconds in all and of each."""
    numbers, each = iter(range(count)), list[float]()

    async def work() -> None:
        for number in numbers:
            begun = time.perf_counter()
            await one(number)
            each.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return time.perf_counter() - begun, sorted(each)


def rss_mb(pid: int) -> float:
    """Read the resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def stored_bytes(state: Path) -> int:
    """Add up the files of the database."""
    return sum(path.stat().st_size for path in state.glob("api.db*"))


async def measure(count: int, state: Path, *, sync: bool = True) -> list[tuple[str, str]]:
    """Measure everything; returns rows."""
    rows: list[tuple[str, str]] = []

    def row(what: str, seconds: float, each: list[float] | None = None) -> None:
        shown = f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
        if each:
            p50, p99 = each[len(each) // 2], each[int(len(each) * 0.99)]
            shown += f" ({count / seconds:.0f}/s; p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms)"
        rows.append((what, shown))

    async with server(state, sync=sync) as (client, pid):

        async def create(number: int) -> None:
            await client.create(CONFIGMAPS, note(number, "first"), NAMESPACE)

        async def patch(number: int) -> None:
            await client.patch(CONFIGMAPS, f"note-{number}", note(number, "second"), NAMESPACE)

        row(f"create {count}, {AT_ONCE} at a time", *await in_parallel(count, create))
        begun = time.perf_counter()
        listed = await client.list(CONFIGMAPS, NAMESPACE)
        row("list all, page by page", time.perf_counter() - begun)
        assert len(listed.items) >= count
        begun = time.perf_counter()
        chosen = await client.list(CONFIGMAPS, NAMESPACE, labels="shard=7")
        row(f"list {len(chosen.items)} of them by label", time.perf_counter() - begun)
        begun = time.perf_counter()
        informer = Informer(client, CONFIGMAPS)
        following = asyncio.create_task(informer.run())
        await informer.synced.wait()
        row("an informer in step", time.perf_counter() - begun)
        seen, complete = set[str](), asyncio.Event()

        def hear(_kind: str, _old: KubeObject | None, new: KubeObject | None) -> None:
            if new is not None and new.get("data", {}).get("text", "").startswith("second"):
                seen.add(new["metadata"]["name"])
                if len(seen) == count:
                    complete.set()

        informer.subscribe(hear)
        begun = time.perf_counter()
        seconds, each = await in_parallel(count, patch)
        row(f"patch {count}, {AT_ONCE} at a time, watched", seconds, each)
        async with asyncio.timeout(60):
            await complete.wait()
        row("… until the watcher has seen the last one", time.perf_counter() - begun)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        rows.append(("memory of the server", f"{rss_mb(pid):.0f} MB"))
    begun = time.perf_counter()
    async with server(state, sync=sync) as (client, _):
        row("start again on what is stored", time.perf_counter() - begun)
        assert len((await client.list(CONFIGMAPS, NAMESPACE)).items) >= count
    size = await asyncio.to_thread(stored_bytes, state)
    rows.append(("on disk", f"{size / (1 << 20):.0f} MiB"))
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench_store", description=__doc__)
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument(
        "--no-sync", action="store_true", help="do not flush the disk at each write"
    )
    given = parser.parse_args()
    state = Path(tempfile.mkdtemp(prefix="fsm-bench-store-"))
    try:
        rows = asyncio.run(measure(given.objects, state, sync=not given.no_sync))
    finally:
        shutil.rmtree(state, ignore_errors=True)
    print(f"| {given.objects} objects of 1 KiB | |\n|---|---|")
    for what, figure in rows:
        print(f"| {what} | {figure} |")


if __name__ == "__main__":
    main()
