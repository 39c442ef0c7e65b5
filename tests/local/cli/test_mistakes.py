"""What people get for their most likely mistakes: what happened, where, and what to do about it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsm.cli.main import main

TAB = "kind: TrafficSplit\n\tspec: {}\n"
FLOW = "kind: [\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where nothing runs, and the files lie with which people go wrong."""
    (tmp_path / "tab.yaml").write_text(TAB)
    (tmp_path / "flow.yaml").write_text(FLOW)
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    (tmp_path / "no.js").mkdir()
    monkeypatch.setenv("FSM_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("upp", 2, ["No such command 'upp'", "'up'"]),
        ("up --prot 1", 2, ["No such option: --prot", "--port"]),
        ("up --port 99999", 2, ["--port", "65535"]),
        ("up --images nosuch", 2, ["there is no image map nosuch"]),
        ("up --expose 300.1.1.1", 1, ["'300.1.1.1' is not an IPv4 address"]),
        ("up --set foo.bar=1", 2, ["unknown value foo.bar", "install-values.md"]),
        ("up -f flow.yaml", 2, ["flow.yaml, line 2, is not YAML: "]),
        ("status", 3, ["no mesh runs here", "hint: start one with `fsm up`"]),
        ("namespace list", 3, ["no mesh runs here", "hint: start one with `fsm up`"]),
        ("namespace list --kubeconfig nosuch", 3, ["there is no kubeconfig at nosuch"]),
        ("namespace list --kubeconfig flow.yaml", 3, ["flow.yaml, line 2 is not YAML: "]),
        ("validate -f nosuch.yaml", 2, ["nosuch.yaml: No such file or directory"]),
        (
            "validate -f empty.yaml",
            1,
            ["no object in empty.yaml", "hint: an object has apiVersion"],
        ),
        ("validate -f tab.yaml", 1, ["tab.yaml:2: error", "hint: indent with blanks"]),
        ("plugin test nosuch.js", 1, ["nosuch.js cannot be read: No such file or directory\n"]),
        ("plugin test no.js", 1, ["no.js cannot be read: Is a directory\n"]),
        ("rollout status split", 2, ["'split' does not name an object", "hint: write KIND/NAME"]),
        ("rollout status nokind/x", 2, ["'nokind' is not a kind of the mesh", "TrafficSplit"]),
        ("completion nosh", 2, ["'nosh'", "'bash'"]),
        ("status -o xml", 2, ["'xml'", "'json'"]),
    ],
)
def test_a_mistake_is_told_with_its_remedy(
    line: str,
    code: int,
    said: list[str],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["fsm", *line.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    assert ended.value.code == code
    assert [words for words in said if words not in out + err] == [], out + err
    assert "Traceback" not in err
    assert "[Errno" not in err


@pytest.fixture
def state() -> Iterator[Path]:
    """A state directory whose path is short enough for sockets; the box in it is closed after."""
    path = Path(tempfile.mkdtemp(prefix="fsm-", dir="/tmp"))
    yield path
    fsm(path, "down", "--purge")
    shutil.rmtree(path, ignore_errors=True)


def fsm(state: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k != "KUBECONFIG"} | {"FSM_HOME": str(state)}
    return subprocess.run(
        [sys.executable, "-m", "fsm.cli.main", *words],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )


@pytest.mark.box
def test_a_store_that_cannot_be_used_is_told_at_once_and_stays(state: Path) -> None:
    newer = sqlite3.connect(state / "api.db")
    newer.execute("PRAGMA user_version=99")
    newer.close()
    opened = fsm(state, "up", "--port", "0", "--no-mesh")
    assert opened.returncode == 1
    assert f"error: {state}/api.db was written by a newer version" in opened.stderr
    assert "hint: use that version" in opened.stderr
    assert "after 60 seconds" not in opened.stderr
    # Nothing is left running, and nothing of what is stored was touched.
    assert fsm(state, "down").stderr.strip() == "No box was running."
    stored = sqlite3.connect(state / "api.db")
    assert stored.execute("PRAGMA user_version").fetchone() == (99,)
    stored.close()
    purged = fsm(state, "down", "--purge")
    assert f"The state in {state} is removed" in purged.stderr
    assert not (state / "api.db").exists()
