"""What was acknowledged stays: kill -9, full disks, restarts, second servers."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from fsm.kube import ApiError, KubeClient, Unavailable
from fsm.kube import resources as res
from fsm.standalone.apiserver.errors import StatusError
from fsm.standalone.apiserver.store import Store, StoreError

PODS = ("", "pods")


def thing(name: str, size: int = 10) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "n"}, "data": "x" * size}


@pytest.fixture
def process(tmp_path: Path, server: Any) -> Iterator[Any]:
    """A server of its own for each test, which the test may kill."""
    state = tmp_path / "s"
    state.mkdir()
    own = type(server)(state).start()
    yield own
    if own.process is not None:
        own.stop(signal.SIGKILL)


@pytest.mark.parametrize("round_", range(3))
async def test_kill_9_loses_no_acknowledged_object(process: Any, round_: int) -> None:
    acknowledged: dict[str, str] = {}
    enough = asyncio.Event()

    async def write(client: KubeClient, worker: int) -> None:
        for i in range(10_000):
            name = f"w{worker}-{i}"
            try:
                made = await client.create(
                    res.CONFIGMAPS, {"metadata": {"name": name}, "data": {"i": str(i)}}, "default"
                )
                acknowledged[name] = made["metadata"]["uid"]
                if i % 3 == 2:
                    victim = f"w{worker}-{i - 1}"
                    await client.delete(res.CONFIGMAPS, victim, "default")
                    del acknowledged[victim]
            except Unavailable:
                return
            if len(acknowledged) > 60 + 25 * round_:
                enough.set()

    async with KubeClient.from_kubeconfig(process.kubeconfig) as client:
        writers = [asyncio.create_task(write(client, w)) for w in range(4)]
        await asyncio.wait_for(enough.wait(), 30)
        await asyncio.to_thread(process.stop, signal.SIGKILL)
        await asyncio.gather(*writers)
    await asyncio.to_thread(process.start)
    async with KubeClient.from_kubeconfig(process.kubeconfig) as client:
        listed = await client.list(res.CONFIGMAPS, "default")
    found = {item["metadata"]["name"]: item["metadata"]["uid"] for item in listed.items}
    lost = {name for name in acknowledged if found.get(name) != acknowledged[name]}
    # A deletion under way when the process died may or may not have happened.
    assert len(lost) <= 4, lost
    assert all(int(name.split("-")[1]) % 3 == 1 for name in lost)


async def test_versions_go_on_and_watches_resume_after_a_restart(process: Any) -> None:
    async with KubeClient.from_kubeconfig(process.kubeconfig) as client:
        before = await client.list(res.CONFIGMAPS, "default")
        last = await client.create(res.CONFIGMAPS, {"metadata": {"name": "a"}}, "default")
        await client.delete(res.CONFIGMAPS, "a", "default")
        token = await client.create_token("default", "default", ["x"], 3600)
    await asyncio.to_thread(process.stop)
    await asyncio.to_thread(process.start)
    async with KubeClient.from_kubeconfig(process.kubeconfig) as client:
        made = await client.create(res.CONFIGMAPS, {"metadata": {"name": "b"}}, "default")
        version = int(made["metadata"]["resourceVersion"])
        assert version == int(last["metadata"]["resourceVersion"]) + 2
        watch = client.watch(res.CONFIGMAPS, "default", before.resource_version)
        async with aclosing(watch):
            seen = [(await anext(watch)) for _ in range(3)]
        assert [(e.type, e.object["metadata"]["name"]) for e in seen] == [
            ("ADDED", "a"),
            ("DELETED", "a"),
            ("ADDED", "b"),
        ]
        # The signing key is kept too.
        assert (await client.review_token(token, ["x"])).service_account == "default"


async def test_sigterm_ends_watches_and_exits_with_0(process: Any) -> None:
    async with KubeClient.from_kubeconfig(process.kubeconfig) as client:
        listed = await client.list(res.CONFIGMAPS)
        await client.create(res.CONFIGMAPS, {"metadata": {"name": "a"}}, "default")
        watch = client.watch(res.CONFIGMAPS, None, listed.resource_version)
        assert (await anext(watch)).type == "ADDED"
        following = asyncio.ensure_future(anext(watch, None))
        assert await asyncio.to_thread(process.stop, signal.SIGTERM) == 0
        # It ends by itself, with a last bookmark or nothing, not by an exception.
        event = await asyncio.wait_for(following, 10)
        assert event is None or event.type == "BOOKMARK"
        await watch.aclose()


def test_a_second_server_is_refused(process: Any) -> None:
    command = [sys.executable, "-m", "fsm.standalone.apiserver"]
    second = subprocess.run(
        [*command, "--state-dir", process.state_dir, "--port", "0"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert second.returncode == 1
    assert "is in use by another API server" in second.stderr
    assert "Traceback" not in second.stderr


def test_an_address_in_use_is_told_in_words(process: Any, tmp_path: Path) -> None:
    text = process.kubeconfig.read_text()
    port = text.partition("https://127.0.0.1:")[2].split()[0]
    other = subprocess.run(
        [
            sys.executable,
            "-m",
            "fsm.standalone.apiserver",
            "--state-dir",
            tmp_path / "o",
            "--port",
            port,
        ],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert other.returncode == 1
    assert "in use" in other.stderr
    assert "Traceback" not in other.stderr


def test_a_full_disk_refuses_the_write_and_changes_nothing(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "db")
    with store.transaction() as txn:
        txn.put(PODS, thing("first"))
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count={pages + 2}")
    before = store.rv

    def write_two() -> None:
        with store.transaction() as txn:
            txn.put(PODS, thing("small"))
            txn.put(PODS, thing("large", 1 << 20))

    with pytest.raises(StatusError) as caught:
        write_two()
    assert caught.value.code == 507
    assert "free some disk space" in caught.value.message
    # Neither the large nor the small one, neither in memory nor on disk, and no event.
    assert (store.rv, len(store.list(PODS)), len(store.events(PODS, before))) == (before, 1, 0)
    store._db.execute("PRAGMA max_page_count=1000000")
    with store.transaction() as txn:
        txn.put(PODS, thing("after"))
    store.close()
    again = Store.open(tmp_path / "db")
    assert [obj["metadata"]["name"] for obj in again.list(PODS)] == ["after", "first"]
    again.close()


def test_an_exception_inside_a_transaction_drops_it(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "db")

    def write_and_fail() -> None:
        with store.transaction() as txn:
            txn.put(PODS, thing("a"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    assert (store.list(PODS), store.rv) == ([], 0)
    store.close()


def test_damaged_and_newer_databases_are_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"this is no database, whatever its name says" * 100)
    with pytest.raises(StoreError, match="is damaged"):
        Store.open(tmp_path / "junk")
    newer = sqlite3.connect(tmp_path / "newer")
    newer.execute("PRAGMA user_version=99")
    newer.close()
    with pytest.raises(StoreError, match="newer version"):
        Store.open(tmp_path / "newer")


def test_forgotten_events_stay_forgotten_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "EVENTS_MAX", 8)
    store = Store.open(tmp_path / "db")
    for i in range(30):
        with store.transaction() as txn:
            txn.put(PODS, thing(f"p{i}"))
    remembered = [event.rv for event in store.events(PODS, 25)]
    assert remembered == [26, 27, 28, 29, 30]
    store.close()
    again = Store.open(tmp_path / "db")
    assert [event.rv for event in again.events(PODS, 25)] == remembered
    with pytest.raises(StatusError, match="too old"):
        again.events(PODS, 3)
    again.close()


async def test_ten_thousand_objects_are_fine(api: KubeClient) -> None:
    # The server runs in this process; of a machine that is busy its own share is what counts.
    begin = time.process_time()

    async def some(part: int) -> None:
        for i in range(625):
            await api.create(
                res.CONFIGMAPS,
                {"metadata": {"name": f"c{part}-{i}"}, "data": {"a": "b"}},
                "default",
            )

    await asyncio.gather(*(some(part) for part in range(16)))
    made = time.process_time()
    listed = await api.list(res.CONFIGMAPS, "default")
    assert len(listed.items) == 10_001
    # Generous: this is a test of "fine", not a benchmark; a quadratic list or write would fail it.
    assert made - begin < 60
    assert time.process_time() - made < 6
    with pytest.raises(ApiError):
        await api.get(res.CONFIGMAPS, "absent", "default")


@pytest.mark.parametrize(("asked", "level"), [(None, 2), (False, 1)])
def test_each_write_is_flushed_to_the_disk_unless_that_is_refused(
    tmp_path: Path, asked: bool | None, level: int
) -> None:
    # FULL (2) flushes the log at each commit, NORMAL (1) at checkpoints only.
    store = Store.open(tmp_path / "db", **({} if asked is None else {"sync_every_write": asked}))
    try:
        assert store._db.execute("PRAGMA synchronous").fetchone()[0] == level
    finally:
        store.close()


def test_a_box_flushes_unless_it_is_told_not_to(tmp_path: Path) -> None:
    from fsm.standalone.apiserver.__main__ import parse_settings
    from fsm.standalone.box.children import HeldSockets, children
    from fsm.standalone.box.settings import StandaloneSettings

    for sync in (True, False):
        settings = StandaloneSettings(state_dir=tmp_path, sync_every_write=sync)
        (argv,) = [
            child.argv
            for child in children(settings, HeldSockets((), (3, 4)))
            if child.name == "apiserver"
        ]
        assert parse_settings(list(argv[3:])).sync_every_write is sync
