"""kubectl attach and kubectl run with input and terminals, over both ways that kubectl has."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from typing import Any

import pytest
from box_world import Box, apply, pod, until

pytestmark = [
    pytest.mark.box,
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed"),
]

#: With it kubectl from 1.31 on does as those before it: SPDY instead of websockets.
SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false"}


def words(box: Box, namespace: str, *rest: str) -> list[str]:
    return ["kubectl", f"--kubeconfig={box.info.kubeconfig}", "-n", namespace, *rest]


def run(
    box: Box, namespace: str, *rest: str, feed: bytes = b"", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        words(box, namespace, *rest),
        input=feed,
        capture_output=True,
        timeout=60,
        check=False,
        env=os.environ | environment,
    )


@pytest.mark.parametrize("way", [{}, SPDY], ids=["websocket", "spdy"])
def test_run_takes_input_and_tells_the_exit_code(
    box: Box, namespace: str, way: dict[str, str]
) -> None:
    data = os.urandom(1_500_000).hex().encode()
    script = "wc -c; echo err >&2; exit 9"
    image = ("--image=alpine", "--restart=Never", "--rm", "-i", "--quiet")
    done = run(box, namespace, "run", "r", *image, "--", "sh", "-c", script, feed=data, **way)
    assert done.stdout.split()[0] == str(len(data)).encode(), done
    assert b"err\n" in done.stderr
    assert done.returncode == 9
    assert not box.kubectl("get", "-n", namespace, "pods", "-o", "name").strip()


async def test_run_gives_a_terminal_that_can_be_typed_at(box: Box, namespace: str) -> None:
    if shutil.which("script") is None:
        pytest.skip("script is not installed")
    line = " ".join(
        words(box, namespace, "run", "t", "--image=alpine", "--restart=Never", "--rm", "-it")
    )
    person = await asyncio.create_subprocess_exec(
        *("script", "-qec", f"stty rows 33 cols 77; {line} -- sh", "/dev/null"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert person.stdin is not None
    assert person.stdout is not None
    seen = b""

    async def sees(wanted: bytes) -> None:
        nonlocal seen
        assert person.stdout is not None
        async with asyncio.timeout(30):
            while wanted not in seen:
                piece = await person.stdout.read(1000)
                assert piece, seen
                seen += piece

    try:
        await sees(b"# ")
        person.stdin.write(b"echo $((40+2)) $TERM; tty\n")
        await sees(b"42 xterm")
        await sees(b"/dev/pts/")
        # The client tells its size just after the start: the last of two answers is of a later one.
        person.stdin.write(b"sleep 100\n")
        await sees(b"sleep 100\r\n")
        person.stdin.write(b"\x03")
        person.stdin.write(b"stty size\n")
        await sees(b"33 77")
        person.stdin.write(b"exit 6\n")
        async with asyncio.timeout(30):
            assert await person.wait() == 6, seen
    finally:
        if person.returncode is None:
            person.kill()
            await person.wait()


async def attached(
    box: Box, namespace: str, *flags: str, **environment: str
) -> asyncio.subprocess.Process:
    pipe: Any = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *words(box, namespace, "attach", "p", *flags),
        stdin=pipe,
        stdout=pipe,
        stderr=asyncio.subprocess.DEVNULL,
        env=os.environ | environment,
    )


async def test_attach_reaches_an_input_that_stays_open_again_and_again(
    box: Box, namespace: str
) -> None:
    script = 'while read line; do echo "<$line>"; done; echo over'
    apply(
        box, namespace, pod("p", script, container={"stdin": True}, terminationGracePeriodSeconds=0)
    )
    box.kubectl("wait", "-n", namespace, "pod/p", "--for=condition=Ready", "--timeout=30s")
    for number, way in enumerate(({}, SPDY, {})):
        if number == 2:
            # The streams are the container's own: a new agent finds them as they were.
            before = box.child("node")["pid"]
            box.inside("kill", "-9", str(before))

            async def back(before: int = before) -> bool:
                known = {f"{one['namespace']}/{one['name']}" for one in await box.pods()}
                return box.child("node")["pid"] != before and f"{namespace}/p" in known

            await until(back, "another agent knows the Pod")
        client = await attached(box, namespace, "-i", **way)
        assert client.stdin is not None
        assert client.stdout is not None
        try:
            client.stdin.write(f"line {number}\n".encode())
            assert (
                await asyncio.wait_for(client.stdout.readline(), 30)
                == f"<line {number}>\n".encode()
            )
        finally:
            client.kill()
            await client.wait()
    assert "over" not in box.kubectl("logs", "-n", namespace, "p")


def test_a_container_without_input_says_so(box: Box, namespace: str) -> None:
    script = "n=0; while [ $n -lt 20 ]; do n=$((n+1)); echo tick; sleep 0.1; done"
    spec = {"terminationGracePeriodSeconds": 0, "restartPolicy": "Never"}
    apply(box, namespace, pod("p", script, **spec))
    box.kubectl("wait", "-n", namespace, "pod/p", "--for=condition=Ready", "--timeout=30s")
    done = run(box, namespace, "attach", "p", "-i", feed=b"x\n")
    assert b"takes no input" in done.stderr
    assert b"tick" in done.stdout
    assert done.returncode == 0


def test_exec_has_a_terminal_with_a_name_and_jobs(box: Box, namespace: str) -> None:
    if shutil.which("script") is None:
        pytest.skip("script is not installed")
    apply(box, namespace, pod("p", terminationGracePeriodSeconds=0))
    box.kubectl("wait", "-n", namespace, "pod/p", "--for=condition=Ready", "--timeout=30s")
    line = " ".join(words(box, namespace, "exec", "-it", "p", "--", "bash", "--norc"))
    done = subprocess.run(
        ["script", "-qec", line, "/dev/null"],
        input=b"tty\nset -o | grep monitor\nexit 3\n",
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert b"/dev/pts/" in done.stdout, done.stdout
    assert b"monitor        \ton" in done.stdout, done.stdout
    assert b"job control" not in done.stdout
    assert done.returncode == 3
