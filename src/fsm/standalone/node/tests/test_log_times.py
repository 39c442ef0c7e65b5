"""When lines of a log were written, as notes of its size tell."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from fsm.standalone.node import log_times
from fsm.standalone.node.log_times import Clerk, Times, load, notes_of, stamped
from fsm.standalone.node.logs import first_offset, read_log


def write(log: Path, text: str) -> None:
    with open(log, "a") as file:
        file.write(text)


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


async def text_of(log: Path, since: float, now: float) -> str:
    times = load(log)
    begin = times.begin(since)
    chunks = read_log(log, None, None, begin)
    lines = stamped(chunks, times, first_offset(log, None, begin), lambda: now)
    return b"".join([chunk async for chunk in lines]).decode()


async def test_lines_have_the_time_at_which_they_were_first_seen(tmp_path: Path) -> None:
    log, clerk = tmp_path / "web.log", Clerk()
    write(log, "one\n")
    clerk.note(log, 100.0)
    clerk.note(log, 101.0)
    write(log, "two\nthr")
    clerk.note(log, 102.0)
    write(log, "ee\n")
    assert await text_of(log, 0.0, 105.0) == (
        f"{stamp(100)} one\n{stamp(102)} two\n{stamp(102)} three\n"
    )
    # What was not noted yet is of now.
    write(log, "four\n")
    assert (await text_of(log, 0.0, 105.0)).endswith(f"{stamp(105)} four\n")


async def test_a_time_begins_with_the_line_that_was_being_written(tmp_path: Path) -> None:
    log, clerk = tmp_path / "web.log", Clerk()
    for second, text in enumerate(("one\n", "two\nthr", "ee\n", "four\n")):
        write(log, text)
        clerk.note(log, 100.0 + second)
    for since, first in ((0, "one"), (100, "one"), (100.5, "two"), (102, "three"), (103, "four")):
        assert (await text_of(log, since, 110.0)).split()[1] == first, since
    assert await text_of(log, 200.0, 210.0) == ""


async def test_an_agent_goes_on_with_the_notes_of_the_one_before(tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    write(log, "one\n")
    Clerk().note(log, 100.0)
    write(log, "two\n")
    Clerk().note(log, 200.0)
    assert await text_of(log, 0.0, 300.0) == f"{stamp(100)} one\n{stamp(200)} two\n"


async def test_a_log_that_begins_anew_begins_its_notes_anew(tmp_path: Path) -> None:
    log, clerk = tmp_path / "web.log", Clerk()
    write(log, "one\ntwo\n")
    clerk.note(log, 100.0)
    log.write_text("new\n")
    clerk.note(log, 200.0)
    assert notes_of(log).read_text() == "4 200.000\n"
    assert await text_of(log, 0.0, 300.0) == f"{stamp(200)} new\n"


def test_torn_notes_and_no_notes_say_nothing(tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    assert load(log).begin(5.0) == 0
    notes_of(log).write_text("4 100.000\ngarbage\n3 200.000\n9 90.0\n8 300.000\n9")
    times = load(log)
    assert [times.at(offset, 900.0) for offset in (0, 3, 4, 7, 8)] == [100, 100, 300, 300, 900]


def test_notes_are_thinned_out_and_stay_in_order(tmp_path: Path) -> None:
    log, clerk = tmp_path / "web.log", Clerk()
    before, log_times._NOTES_MAX = log_times._NOTES_MAX, 10
    try:
        for second in range(100):
            write(log, "x\n")
            clerk.note(log, float(second))
    finally:
        log_times._NOTES_MAX = before
    lines = notes_of(log).read_text().splitlines()
    assert len(lines) <= 11
    assert lines[-1] == "200 99.000"


@given(st.lists(st.binary(max_size=20), max_size=8))
async def test_stamps_do_not_depend_on_how_a_log_is_cut_into_chunks(chunks: list[bytes]) -> None:
    async def pieces(parts: list[bytes]) -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    times = Times([(5, 1.0), (9, 2.0)])

    async def all_of(parts: list[bytes]) -> bytes:
        return b"".join([part async for part in stamped(pieces(parts), times, 0, lambda: 3.0)])

    assert await all_of(chunks) == await all_of([b"".join(chunks)])
