"""kubectl exec, attach and cp into a real container: streams, exit codes, terminals, ends."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from box_world import Box, apply, pod, until

pytestmark = [
    pytest.mark.box,
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed"),
]


def execute(
    box: Box, namespace: str, *words: str, feed: bytes | None = None, flags: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[bytes]:
    base = ["kubectl", f"--kubeconfig={box.info.kubeconfig}", "-n", namespace, "exec", *flags, "p"]
    return subprocess.run(
        [*base, "--", *words], input=feed, capture_output=True, timeout=60, check=False
    )


@pytest.fixture
def ready(box: Box, namespace: str) -> str:
    apply(box, namespace, pod("p", terminationGracePeriodSeconds=1))
    box.kubectl("wait", "-n", namespace, "pod/p", "--for=condition=Ready", "--timeout=30s")
    return namespace


def test_output_errors_and_exit_code(box: Box, ready: str) -> None:
    done = execute(box, ready, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout) == (7, b"out\n")
    assert done.stderr.startswith(b"err\n")
    assert b"exit code 7" in done.stderr
    assert execute(box, ready, "true").returncode == 0
    assert execute(box, ready, "sh", "-c", "kill -9 $$").returncode == 137


def test_input_arrives_whole_and_its_end_too(box: Box, ready: str) -> None:
    data = os.urandom(2_000_000)
    assert execute(box, ready, "cat", feed=data, flags=("-i",)).stdout == data
    assert execute(box, ready, "wc", "-c", feed=b"", flags=("-i",)).stdout.strip() == b"0"


def test_a_command_that_is_not_there_and_a_container_that_is_not(box: Box, ready: str) -> None:
    done = execute(box, ready, "no-such-program")
    assert done.returncode == 127
    done = execute(box, ready, "true", flags=("-c", "other"))
    assert done.returncode == 1
    assert b"container other is not valid for pod p" in done.stderr


def test_the_environment_is_the_containers(box: Box, ready: str) -> None:
    done = execute(
        box, ready, "sh", "-c", "hostname; echo $KUBERNETES_SERVICE_HOST; cat /proc/1/comm"
    )
    assert done.stdout.decode().split() == ["p", box.settings.api_ip, "fsm-shim"]


async def test_a_client_that_goes_away_leaves_no_process(box: Box, ready: str) -> None:
    words = ["kubectl", f"--kubeconfig={box.info.kubeconfig}", "-n", ready, "exec", "p", "--"]
    client = await asyncio.create_subprocess_exec(
        *words, "sh", "-c", "echo begun; sleep 4321; echo never", stdout=asyncio.subprocess.PIPE
    )
    assert client.stdout is not None
    assert await asyncio.wait_for(client.stdout.readline(), 20) == b"begun\n"
    client.kill()
    await client.wait()

    async def gone() -> bool:
        return "sleep 4321" not in (
            await box.run(ready, "p", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        )["stdout"].replace("sleep 4321; echo", "x")

    await until(gone, "the command has ended with its client")


def test_a_terminal_has_a_size_and_takes_control_characters(box: Box, ready: str) -> None:
    if shutil.which("script") is None:
        pytest.skip("script is not installed")
    command = (
        f"stty rows 33 cols 77; kubectl --kubeconfig={box.info.kubeconfig} -n {ready}"
        " exec -it p -- sh -c 'test -t 0 && test -t 1 && echo is-a-terminal; sleep 1; stty size'"
    )
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"], capture_output=True, timeout=60, check=False
    )
    assert b"is-a-terminal" in done.stdout
    assert b"33 77" in done.stdout


def test_files_are_copied_both_ways(box: Box, ready: str, tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    there.write_bytes(os.urandom(300_000))
    box.kubectl("cp", "-n", ready, str(there), "p:/tmp/file")
    box.kubectl("cp", "-n", ready, "p:/tmp/file", str(back))
    assert back.read_bytes() == there.read_bytes()


async def test_attach_shows_what_is_written_from_now_on(box: Box, namespace: str) -> None:
    script = "n=0; while true; do n=$((n+1)); echo tick $n; sleep 0.1; done"
    apply(box, namespace, pod("p", script, terminationGracePeriodSeconds=0))
    box.kubectl("wait", "-n", namespace, "pod/p", "--for=condition=Ready", "--timeout=30s")
    words = ["kubectl", f"--kubeconfig={box.info.kubeconfig}", "-n", namespace, "attach", "p"]
    client = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    try:
        assert client.stdout is not None
        assert b"tick" in await asyncio.wait_for(client.stdout.readline(), 20)
    finally:
        client.kill()
        await client.wait()
