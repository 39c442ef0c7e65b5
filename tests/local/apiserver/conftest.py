"""The embedded API server for tests: as a process of its own, and inside the test's loop."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fsm.kube import KubeClient
from fsm.standalone.apiserver import ApiServerSettings, run_apiserver

START_S = 20.0


@dataclass
class Server:
    """One server process on one state directory; it can be killed and started again."""

    state_dir: Path
    arguments: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def kubeconfig(self) -> Path:
        return self.state_dir / "kubeconfig"

    def start(self) -> Server:
        self.kubeconfig.unlink(missing_ok=True)
        log = (self.state_dir.parent / f"{self.state_dir.name}.log").open("ab")
        with log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "fsm.standalone.apiserver",
                    "--state-dir",
                    self.state_dir,
                    "--port",
                    "0",
                    *self.arguments,
                ],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_S
        while not self.kubeconfig.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(Path(log.name).read_text())
            time.sleep(0.02)
        return self

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        code = self.process.wait(timeout=20)
        self.process = None
        return code

    def kubectl(
        self, *arguments: str, stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {
            "KUBECONFIG": str(self.kubeconfig),
            "KUBECACHEDIR": str(self.state_dir.parent / f"{self.state_dir.name}.cache"),
        }
        done = subprocess.run(
            ["kubectl", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env=environment,
            timeout=60,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(arguments)}: {done.stderr}{done.stdout}")
        return done


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    state = tmp_path_factory.mktemp("api") / "state"
    found = Server(state)
    state.mkdir()
    found.start()
    yield found
    if found.process is not None:
        found.stop()


@pytest.fixture(scope="module")
def cluster(server: Server) -> Server:
    """A server for tests that use the real kubectl."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    return server


@pytest.fixture(scope="session")
def kubectl_minor() -> int:
    """The minor version of the kubectl on the PATH; some commands are younger than others."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    command = ["kubectl", "version", "--client", "-o", "json"]
    found = json.loads(subprocess.run(command, capture_output=True, timeout=60).stdout)
    return int(found["clientVersion"]["minor"].rstrip("+"))


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    # Short: the paths of unix sockets are limited to 107 bytes.
    return tmp_path / "s"


@pytest.fixture
async def settings(state_dir: Path) -> ApiServerSettings:
    return ApiServerSettings(state_dir=state_dir, listen=[("127.0.0.1", 0)])


@pytest.fixture
async def running(settings: ApiServerSettings) -> AsyncIterator[ApiServerSettings]:
    """A server in the loop of the test, ready."""
    ready = asyncio.Event()
    task = asyncio.create_task(run_apiserver(settings, ready))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({task, waiting}, timeout=START_S, return_when="FIRST_COMPLETED")
    waiting.cancel()
    if task.done():
        await task
    yield settings
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.fixture
async def api(running: ApiServerSettings) -> AsyncIterator[KubeClient]:
    """A client of that server with the administrator's certificate."""
    async with KubeClient.from_kubeconfig(running.state_dir / "kubeconfig") as client:
        yield client
