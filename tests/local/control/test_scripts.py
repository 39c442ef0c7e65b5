"""Scripts are tried out in the real engine before they are taken."""

from __future__ import annotations

import asyncio
import stat
import sys
import time
from pathlib import Path

import pytest

from fsm.controllers.scripts import Scripts

SOUND = "pipy().pipeline().chain()"


def plugin(script: str, name: str = "mine") -> dict[str, object]:
    return {"kind": "Plugin", "metadata": {"name": name}, "spec": {"pipyscript": script}}


def program(folder: Path, text: str) -> str:
    file = folder / "engine"
    file.write_text(f"#!{sys.executable}\n{text}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return str(file)


async def test_what_loads_is_fine() -> None:
    assert await Scripts().violations(plugin(SOUND)) == ([], [])


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("pipy().pipeline()\n  .chain(", "line 2, column 10: syntax error"),
        ("pipy({})\n.pipeline()\n.handlMessage(1)\n.chain()", "line 3, column 2: TypeError: no fi"),
        ("pipy().listen(80)", "line 1, column 1: has no entrance"),
        ("pipy().pipeline()\n.chain(['modules/none.js'])", "line 2, column 10: modules/none.js is"),
        ("for (;;);", "line 1, column 1: took longer than 500 ms"),
        ("function f() { f() }; f()", "line 1, column "),
        ("throw new Error('no')", "line 1, column 11: no"),
    ],
)
async def test_what_does_not_load_is_told_with_line_and_column(script: str, said: str) -> None:
    [fault], doubts = await Scripts().violations(plugin(script))
    assert fault.path == "spec.pipyscript"
    assert fault.message.startswith(said)
    assert doubts == []


async def test_what_nothing_has_is_doubtful() -> None:
    script = "pipy().import({ __servic: 'inbound-http-routing' })\n.pipeline(() => nothing).chain()"
    script = script.replace(".pipeline(() => nothing)", ".pipeline().onStart(() => nothing())")
    faults, doubts = await Scripts().violations(plugin(script))
    assert faults == []
    told = " ".join(doubt.message for doubt in doubts)
    assert "line 2, column 27: unresolved identifier 'nothing'" in told
    assert "'inbound-http-routing' has no variable __servic; it has __route, __service" in told


async def test_a_script_that_is_tried_reaches_nothing(tmp_path: Path) -> None:
    secret, made = tmp_path / "secret", tmp_path / "made"
    secret.write_text("hidden")
    script = (
        f"var s; try {{ s = os.readFile('{secret}').toString() }} catch (e) {{ s = 'none' }}"
        f"\nif (os.env.HOME) throw new Error('home');"
        f"\nif (s === 'hidden') throw new Error('read');"
        f"\ntry {{ os.writeFile('{made}', 'x') }} catch (e) {{}}"
        f"\ntry {{ pipy.exec(['/bin/touch', '{made}']) }} catch (e) {{}}"
        f"\n{SOUND}"
    )
    faults, _ = await Scripts().violations(plugin(script))
    assert [fault.message for fault in faults] == []
    assert not made.exists()


async def test_other_kinds_are_not_looked_at() -> None:
    scripts = Scripts(program="/nowhere")
    other = {**plugin("pipy("), "kind": "PluginChain"}
    assert await scripts.violations(other) == ([], [])
    assert await scripts.violations({"kind": "Plugin", "spec": None}) == ([], [])


async def test_an_engine_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    endless = program(tmp_path, "import time\ntime.sleep(600)")
    began = time.monotonic()
    [fault], _ = await Scripts(endless, within_s=0.5).violations(plugin(SOUND))
    assert fault.message == "it is not loaded within 0.5 s"
    assert time.monotonic() - began < 5


async def test_an_engine_that_dies_is_told(tmp_path: Path) -> None:
    killed = program(tmp_path, "import os\nos.kill(os.getpid(), 9)")
    [fault], _ = await Scripts(killed).violations(plugin(SOUND))
    assert fault.message == "the engine ended while it was loaded (-9)"


async def test_a_script_is_tried_once_and_noted_in_our_copy_of_the_object(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    once = program(
        tmp_path,
        f"import sys\nopen({str(runs)!r}, 'a').write('x')\n"
        "print('pipy: /plugins/mine.js:1:5: oh', file=sys.stderr)\nsys.exit(1)",
    )
    scripts = Scripts(once)
    obj = plugin("pipy(")
    assert scripts.noted("Plugin", obj) == {**obj, "status": {"scriptFault": ""}}
    await scripts.prepare([obj])
    await asyncio.gather(scripts.prepare([obj]), scripts.violations(obj))
    assert runs.read_text() == "x"
    spoofed = {**obj, "status": {"scriptFault": "something else"}}
    assert scripts.noted("Plugin", spoofed)["status"] == {"scriptFault": "line 1, column 5: oh"}
    assert scripts.noted("Plugin", None) is None
    assert scripts.noted("Pod", obj) is obj


async def test_without_an_engine_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fsm.controllers.scripts._installed", lambda: None)
    faults, [doubt] = await Scripts().violations(plugin("pipy("))
    assert faults == []
    assert "not installed" in doubt.message
