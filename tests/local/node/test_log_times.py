"""`kubectl logs` with times: `--timestamps`, `--since`, `--since-time`, `--limit-bytes`."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from box_world import Box, apply, pod, until

pytestmark = pytest.mark.box

STAMPED = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) (.*)")


async def test_lines_have_times_and_times_choose_lines(box: Box, namespace: str) -> None:
    script = "echo early; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo late; sleep 1000"
    apply(box, namespace, pod("p", script))

    def logs(*flags: str) -> str:
        return box.kubectl("logs", "-n", namespace, "p", *flags, check=False)

    async def shows(text: str, *flags: str) -> bool:
        return text in logs(*flags)

    await until(lambda: shows("early"), "the first line")
    assert "previous terminated container" in logs("--previous")
    notes = box.settings.state_dir / "pods"

    async def noted() -> bool:
        return any(notes.glob("*/main.log.times"))

    await until(noted, "the time of the first line")

    async def later() -> str:
        # A moment that is behind the first line by more than its time is exact.
        stamp, _ = STAMPED.match(logs("--timestamps")).groups()  # type: ignore[union-attr]
        written = datetime.fromisoformat(stamp[:26] + "+00:00")
        now = datetime.now(UTC)
        return now.isoformat().replace("+00:00", "Z") if (now - written).seconds >= 2 else ""

    moment = await until(later, "two seconds to pass")
    await box.run(namespace, "p", "touch /tmp/go")
    await until(lambda: shows("late"), "the second line")
    lines = [STAMPED.fullmatch(line) for line in logs("--timestamps").splitlines()]
    assert [line and line.group(2) for line in lines] == ["early", "late"]
    assert logs("--since-time", moment) == "late\n"
    assert logs("--since", "1h") == "early\nlate\n"
    assert logs("--limit-bytes", "3") == "ear"
    assert logs("--tail", "1", "--since", "1h") == "late\n"
    assert logs("--prefix").splitlines()[0].endswith(" early")
