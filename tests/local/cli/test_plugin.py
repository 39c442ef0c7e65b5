"""``fsm plugin test``: a plugin, one request, and what came of it, with the real proxy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FSM = Path(sys.executable).with_name("fsm")

MARK = """
pipy({ _who: '' }).import({ __service: 'inbound-http-routing' }).pipeline()
.onStart(() => void (_who = __service?.Plugins?.mark?.who))
.handleMessageStart(m => void (m.head.headers['x-who'] = _who, delete m.head.headers['version']))
.chain()
.handleMessageStart(m => void (m.head.headers['x-canary'] = 'true'))
"""

GUARD = """
pipy().pipeline().replaceMessage(() => new Message({ status: 401 }, 'Unauthorized!'))
"""


def fsm(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(FSM), "plugin", "test", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def written(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_what_a_plugin_changes_is_shown(tmp_path: Path) -> None:
    script = written(tmp_path, "mark.js", MARK)
    told = written(tmp_path, "told.yaml", "who: me\n")
    done = fsm(script, "--request", "GET /headers", "-H", "version: v2", "--config", told)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "request: GET /headers",
        "  - version: v2",
        "  + x-who: me",
        "response: 200",
        "  + x-canary: true",
    ]


def test_a_manifest_is_taken_like_the_script_in_it(tmp_path: Path) -> None:
    script = "".join(f"    {line}\n" for line in GUARD.splitlines())
    text = f"kind: Plugin\nmetadata: {{name: guard}}\nspec:\n  pipyscript: |\n{script}"
    done = fsm(written(tmp_path, "guard.yaml", f"kind: ConfigMap\n---\n{text}"))
    assert done.returncode == 0, done.stderr
    assert "401" in done.stdout
    twice = fsm(written(tmp_path, "two.yaml", f"{text}---\n{text}"))
    assert twice.returncode == 1
    assert "has 2 Plugins" in twice.stderr
    bare = fsm(written(tmp_path, "bare.yaml", "kind: Plugin\nspec: {}\n"))
    assert "without metadata.name" in bare.stderr


def test_a_plugin_that_answers_itself_keeps_the_request(tmp_path: Path) -> None:
    done = fsm(written(tmp_path, "guard.js", GUARD), "--chain", "outbound-http")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "request: did not reach the server",
        "response: 401",
        "  body: Unauthorized!",
    ]


def test_a_plugin_that_throws_is_told_with_its_place(tmp_path: Path) -> None:
    text = "pipy().pipeline()\n.handleMessageStart(m => m.head.nothing.more)\n.chain()\n"
    done = fsm(written(tmp_path, "bad.js", text))
    assert "response: 500" in done.stdout.splitlines()
    assert "/plugins/bad.js:2:" in done.stderr


def test_a_plugin_that_does_not_load_is_refused_with_line_and_column(tmp_path: Path) -> None:
    done = fsm(written(tmp_path, "bad.js", "pipy().pipeline()\n.chain("))
    assert done.returncode == 1
    assert "/plugins/bad.js:2:" in done.stderr
    assert not done.stdout


def test_what_is_no_request_is_wrong_usage(tmp_path: Path) -> None:
    done = fsm(written(tmp_path, "mark.js", MARK), "--request", "somewhere")
    assert done.returncode == 2
    assert "'somewhere' is no request" in done.stderr
