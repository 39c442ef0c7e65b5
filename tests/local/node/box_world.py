"""A real box, and the few verbs that its tests speak in."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from fsm.kube import KubeClient
from fsm.standalone.box import lifecycle
from fsm.standalone.box.settings import StandaloneSettings

LIMIT_S = 30.0


def why_not() -> str | None:
    """Say what this machine lacks to open a box, or ``None``."""
    for tool in ("ip", "nft", "nsenter"):
        if shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None:
            return f"`{tool}` is not installed"
    flags = ["-m"] if os.geteuid() == 0 else ["-U", "-r", "-m"]
    tried = subprocess.run(["unshare", *flags, "true"], capture_output=True, text=True, check=False)
    return f"namespaces are not permitted: {tried.stderr.strip()}" if tried.returncode else None


async def until(check: Callable[[], Awaitable[Any]], what: str, limit_s: float = LIMIT_S) -> Any:
    """Wait until ``check`` returns something true; returns that."""
    deadline_s = time.monotonic() + limit_s
    seen: Any = None
    while time.monotonic() < deadline_s:
        try:
            seen = await check()
        except Exception as error:
            seen = error
        else:
            if seen:
                return seen
        await asyncio.sleep(0.05)
    raise AssertionError(f"not within {limit_s:g} s: {what}; seen last: {seen!r}")


@dataclass(frozen=True)
class Box:
    """An open box."""

    settings: StandaloneSettings
    info: lifecycle.BoxInfo

    def client(self) -> KubeClient:
        return KubeClient.from_kubeconfig(self.info.kubeconfig)

    def kubectl(self, *words: str, feed: str | None = None, check: bool = True) -> str:
        done = subprocess.run(
            ["kubectl", f"--kubeconfig={self.info.kubeconfig}", *words],
            input=feed,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}"
        return done.stdout + ("" if check else done.stderr)

    def inside(self, *argv: str) -> str:
        """Run a command in the namespaces of the box."""
        enter = ["nsenter", "-t", str(self.info.pid), "-m", "-p", "-n"]
        if os.geteuid() != 0:
            enter += ["-U", "--preserve-credentials"]
        return subprocess.run(
            [*enter, "--", *argv], capture_output=True, text=True, timeout=20, check=True
        ).stdout

    async def node(self, method: str, path: str, body: Any = None) -> bytes:
        """Ask the node agent."""
        connector = aiohttp.UnixConnector(str(self.settings.state_dir / "node.sock"))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, f"http://node{path}", json=body) as answer,
        ):
            data = await answer.read()
            assert answer.status == 200, f"{answer.status}: {data!r}"
            return data

    async def run(self, namespace: str, pod: str, script: str, container: str = "main") -> Any:
        """Run a shell script in a container; returns exitCode, stdout, stderr."""
        body = {"command": ["sh", "-c", script]}
        path = f"/exec/{namespace}/{pod}/{container}"
        return json.loads(await self.node("POST", path, body))

    async def pods(self) -> list[dict[str, Any]]:
        """List what the agent runs."""
        found: list[dict[str, Any]] = json.loads(await self.node("GET", "/pods"))
        return found

    def child(self, name: str) -> dict[str, Any]:
        """Look up a child of PID 1."""
        found: dict[str, Any] = lifecycle.children_status(self.settings)[name]
        return found


def open_box(state_dir: Path, **changes: Any) -> Box:
    settings = StandaloneSettings.default(state_dir=state_dir, api_port=0, **changes)
    # Tests that are killed must leave no box behind: it lives as long as this process.
    return Box(settings, asyncio.run(lifecycle.up(settings, lifeline=_lifeline()[0])))


@functools.cache
def _lifeline() -> tuple[int, int]:
    return os.pipe()


def pod(name: str, script: str = "", **spec: Any) -> dict[str, Any]:
    """Write a Pod with one container ``main`` that runs a shell script (or idles)."""
    container = {"name": "main", "image": "alpine", "command": ["sh", "-c", script or IDLE]}
    container |= spec.pop("container", {})
    labels = spec.pop("labels", {"app": name})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [container], **spec},
    }


def web(name: str, text: str, **spec: Any) -> dict[str, Any]:
    """Write a Pod that answers HTTP on 8080 with its name."""
    container = {
        "image": "python",
        "command": [sys.executable, "-c", SERVER, text],
        "ports": [{"containerPort": 8080, "name": "http"}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
    }
    return pod(name, container=container | spec.pop("container", {}), **spec)


def service(name: str, selector: dict[str, str], **spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": selector, "ports": ports, **spec},
    }


def apply(box: Box, namespace: str, *objects: dict[str, Any]) -> None:
    text = yaml.safe_dump_all(objects)
    box.kubectl("apply", "-n", namespace, "-f", "-", feed=text)


IDLE = "exec sleep 100000"
SERVER = """
import http.server, sys
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        text = sys.argv[1].encode()
        self.send_response(200); self.send_header("Content-Length", str(len(text)))
        self.end_headers(); self.wfile.write(text)
    def log_message(self, *args): print("request", self.path, flush=True)
http.server.ThreadingHTTPServer(("", 8080), H).serve_forever()
"""
