"""What happens when parts of the box are killed, and what is left when it closes."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from box_world import Box, apply, open_box, pod, service, until, web, why_not

import fsm
from fsm.kube.resources import PODS
from fsm.standalone.box import lifecycle, syscalls
from fsm.standalone.box.settings import StandaloneSettings

pytestmark = pytest.mark.box


@pytest.fixture
def state_dir() -> Iterator[Path]:
    if reason := why_not():
        pytest.skip(reason)
    path = Path(tempfile.mkdtemp(prefix="fsm-box-"))
    yield path
    asyncio.run(lifecycle.down(StandaloneSettings.default(state_dir=path), purge=True))
    shutil.rmtree(path, ignore_errors=True)


async def _running(box: Box, namespace: str, name: str) -> dict[str, Any]:
    async with box.client() as client:

        async def check() -> dict[str, Any] | None:
            found = await client.get(PODS, name, namespace)
            status = found["status"]["containerStatuses"][0]
            return status if status["ready"] else None

        found: dict[str, Any] = await until(check, f"{name} runs")
        return found


async def _kill_child(box: Box, name: str) -> None:
    """Kill a child of PID 1 without warning and wait until there is another."""
    before = box.child(name)
    box.inside("kill", "-9", str(before["pid"]))

    async def replaced() -> bool:
        now = box.child(name)
        return now["pid"] not in (None, before["pid"]) and now["restarts"] > before["restarts"]

    await until(replaced, f"{name} was started again")


async def test_killed_agent_finds_its_pods_and_restarts_none(box: Box, namespace: str) -> None:
    mount = {"volumeMounts": [{"name": "s", "mountPath": "/s"}]}
    short = pod(
        "short",
        "while [ ! -e /s/go ]; do sleep 0.02; done; exit 5",
        container=mount,
        volumes=[{"name": "s", "hostPath": {"path": str(box.settings.state_dir)}}],
        restartPolicy="Never",
    )
    apply(box, namespace, web("a", "still here"), service("a", {"app": "a"}), short, pod("client"))
    for name in ("a", "short", "client"):
        await _running(box, namespace, name)
    before = {p["name"]: p for p in await box.pods() if p["namespace"] == namespace}
    await _kill_child(box, "node")
    # It ends while there is, perhaps, nobody to see it.
    (box.settings.state_dir / "go").touch()

    async def adopted() -> bool:
        now = {p["name"]: p for p in await box.pods() if p["namespace"] == namespace}
        return now["a"] == before["a"] and now["client"] == before["client"]

    await until(adopted, "the same processes, addresses and links")
    async with box.client() as client:

        async def ended() -> bool:
            status = (await client.get(PODS, "short", namespace))["status"]
            end = status["containerStatuses"][0]["state"].get("terminated") or {}
            return status["phase"] == "Failed" and end.get("exitCode") == 5

        await until(ended, "the exit code was not lost")
    assert (await _running(box, namespace, "a"))["restartCount"] == 0
    outcome = await box.run(namespace, "client", "curl -sSf -m 5 http://a/")
    assert outcome["stdout"] == "still here", outcome
    (box.settings.state_dir / "go").unlink()


async def test_pods_deleted_while_no_agent_runs_are_removed_when_it_is_back(
    box: Box, namespace: str
) -> None:
    apply(box, namespace, pod("p"))
    await _running(box, namespace, "p")
    mine = next(p for p in await box.pods() if p["namespace"] == namespace)
    agent = str(box.child("node")["pid"])
    box.inside("kill", "-STOP", agent)
    box.kubectl("delete", "pod", "p", "-n", namespace, "--force", "--grace-period=0")
    box.inside("kill", "-9", agent)

    async def removed() -> bool:
        left = [p for p in await box.pods() if p["uid"] == mine["uid"]]
        return not left and mine["link"] not in box.inside("ip", "link")

    await until(removed, "nothing of the Pod is left")
    assert str(mine["processes"]["main"]) not in box.inside("ps", "-eo", "pid=").split()


async def test_killed_api_server_and_controllers_come_back_and_lose_nothing(
    box: Box, namespace: str
) -> None:
    apply(box, namespace, pod("p"))
    await _running(box, namespace, "p")
    await _kill_child(box, "apiserver")
    await _kill_child(box, "kube-controllers")

    async def answers() -> bool:
        return "p " in box.kubectl("get", "pods", "-n", namespace, check=False)

    await until(answers, "the Pod is still known")
    labels = {"app": "late"}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "late"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod("x")["spec"]},
        },
    }
    apply(box, namespace, deployment)
    box.kubectl("rollout", "status", "deploy/late", "-n", namespace, "--timeout=60s")
    assert (await _running(box, namespace, "p"))["restartCount"] == 0


async def test_killed_supervisor_takes_everything_with_it(state_dir: Path) -> None:
    box = await asyncio.to_thread(open_box, state_dir)
    apply(box, "default", pod("p"))
    await _running(box, "default", "p")
    space = os.readlink(f"/proc/{box.info.pid}/ns/pid")
    # PID 1, its three children, the Pod's init and its application.
    members = {pid: syscalls.start_ticks(pid) for pid in _members(space)}
    assert len(members) >= 6
    links = _links()
    os.kill(box.info.pid, signal.SIGKILL)

    async def gone() -> bool:
        return not [p for p, ticks in members.items() if syscalls.start_ticks(p) == ticks]

    await until(gone, "no process is left in the box")
    assert _links() == links
    assert lifecycle.status(box.settings) is None
    # And it can be opened again: the object is in the store, the Pod is started anew.
    again = await asyncio.to_thread(open_box, state_dir)
    await _running(again, "default", "p")


async def test_up_is_idempotent_and_down_leaves_no_trace(state_dir: Path) -> None:
    steps: list[str] = []
    settings = StandaloneSettings.default(state_dir=state_dir, api_port=0)
    first = await lifecycle.up(settings, steps.append)
    assert steps[0] == "opening the box"
    steps.clear()
    assert await lifecycle.up(settings, steps.append) == first
    assert "opening the box" not in steps
    box = Box(settings, first)
    apply(box, "default", pod("p"), service("s", {"app": "p"}))
    await _running(box, "default", "p")
    space = os.readlink(f"/proc/{first.pid}/ns/pid")
    assert await lifecycle.down(settings, purge=True)
    assert not _members(space)
    assert lifecycle.status(settings) is None
    assert os.listdir(state_dir) == ["lock"]
    assert not await lifecycle.down(settings)


async def test_box_closes_itself_when_its_opener_is_gone(state_dir: Path) -> None:
    settings = StandaloneSettings.default(state_dir=state_dir, api_port=0)
    reading, writing = os.pipe()
    info = await lifecycle.up(settings, lifeline=reading)
    os.close(reading)
    space = os.readlink(f"/proc/{info.pid}/ns/pid")
    assert _members(space)
    os.close(writing)

    async def closed() -> bool:
        return lifecycle.status(settings) is None and not _members(space)

    await until(closed, "the box closed itself")


async def test_record_of_a_process_that_is_gone_is_not_believed(state_dir: Path) -> None:
    settings = StandaloneSettings.default(state_dir=state_dir, api_port=0)
    info = await lifecycle.up(settings)
    await lifecycle.down(settings)
    # The pid now belongs to somebody else: to us.
    stale = {
        "pid": os.getpid(),
        "start_ticks": info.start_ticks,
        "api_port": 1,
        "kubeconfig": str(info.kubeconfig),
        "state_dir": str(state_dir),
        "opened_at": 0.0,
    }
    (state_dir / "box.json").write_text(json.dumps(stale))
    assert lifecycle.status(settings) is None
    assert not await lifecycle.down(settings)
    (state_dir / "box.json").write_text("{ torn")
    assert lifecycle.status(settings) is None


async def test_taken_port_is_an_error_in_words(state_dir: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = StandaloneSettings.default(state_dir=state_dir, api_port=port)
        with pytest.raises(lifecycle.BoxError, match=rf"127\.0\.0\.1:{port}.*\nhint: "):
            await lifecycle.up(settings)


_AS_USER = """
import asyncio, json, sys
from pathlib import Path
from fsm.standalone.box import lifecycle, syscalls
from fsm.standalone.box.settings import StandaloneSettings
settings = StandaloneSettings.default(state_dir=Path(sys.argv[2]), api_port=0)
if sys.argv[1] == "up":
    info = asyncio.run(lifecycle.up(settings))
    print(json.dumps({"pid": info.pid, "kubeconfig": str(info.kubeconfig)}))
