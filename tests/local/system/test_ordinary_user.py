"""Everything as an ordinary user: no root, no sudo, one user id, a home directory.

Run as root this becomes `nobody`; run as somebody else it stays that. The user has a Python of the
system's, to which the packages of this one are lent, and a copy of nothing else.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from meshworld import actors, beyond, host, talkers
from meshworld.ledger import Ledger
from meshworld.shell import BIN, ROOT, Shell, namespace, traffic
from meshworld.waiting import until

import fsm

pytestmark = pytest.mark.box

SHOP, LAB = "shop", "lab"


@pytest.fixture(scope="module")
def shell(home: Path) -> Iterator[Shell]:
    """The terminal of somebody who is not root."""
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    before = ()
    if os.geteuid() == 0:
        before = (
            "setpriv",
            f"--reuid={user.pw_uid}",
            f"--regid={user.pw_gid}",
            "--clear-groups",
        )
    program = _lend(home, before, user)
    made = Shell(home, program, before, {"XDG_RUNTIME_DIR": "", "LOGNAME": user.pw_name})
    try:
        yield made
    finally:
        made.close()


def _lend(home: Path, before: tuple[str, ...], user: pwd.struct_passwd) -> tuple[str, ...]:
    """Make an environment that the user may run, with our packages; returns what starts `fsm`."""
    if os.geteuid() != 0:
        return (str(BIN / "fsm"),)
    python = shutil.which("python3", path="/usr/bin:/bin")
    if python is None:
        pytest.skip("there is no Python outside of root's own files")
    made = home / "venv"
    # A copy of none of it: a directory of links costs nothing and is always current.
    done = subprocess.run(
        [python, "-m", "venv", "--without-pip", str(made)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"{python} makes no environments: {done.stderr or done.stdout}")
    (site,) = made.glob("lib/python3*/site-packages")
    packages = [p for p in sys.path if p.endswith("site-packages")]
    links = home / "lib"
    links.mkdir()
    (links / "fsm_bookstore").symlink_to(ROOT / "examples" / "bookstore")
    source = Path(fsm.__file__).resolve().parents[1]
    lines = [str(source), str(links), *packages]
    (site / "lent.pth").write_text("\n".join(lines) + "\n")
    shutil.copy(BIN / "pipy", made / "bin" / "pipy")
    script = made / "bin" / "fsm"
    script.write_text(f"#!{made}/bin/python\nfrom fsm.cli.main import main\nmain()\n")
    script.chmod(0o755)
    command = (str(script),)
    for path in (home, *home.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    tried = subprocess.run(
        [*before, *command, "version", "--version-only"],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={"PATH": os.environ["PATH"], "HOME": str(home)},
    )
    if tried.returncode != 0:
        why = (tried.stderr.strip().splitlines() or ["no message"])[-1]
        pytest.skip(f"no Python that an ordinary user may run has our packages: {why}")
    return command


def test_a_user_runs_a_mesh_that_lets_in_who_may_and_nobody_else(mesh: Shell) -> None:
    pid = mesh.pid()
    assert pid is not None
    assert os.stat(f"/proc/{pid}").st_uid != 0
    traffic(mesh, enablePermissiveTrafficPolicyMode=False)
    mesh.apply(*map(namespace, (SHOP, LAB)))
    mesh.fsm("namespace", "add", SHOP, LAB)
    python = str(Path(mesh.program[0]).with_name("python"))
    rules = [{"kind": "HTTPRouteGroup", "name": "sales", "matches": ["buy"]}]
    objects = [
        actors.routes("sales", SHOP, buy="/buy"),
        actors.target("web", SHOP, "web", rules, (LAB, "buyer")),
        *actors.server("web", SHOP),
        *actors.caller("buyer", LAB, {"web": f"http://web.{SHOP}/buy"}),
        *actors.caller("thief", LAB, {"web": f"http://web.{SHOP}/buy"}),
    ]
    for made in objects:
        if made["kind"] == "Deployment":
            (container,) = made["spec"]["template"]["spec"]["containers"]
            container["command"][0] = python
    mesh.apply(*objects)
    for app in ("buyer", "thief"):
        mesh.ready(LAB, app)
    buyer, thief = Ledger.of(mesh, LAB, "buyer"), Ledger.of(mesh, LAB, "thief")
    moment = buyer.flows("web", 0.0)
    thief.many("web", moment, 10)
    assert "200" not in thief.summary("web")
    assert not mesh.status()["problems"]
    (pod,) = mesh.pods(LAB, "buyer")
    told = mesh.fsm("proxy", "get", "stats", "-n", LAB, pod["metadata"]["name"]).stdout
    assert told.strip()


def test_a_user_has_the_way_out_and_terminals_too(mesh: Shell) -> None:
    assert mesh.status()["box"]["notes"] == []
    mesh.apply(namespace("apart"))
    python = str(Path(mesh.program[0]).with_name("python"))
    client = actors.client("client", "apart")
    mesh.apply(*client)
    pod = mesh.ready("apart", "client")
    with beyond.datagrams() as (address, port):
        words = (python, "-c", talkers.ASK, address, str(port), "4", "1", "hello")

        def answered() -> bool:
            outcome = mesh.exec("apart", pod, *words)
            return bool(outcome["stdout"].strip() == '[["beyond:hello", true]]')

        until(answered, "a datagram to be answered from beyond")
    run = ("run", "t", "-n", "apart", "--rm", "-i", "--quiet", "--image=alpine", "--restart=Never")
    done = mesh.kubectl(*run, "--", "sh", "-c", "cat; exit 3", given="typed\n", fails=True)
    assert done.stdout == "typed\n"
    spec = (
        "--overrides",
        '{"spec": {"containers": [{"name": "t", "image": "alpine", "tty": true,'
        ' "stdin": true, "stdinOnce": true, "command": ["sh", "-c", "test -t 0 && tty"]}]}}',
    )
    said = mesh.kubectl(*run, *spec).stdout
    assert said.startswith("/dev/pts/"), said


@pytest.mark.timeout(240)
def test_the_demo_holds_for_a_user(mesh: Shell) -> None:
    done = mesh.fsm("demo", "--fast")
    assert "Every claim held" in done.stdout
    assert "✗" not in done.stdout


def test_down_leaves_the_machine_as_it_was(mesh: Shell) -> None:
    pid = mesh.pid()
    assert pid is not None
    family = host.family(pid)
    assert len(family) >= 11
    began = time.monotonic()
    mesh.fsm("down", "--purge")
    until(lambda: not host.alive(family), "no process of the box is left", 10)
    assert time.monotonic() - began < 30
    assert {path.name for path in mesh.state.iterdir()} <= {"lock"}
