"""A person at a terminal with a mesh of their own: `fsm`, `kubectl`, and a look into the box.

What comes in: a directory for everything (state, home). What goes out: completed commands. The
state directory is private, the API's port is free, so that meshes run side by side.

Invariant: `close` leaves nothing, whatever happened before, or says what it left.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from meshworld.waiting import until

ROOT = Path(__file__).resolve().parents[5]
BIN = Path(sys.executable).parent
COMMAND_S = 90.0
"""Longest run of one command, in seconds."""

Object = dict[str, Any]
Done = subprocess.CompletedProcess[str]


@dataclass
class Shell:
    """Types commands. ``program`` is how `fsm` is started, ``before`` stands before all of it."""

    home: Path
    program: Sequence[str] = field(default_factory=lambda: (str(BIN / "fsm"),))
    before: Sequence[str] = ()
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        return self.home / "state"

    @property
    def env(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if k not in ("KUBECONFIG", "PYTHONPATH")}
        path = f"{BIN}:{kept.get('PATH', '')}:/usr/sbin:/sbin"
        return {
            **kept,
            "PATH": path,
            "HOME": str(self.home),
            "FSM_HOME": str(self.state),
            **self.extra,
        }

    def type(self, *argv: str, given: str | None = None, fails: bool = False) -> Done:
        """Run a command; it must succeed, or, when ``fails`` is set, it must not."""
        done = subprocess.run(
            [*self.before, *argv],
            input=given,
            env=self.env,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_S,
        )
        told = f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        assert (done.returncode != 0) == fails, told
        assert "Traceback" not in done.stderr, told
        return done

    def fsm(self, *argv: str, fails: bool = False) -> Done:
        return self.type(*self.program, *argv, fails=fails)

    def kubectl(self, *argv: str, given: str | None = None, fails: bool = False) -> Done:
        config = ("--kubeconfig", str(self.state / "kubeconfig"))
        return self.type("kubectl", *config, *argv, given=given, fails=fails)

    def up(self) -> None:
        self.fsm("up", "--port", "0")

    def close(self) -> None:
        """End the box by hook or by crook."""
        pid = self.pid()
        subprocess.run(
            [*self.before, *self.program, "down", "--purge"],
            env=self.env,
            cwd="/",
            capture_output=True,
            check=False,
            timeout=COMMAND_S,
        )
        if pid is not None and Path(f"/proc/{pid}").exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)

    def pid(self) -> int | None:
        """The box's PID 1 as the host sees it, while there is one."""
        try:
            record = json.loads((self.state / "box.json").read_text())
            pid, ticks = int(record["pid"]), int(record["start_ticks"])
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError, KeyError):
            return None
        return pid if int(stat[19]) == ticks else None

    def status(self) -> Any:
        """What `fsm status` says, whatever it thinks of it."""
        done = subprocess.run(
            [*self.before, *self.program, "status", "-o", "json"],
            env=self.env,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_S,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def apply(self, *objects: Object | str, fails: bool = False) -> Done:
        return self.kubectl("apply", "-f", "-", given=documents(*objects), fails=fails)

    def get(self, kind: str, name: str, namespace: str) -> Any:
        return json.loads(self.kubectl("get", kind, name, "-n", namespace, "-o", "json").stdout)

    def pods(self, namespace: str, app: str) -> list[Any]:
        """The Pods of an application that are not being deleted."""
        done = self.kubectl("get", "pods", "-n", namespace, "-l", f"app={app}", "-o", "json")
        items = json.loads(done.stdout)["items"]
        return [p for p in items if "deletionTimestamp" not in p["metadata"]]

    def ready(self, namespace: str, app: str, limit_s: float = 40.0) -> str:
        """Wait until the one Pod of an application is ready; returns its name."""

        def look() -> str:
            (pod,) = self.pods(namespace, app)
            conditions = {c["type"]: c["status"] for c in pod["status"].get("conditions", [])}
            return str(pod["metadata"]["name"]) if conditions.get("Ready") == "True" else ""

        try:
            return until(look, f"{namespace}/{app} is ready", limit_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.explain(namespace, app)}") from None

    def explain(self, namespace: str, app: str) -> str:
        """Statuses and last log lines of an application's Pods, and of its ReplicaSets."""
        parts = []
        for pod in self.pods(namespace, app):
            parts.append(yaml.safe_dump({pod["metadata"]["name"]: pod["status"]}))
            for log in sorted((self.state / "pods" / pod["metadata"]["uid"]).glob("*.log")):
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-6:])
                parts.append(f"--- {log.name}\n{tail}")
        if not parts:
            chosen = ("-n", namespace, "-l", f"app={app}")
            parts.append(self.kubectl("get", "rs,pods", *chosen, "-o", "yaml").stdout)
        agent = (self.state / "log" / "node.log").read_text(errors="replace").splitlines()
        return "\n".join([*parts, "--- node.log", *agent[-10:]])

    def ip(self, namespace: str, app: str) -> str:
        return str(self.pods(namespace, app)[0]["status"]["podIP"])

    def exec(self, namespace: str, pod: str, *argv: str) -> Any:
        """Run a command in the first container of a Pod: exitCode, stdout, stderr."""
        wire = http.client.HTTPConnection("node", timeout=30)
        with socket.socket(socket.AF_UNIX) as wire.sock:
            wire.sock.settimeout(30)
            wire.sock.connect(str(self.state / "node.sock"))
            body = json.dumps({"command": list(argv), "timeoutSeconds": 20})
            wire.request("POST", f"/exec/{namespace}/{pod}/main", body)
            answer = wire.getresponse()
            told = answer.read().decode()
        assert answer.status == 200, told
        return json.loads(told)

    def curl(self, namespace: str, pod: str, url: str, *options: str) -> tuple[int, str]:
        """Run curl in a Pod; returns its exit code and the HTTP status (000: none)."""
        words = ("curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", *options, url)
        outcome = self.exec(namespace, pod, *words)
        return int(outcome["exitCode"]), str(outcome["stdout"])

    def inside(self, *argv: str) -> str:
        """Run a command in the namespaces of the box."""
        enter = ["nsenter", "-t", str(self.pid()), "-m", "-p", "-n"]
        if os.stat(f"/proc/{self.pid()}").st_uid != 0:
            enter += ["-U", "--preserve-credentials"]
        done = subprocess.run(
            [*enter, "--", *argv], capture_output=True, text=True, check=False, timeout=20
        )
        assert done.returncode == 0, f"{argv}: {done.stderr}"
        return done.stdout

    @contextlib.contextmanager
    def forwarded(self, namespace: str, target: str, port: int) -> Iterator[int]:
        """Keep `kubectl port-forward` running; yields the local port that it took."""
        config = ("--kubeconfig", str(self.state / "kubeconfig"))
        process = subprocess.Popen(
            ["kubectl", *config, "port-forward", "-n", namespace, target, f":{port}"],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert "Forwarding from 127.0.0.1:" in line, line + (process.stderr or "").read()
            yield int(line.split("127.0.0.1:")[1].split()[0])
        finally:
            process.terminate()
            process.communicate(timeout=10)


def documents(*objects: Object | str) -> str:
    """Write several objects, or texts of objects, as one YAML stream."""
    texts = [o if isinstance(o, str) else yaml.safe_dump(o) for o in objects]
    return "\n---\n".join(texts)


def namespace(name: str, **labels: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def traffic(shell: Shell, **settings: bool) -> None:
    """Change `spec.traffic` of the MeshConfig, and wait until it is in effect."""
    change = json.dumps({"spec": {"traffic": settings}})
    where = ("meshconfig", "fsm-mesh-config", "-n", "fsm-system")
    shell.kubectl("patch", *where, "--type", "merge", "-p", change)

    def programmed() -> bool:
        found = shell.get("meshconfig", "fsm-mesh-config", "fsm-system")
        conditions = {c["type"]: c for c in found["status"]["conditions"]}
        last = conditions["Programmed"]
        current = last["observedGeneration"] == found["metadata"]["generation"]
        return bool(current and last["status"] == "True")

    until(programmed, f"MeshConfig with {settings} is in effect")


def since(began: float) -> str:
    return f"{time.monotonic() - began:.1f} s"
