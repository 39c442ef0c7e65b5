"""Puts the applications of the bookstore on, finds their Pods, and takes them off again.

What comes in: the manifests of the package ``fsm_bookstore``, a client. What goes out: namespaces
in the mesh, Pods that are ready, and afterwards nothing.

Invariants: only namespaces that carry the demo's own label are ever removed; the manifests are
applied as they are, but for the pause between two visits, which the demo makes shorter.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING, Any

from fsm.cli import apply
from fsm.cli.errors import ExitCode, Failure

if TYPE_CHECKING:
    from fsm.kube import KubeClient

NAMESPACES = ("bookstore", "bookbuyer", "bookthief", "bookwarehouse")
OUTSIDE = "stranger"
"""A namespace that the mesh does not know."""

OWNER_LABEL, OWNER = "app.kubernetes.io/managed-by", "fsm-demo"

INTERVAL_VARIABLE = "SHOP_INTERVAL_MS"
INTERVAL_MS = 25
"""Pause between two visits during the demo, in milliseconds; the manifests say 1000."""

POD_TIMEOUT_S = 30.0
REMOVAL_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class PodRef:
    """A Pod that answers for an application."""

    namespace: str
    name: str
    ip: str


def manifests() -> Traversable:
    """Return the folder of the bookstore's manifests.

    Raises:
        Failure: the example is not installed.
    """
    try:
        return resources.files("fsm_bookstore") / "manifests"
    except ModuleNotFoundError as error:
        raise Failure(
            "the bookstore example (package fsm_bookstore) is not installed",
            hint="install fsm with `make build`, or as a wheel",
        ) from error


def load(*paths: str) -> list[dict[str, Any]]:
    """Return the objects in the files and folders below ``manifests()``, in order."""
    import yaml

    found: list[dict[str, Any]] = []
    for path in paths:
        entry = manifests().joinpath(path)
        files = [entry] if entry.is_file() else sorted(entry.iterdir(), key=lambda f: f.name)
        for file in files:
            if file.name.endswith(".yaml"):
                found += [doc for doc in yaml.safe_load_all(file.read_text("utf-8")) if doc]
    return found


def text(path: str) -> list[str]:
    """Return the lines of a manifest that say something: no comments, no document marks."""
    lines = manifests().joinpath(path).read_text("utf-8").splitlines()
    return [ln for ln in lines if ln.strip() and not ln.lstrip().startswith("#") and ln != "---"]


def hurried(objects: Iterable[dict[str, Any]], interval_ms: int) -> list[dict[str, Any]]:
    """Set the pause between two visits in the Deployments that have one."""
    changed = list(objects)
    for obj in changed:
        if obj["kind"] != "Deployment":
            continue
        for container in obj["spec"]["template"]["spec"]["containers"]:
            for variable in container.get("env", []):
                if variable["name"] == INTERVAL_VARIABLE:
                    variable["value"] = str(interval_ms)
    return changed


async def make_namespaces(client: KubeClient, mesh: str) -> None:
    """Create the four namespaces in the mesh, and one outside of it.

    Raises:
        Failure: one of them is there already, and is not of an earlier demo.
    """
    from fsm.controllers import namespaces
    from fsm.kube import NotFound
    from fsm.kube.resources import NAMESPACES as KIND

    stale = []
    for name in (*NAMESPACES, OUTSIDE):
        try:
            found = await client.get(KIND, name)
        except NotFound:
            continue
        if (found["metadata"].get("labels") or {}).get(OWNER_LABEL) != OWNER:
            raise Failure(
                f"namespace {name} exists already, and is not of an earlier demo",
                hint=f"rename or delete it first (`kubectl delete namespace {name}`), or run the "
                "demo in a box of its own: `FSM_HOME=$(mktemp -d) fsm demo`",
            )
        stale.append(name)
    if stale:
        await remove_namespaces(client)
    for name in (*NAMESPACES, OUTSIDE):
        await client.create(KIND, {"metadata": {"name": name, "labels": {OWNER_LABEL: OWNER}}})
    for name in NAMESPACES:
        await namespaces.add(client, name, mesh)


async def remove_namespaces(client: KubeClient) -> None:
    """Delete the demo's namespaces and wait until they are gone.

    Raises:
        Failure: they are still there after ``REMOVAL_TIMEOUT_S``.
    """
    from fsm.kube import Conflict, NotFound
    from fsm.kube.resources import NAMESPACES as KIND

    deadline = time.monotonic() + REMOVAL_TIMEOUT_S
    asked: set[str] = set()
    while True:
        left = (await client.list(KIND, labels=f"{OWNER_LABEL}={OWNER}")).items
        if not left:
            return
        for name in (n["metadata"]["name"] for n in left):
            if name not in asked:
                asked.add(name)
                try:
                    await client.delete(KIND, name)
                except (NotFound, Conflict):
                    continue
        if time.monotonic() > deadline:
            names = ", ".join(n["metadata"]["name"] for n in left)
            raise Failure(f"still being deleted: namespace {names}", code=ExitCode.TIMEOUT)
        await asyncio.sleep(apply.POLL_S)


async def ready_pod(client: KubeClient, namespace: str, app: str) -> PodRef:
    """Wait for a ready Pod with the label ``app`` and return it.

    Raises:
        Failure: none after ``POD_TIMEOUT_S``; tells what the Pods say.
    """
    from fsm.kube.resources import PODS

    deadline = time.monotonic() + POD_TIMEOUT_S
    while True:
        for pod in (await client.list(PODS, namespace, labels=f"app={app}")).items:
            status = pod.get("status", {})
            conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
            gone = "deletionTimestamp" in pod["metadata"]
            if conditions.get("Ready") == "True" and status.get("podIP") and not gone:
                return PodRef(namespace, pod["metadata"]["name"], status["podIP"])
        if time.monotonic() > deadline:
            why = await apply.explain_pods(client, namespace)
            raise Failure(
                f"no Pod of {namespace}/{app} is ready after {POD_TIMEOUT_S:g} s"
                + (f": {why}" if why else ""),
                hint=f"see `kubectl describe pods -n {namespace}`",
                code=ExitCode.TIMEOUT,
            )
        await asyncio.sleep(apply.POLL_S)
