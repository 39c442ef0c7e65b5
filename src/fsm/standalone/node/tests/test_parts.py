"""The small pure parts: images, status, back-off, probes' counting, addresses, logs, records."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm.standalone.node.images import (
    BUILT_IN,
    Image,
    Images,
    UnknownImage,
    command_of,
    repository,
)
from fsm.standalone.node.logs import read_log
from fsm.standalone.node.network import Addresses, NetworkError, names
from fsm.standalone.node.probes import Counter
from fsm.standalone.node.records import ContainerState, Terminated, load, save
from fsm.standalone.node.runner import backoff_s
from fsm.standalone.node.status import pod_status


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alpine", "alpine"),
        ("alpine:3.20", "alpine"),
        ("docker.io/library/alpine@sha256:00", "alpine"),
        ("localhost:5000/shop/web:1", "shop/web"),
        ("registry.example:5000/a/b/c", "a/b/c"),
        ("flomesh/pipy:latest", "flomesh/pipy"),
    ],
)
def test_repository_of_an_image(name: str, expected: str) -> None:
    assert repository(name) == expected


def test_built_in_images_run_our_programs() -> None:
    images = Images([])
    assert images.find("flomesh/pipy:1.2").entrypoint == ("pipy",)
    store = images.find("docker.io/flomesh/bookstore:latest")
    assert store.entrypoint == (sys.executable, "-m", "fsm_bookstore.bookstore")


def test_map_file_wins_and_a_broken_one_is_told_only_where_it_matters(tmp_path: Path) -> None:
    path = tmp_path / "images.yaml"
    path.write_text('"shop/*": {entrypoint: ["{python}", "-m", "shop"], env: {A: 1}}\n')
    images = Images([path])
    found = images.find("shop/web:1")
    assert found.entrypoint == (sys.executable, "-m", "shop")
    assert found.env["A"] == "1"
    path.write_text('"shop/*": {entrypoint: "not a list"}\n')
    assert images.find("alpine").cmd == ("sh",)
    with pytest.raises(UnknownImage, match="entrypoint must be a list of strings") as caught:
        images.find("shop/web:1")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ({}, ("e", "c")),
        ({"args": ["a"]}, ("e", "a")),
        ({"command": ["x"]}, ("x",)),
        ({"command": ["x"], "args": ["a"]}, ("x", "a")),
    ],
)
def test_command_and_args_override_the_image(
    container: dict[str, Any], expected: tuple[str, ...]
) -> None:
    assert command_of(Image(("e",), ("c",)), container) == expected


@pytest.mark.parametrize(
    ("args", "command"),
    [
        (["-s", "http://a/"], ("curl", "-s", "http://a/")),
        (["http://a/"], ("curl", "http://a/")),
        (["a/sh"], ("curl", "a/sh")),
        (["no-such-program"], ("curl", "no-such-program")),
        (["sh", "-c", "true"], ("sh", "-c", "true")),
    ],
)
def test_entrypoint_that_passes_programs_on(args: list[str], command: tuple[str, ...]) -> None:
    image = Image(("curl",), ("--help",), passes_programs=True)
    assert command_of(image, {"args": args}) == command


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ({"command": ["/server"], "args": ["-p", "1"]}, ("run", "server", "-p", "1")),
        ({"command": ["/entry.sh", "/server"]}, ("run", "server")),
        ({"args": ["other", "--flag"]}, ("other", "--flag")),
        ({"args": ["--flag"]}, ("main", "--flag")),
        ({}, ("main", "c")),
    ],
)
def test_files_of_the_image_have_stand_ins(
    container: dict[str, Any], expected: tuple[str, ...]
) -> None:
    programs = {"/server": ("run", "server"), "/entry.sh": ()}
    image = Image(("main",), ("c",), programs=programs, passes=True)
    assert command_of(image, container) == expected


def test_a_program_that_is_missing_is_named_with_the_way_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(BUILT_IN, "shop", Image(("x",), needs=("no-such-program",), get="buy it"))
    with pytest.raises(UnknownImage, match="no-such-program is not installed\nhint: buy it"):
        Images([]).find("shop:1")
    with pytest.raises(UnknownImage, match="no command is known for image"):
        Images([]).find("nobody/knows")


def test_backoff_begins_at_once_and_grows_to_five_minutes() -> None:
    assert [backoff_s(n) for n in (1, 2, 3, 4, 7, 100)] == [0, 10, 20, 40, 300, 300]


@given(st.lists(st.booleans()), st.integers(1, 4), st.integers(1, 4))
def test_verdict_changes_only_after_enough_answers_in_a_row(
    answers: list[bool], success: int, failure: int
) -> None:
    counter = Counter(success, failure)
    for index, answer in enumerate(answers):
        counter.add(answer)
        need = success if answer else failure
        row = answers[: index + 1][-need:]
        if len(row) == need and all(a == answer for a in row):
            assert counter.verdict is answer


def test_addresses_go_round_and_are_never_given_twice() -> None:
    pool = Addresses("10.0.0.0/29")
    taken = [pool.take() for _ in range(5)]
    assert taken == [f"10.0.0.{n}" for n in range(2, 7)]
    with pytest.raises(NetworkError, match=r"no address is free in 10\.0\.0\.0/29"):
        pool.take()
    pool.give_back("10.0.0.4")
    assert pool.take() == "10.0.0.4"


def test_claimed_address_is_not_given_and_the_freed_one_comes_last() -> None:
    pool = Addresses("10.0.0.0/29")
    pool.claim("10.0.0.3")
    assert pool.take() == "10.0.0.4"
    pool.give_back("10.0.0.4")
    assert [pool.take() for _ in range(4)] == ["10.0.0.5", "10.0.0.6", "10.0.0.2", "10.0.0.4"]


def test_names_fit_the_kernel() -> None:
    space, link = names("0123-4567", "n" * 63, "p" * 253)
    assert len(space) <= 255
    assert len(link) <= 15


def _status(spec: dict[str, Any], **states: ContainerState) -> dict[str, Any]:
    pod = {"metadata": {"name": "p"}, "spec": spec}
    return pod_status(
        pod,
        states,
        ips=("10.0.0.2",),
        node_ips=("10.0.0.1",),
        started_at=0.0,
        problem=None,
        now=60.0,
    )


UP = ContainerState(waiting=None, running_since=1.0, started=True, ready=True)
APP = {"containers": [{"name": "a", "image": "x"}]}


def _ended(code: int) -> ContainerState:
    end = Terminated(code, None, "Error" if code else "Completed", 1.0, 2.0, "")
    return ContainerState(waiting=None, terminated=end)


@pytest.mark.parametrize(
    ("states", "phase", "ready"),
    [
        ({}, "Pending", "False"),
        ({"a": UP}, "Running", "True"),
        ({"a": _ended(0)}, "Succeeded", "False"),
        ({"a": _ended(3)}, "Failed", "False"),
        ({"a": ContainerState(last=_ended(1).terminated)}, "Running", "False"),
    ],
)
def test_phase_and_readiness_follow_the_containers(
    states: dict[str, ContainerState], phase: str, ready: str
) -> None:
    status = _status(APP, **states)
    found = {c["type"]: c["status"] for c in status["conditions"]}
    assert (status["phase"], found["Ready"]) == (phase, ready)


def test_native_sidecar_counts_for_readiness_and_not_for_completion() -> None:
    spec = {**APP, "initContainers": [{"name": "s", "restartPolicy": "Always"}]}
    unready = ContainerState(waiting=None, running_since=1.0, started=True, ready=False)
    ready = {c["type"]: c["status"] for c in _status(spec, a=UP, s=unready)["conditions"]}
    assert ready["Ready"] == "False"
    assert _status(spec, a=_ended(0), s=UP)["phase"] == "Succeeded"


def test_condition_keeps_its_time_while_it_stays() -> None:
    pod: dict[str, Any] = {"metadata": {"name": "p"}, "spec": APP}
    common: dict[str, Any] = {"ips": (), "node_ips": ("1",), "started_at": None, "problem": None}
    pod["status"] = pod_status(pod, {"a": UP}, now=60.0, **common)
    again = pod_status(pod, {"a": UP}, now=999.0, **common)
    assert again == pod["status"]


def test_record_survives_and_a_torn_one_reads_as_new(tmp_path: Path) -> None:
    state = _ended(4)
    state.restarts = 7
    save(tmp_path, state)
    assert load(tmp_path) == state
    (tmp_path / "state.json").write_text('{"restarts": 7, "wait')
    assert load(tmp_path) == ContainerState()
    (tmp_path / "state.json").write_text('{"of": "another version"}')
    assert load(tmp_path) == ContainerState()


async def _all(path: Path, tail: int | None = None, done: asyncio.Event | None = None) -> bytes:
    return b"".join([chunk async for chunk in read_log(path, tail, done)])


@given(st.lists(st.binary(max_size=9).map(lambda b: b.replace(b"\n", b"")), max_size=9))
async def test_tail_gives_exactly_the_last_lines(lines: list[bytes]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "log"
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        for tail in range(len(lines) + 2):
            expected = lines[len(lines) - tail :] if tail < len(lines) else lines
            wanted = b"".join(line + b"\n" for line in (expected if tail else []))
            assert await _all(path, tail) == wanted


async def test_follow_reads_on_after_the_log_began_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"first\n")
    done = asyncio.Event()
    seen = b""
    async with asyncio.timeout(10):
        async for chunk in read_log(path, None, done):
            seen += chunk
            if seen == b"first\n":
                path.rename(tmp_path / "old")
                path.write_bytes(b"second\n")
            elif seen.endswith(b"second\n"):
                done.set()
    assert seen == b"first\nsecond\n"


async def test_log_that_does_not_exist_yet_is_empty(tmp_path: Path) -> None:
    assert await _all(tmp_path / "none", 5) == b""
