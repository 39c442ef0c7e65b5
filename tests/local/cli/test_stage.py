"""What is shown: in a pipe plain lines that can be searched, on a terminal the same words."""

import io
import time

import pytest
from rich.console import Console
from rich.text import Text

from fsm.cli.demo import cast, chapters, logs
from fsm.cli.demo.observer import Reading
from fsm.cli.demo.stage import Stage, _Panel


class Readings:
    """Stands for an observer whose newest readings a test sets."""

    def __init__(self):
        self.readings = {}


def shown(terminal, width=60):
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=width, highlight=False)
    stage = Stage(console)
    stage.title("A story", "of one line")
    stage.chapter("First", "A sentence that is rather longer than the sixty columns of this page.")
    stage.command("kubectl apply -f x/", "  --and so on")
    stage.excerpt(["  sources:", "+ - kind: ServiceAccount"])
    stage.applied("applied by 2 proxies")
    stage.proven("It holds.", "42 of 42")
    stage.share({"bookstore-v1": 30, "bookstore-v2": 10})
    stage.table(("change", "took"), [("allow", "3 ms")])
    stage.disproven("It does not.")
    return out.getvalue()


def test_in_a_pipe_every_line_is_plain_and_whole():
    text = shown(terminal=False)
    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())
    assert "  A sentence that is rather longer than the sixty columns of this page." in text
    assert "  $ kubectl apply -f x/\n      --and so on\n" in text
    assert "✓ It holds.\n    42 of 42\n" in text
    assert "bookstore-v1 30 = 75.0 %   bookstore-v2 10 = 25.0 %" in text
    assert "✗ It does not." in text


def test_on_a_terminal_no_line_is_wider_than_it():
    text = shown(terminal=True)
    assert "\x1b[" in text
    assert max(Text.from_ansi(line).cell_len for line in text.splitlines()) == 60


def test_the_panel_shows_only_applications_that_answered():
    observer = Readings()
    panel = _Panel(observer)
    assert panel.line() == ""
    observer.readings["bookbuyer"] = Reading(time.monotonic(), {"books_bought": 7}, {}, None)
    assert panel.line() == "bookbuyer bought 7"


def test_the_panel_shows_a_failure_only_while_nothing_succeeds():
    observer, out = Readings(), io.StringIO()
    panel, console = _Panel(observer), Console(file=out, width=140)
    now = time.monotonic()
    for step in range(8):
        observer.readings["bookbuyer"] = Reading(
            now + step, {"books_bought": 10 * step}, {}, "GET /: 403 Access denied"
        )
        observer.readings["bookthief"] = Reading(
            now + step, {"books_stolen": 0}, {}, "GET /: connection refused"
        )
        console.print(panel)
    last = out.getvalue().splitlines()[-2:]
    assert "10/s" in last[0]
    assert "403" not in last[0]
    assert "connection refused" in last[1]


def test_the_panel_forgets_the_past_of_an_application_that_started_anew():
    observer = Readings()
    panel = _Panel(observer)
    for at, count in ((1.0, 500), (2.0, 3), (3.0, 5)):
        reading = Reading(at, {"books_bought": count}, {}, None)
        observer.readings["bookbuyer"] = reading
        rates = panel._rates("bookbuyer", reading, "books_bought")
    assert all(rate >= 0 for rate in rates)


def test_an_excerpt_is_a_part_of_the_manifest_with_what_was_added():
    path = "access-allow-bookthief/traffic-access-v1-allow-bookthief.yaml"
    assert chapters._from(path, "  sources:", until=None, added=("bookthief",)) == [
        "  sources:",
        "  - kind: ServiceAccount",
        "    name: bookbuyer",
        "    namespace: bookbuyer",
        "+ - kind: ServiceAccount",
        "+   name: bookthief",
        "+   namespace: bookthief",
    ]


def test_the_applications_are_hurried_and_nothing_else_is_changed():
    usual, hurried = cast.load("apps"), cast.hurried(cast.load("apps"), 25)
    intervals = []
    for obj in hurried:
        for container in (
            obj.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
        ):
            for variable in container.get("env", []):
                if variable["name"] == cast.INTERVAL_VARIABLE:
                    intervals.append(variable["value"])
                    variable["value"] = "1000"
    assert intervals == ["25", "25"]
    assert hurried == usual


@pytest.mark.parametrize("path", ["apps", "access", "bookstore-v2", "split-50-50", "stranger"])
def test_every_folder_that_the_story_applies_is_there(path):
    assert all(obj["apiVersion"] and obj["kind"] for obj in cast.load(path))


def test_logs_are_put_aside_and_nothing_secret_with_them(tmp_path):
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "node.log").write_text("a line")
    (tmp_path / "pods" / "uid-1").mkdir(parents=True)
    (tmp_path / "pods" / "uid-1" / "sidecar.log").write_text("another")
    (tmp_path / "pods" / "uid-1" / "token").write_text("secret")
    (tmp_path / "kubeconfig").write_text("secret")
    target = logs.put_aside(tmp_path)
    try:
        kept = {str(p.relative_to(target)) for p in target.rglob("*") if p.is_file()}
        assert kept == {"log/node.log", "pods/uid-1/sidecar.log"}
        assert target.stat().st_mode & 0o777 == 0o700
    finally:
        for path in sorted(target.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        target.rmdir()
