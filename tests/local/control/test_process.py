"""The controller as a process: how it starts, ends, and says that it cannot."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

CODE = """
import asyncio, sys
from fsm.controllers.main import run_controller
from fsm.controllers.settings import ControllerSettings
from fsm.settings import Ports, Settings
ports = Ports(delivery=0, webhook=0, health=0)
settings = ControllerSettings(mesh=Settings(ports=ports), host="127.0.0.1")
sys.exit(asyncio.run(run_controller(settings if sys.argv[1] == "free" else None)))
"""


async def start(kind: str, **environ: str) -> asyncio.subprocess.Process:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("FSM_", "KUBE"))}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CODE,
        kind,
        env=clean | environ,
        stderr=asyncio.subprocess.PIPE,
    )


async def read_until(process: asyncio.subprocess.Process, words: str) -> str:
    seen = ""
    async with asyncio.timeout(20):
        while words not in seen:
            line = (await process.stderr.readline()).decode()
            assert line, f"it ended without saying {words!r}:\n{seen}"
            seen += line
    return seen


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_ends_in_order_while_it_still_waits_for_the_api(tmp_path, number):
    config = tmp_path / "kubeconfig"
    config.write_text(
        "{apiVersion: v1, kind: Config, current-context: a,"
        " contexts: [{name: a, context: {cluster: a, user: a}}],"
        " clusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}],"
        " users: [{name: a, user: {}}]}"
    )
    process = await start("free", KUBECONFIG=str(config))
    await read_until(process, "waiting for the API to read the root certificate")
    process.send_signal(number)
    rest = (await process.stderr.read()).decode()
    assert await process.wait() == 0
    assert rest.splitlines()[-1].endswith("main  stopped")
    assert "Traceback" not in rest


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"KUBECONFIG": "/nowhere"}, "no kubeconfig at /nowhere"),
        ({"FSM_SIDECAR_MARK": "red"}, "FSM_SIDECAR_MARK is 'red'"),
    ],
)
async def test_what_no_waiting_can_mend_ends_it_in_words(environ, words):
    process = await start("environment", **environ)
    _, said = await process.communicate()
    assert process.returncode == 1
    assert words in said.decode()
    assert "Traceback" not in said.decode()