else:
    asyncio.run(lifecycle.down(settings))
"""


def _user_command() -> tuple[list[str], dict[str, str]]:
    """Find how to run our Python as an ordinary user; skips where that cannot be."""
    nobody = pwd.getpwnam("nobody")
    drop = [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    source = str(Path(fsm.__file__).resolve().parent.parent)
    packages = [p for p in sys.path if p.endswith("site-packages")]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": ":".join([source, *packages])}
    # It must also be able to start itself: the first start may still profit from our rights.
    probe = (
        "import subprocess, sys; import fsm.standalone.box.lifecycle;"
        " subprocess.run([sys.executable, '-c', ''], check=True)"
    )
    why = ""
    for python in (sys.executable, "/usr/bin/python3"):
        tried = subprocess.run(
            ["setpriv", *drop, python, "-c", probe],
            capture_output=True,
            text=True,
            env=env,
            cwd="/",
            check=False,
        )
        if tried.returncode == 0:
            return ["setpriv", *drop, python, "-c", _AS_USER], env
        why = tried.stderr.strip().splitlines()[-1] if tried.stderr.strip() else "no message"
    pytest.skip(f"no Python that an ordinary user may run has our packages: {why}")


@pytest.mark.skipif(os.geteuid() != 0, reason="these tests run as an ordinary user already")
async def test_ordinary_user_opens_a_box_that_works(state_dir: Path) -> None:
    command, env = _user_command()
    nobody = pwd.getpwnam("nobody")
    os.chown(state_dir, nobody.pw_uid, nobody.pw_gid)

    def act(what: str) -> str:
        done = subprocess.run(
            [*command, what, str(state_dir)],
            capture_output=True,
            text=True,
            env=env,
            cwd="/",
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    opened = json.loads(await asyncio.to_thread(act, "up"))
    settings = StandaloneSettings.default(state_dir=state_dir, api_port=0)
    info = lifecycle.status(settings)
    assert info is not None
    assert info.pid == opened["pid"]
    assert os.stat(f"/proc/{info.pid}").st_uid == nobody.pw_uid
    box = Box(settings, info)
    python = command[command.index("-c") - 1]
    made = web("a", "from a user", container={"command": _python_of(web("a", "x"), python)})
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c"},
        "data": {"k": "deep"},
    }
    mount = {"volumeMounts": [{"name": "c", "mountPath": "/var/lib/some/where"}]}
    client = pod("client", container=mount, volumes=[{"name": "c", "configMap": {"name": "c"}}])
    apply(box, "default", made, service("svc", {"app": "a"}), config, client)
    await _running(box, "default", "a")
    await _running(box, "default", "client")

    async def answered() -> bool:
        outcome = await box.run("default", "client", "curl -sSf -m 5 http://svc/")
        return bool(outcome["stdout"] == "x")

    await until(answered, "the Service answers")
    assert (await box.run("default", "client", "cat /var/lib/some/where/k"))["stdout"] == "deep"
    rules = "printf 'table ip t {\\n chain c {\\n }\\n}\\n' | nft -f - ; nft list tables"
    container = {"securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}
    apply(box, "default", pod("rules", container=container))
    await _running(box, "default", "rules")
    outcome = await box.run("default", "rules", rules)
    assert outcome["stdout"] == "table ip t\n", outcome
    space = os.readlink(f"/proc/{info.pid}/ns/pid")
    await asyncio.to_thread(act, "down")
    assert not _members(space)


def _python_of(made: dict[str, Any], python: str) -> list[str]:
    _, *rest = made["spec"]["containers"][0]["command"]
    return [python, *rest]


def _members(space: str) -> list[str]:
    """List the processes that see, or whose ancestors see, a PID namespace as their own.

    Containers have PID namespaces of their own, below that of the box. Processes that only await
    their burial (zombies) do not count.
    """
    parents, inside = {}, set()
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
            if os.readlink(f"/proc/{entry}/ns/pid") == space:
                inside.add(entry)
        except OSError:
            continue
        if fields[0] not in "ZX":
            parents[entry] = fields[1]
    found = []
    for entry in parents:
        step = entry
        while step in parents and step not in inside:
            step = parents[step]
        if step in inside:
            found.append(entry)
    return found


def _links() -> str:
    return subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
