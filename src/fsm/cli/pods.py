"""Finding the Pod that somebody means, and saying what there is when it is not there.

What comes in: ``NAME``, ``NAMESPACE/NAME``, ``deploy/NAME``, ``NAMESPACE/deploy/NAME`` (or ``sts``,
``rs``, ``job``). What goes out: the Pod as the API has it; of a workload's Pods a ready one.

Invariant: what is not found is told together with what is there.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fsm.cli.errors import ExitCode, Failure

if TYPE_CHECKING:
    from fsm.kube import KubeClient

Object = dict[str, Any]

SIDECAR = "sidecar"
NAMES_MAX = 8
"""How many names a hint lists."""

WORKLOADS = {
    **dict.fromkeys(("deploy", "deployment", "deployments"), "deployments"),
    **dict.fromkeys(("sts", "statefulset", "statefulsets"), "statefulsets"),
    **dict.fromkeys(("rs", "replicaset", "replicasets"), "replicasets"),
    **dict.fromkeys(("job", "jobs"), "jobs"),
}


def there_are(what: str, names: Iterable[str], wanted: str = "") -> str:
    """Return a hint that lists names, the ones most like ``wanted`` first."""
    known = sorted(set(names))
    if not known:
        return f"there are no {what}"
    near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.5) if wanted else []
    ordered = [*near, *(name for name in known if name not in near)]
    more = f" and {len(ordered) - NAMES_MAX} more" if len(ordered) > NAMES_MAX else ""
    return f"{what}: {', '.join(ordered[:NAMES_MAX])}{more}"


async def find(client: KubeClient, text: str, namespace: str) -> Object:
    """Return the Pod that ``text`` means, in ``namespace`` unless it names another.

    Raises:
        Failure: there is no such Pod, or ``text`` is no name of one.
    """
    parts = text.removeprefix("pod/").removeprefix("pods/").split("/")
    if not all(parts) or len(parts) > 3:
        raise Failure(
            f"{text!r} does not name a Pod",
            hint="write NAME, NAMESPACE/NAME or deploy/NAME",
            code=ExitCode.USAGE,
        )
    if len(parts) == 3 or (len(parts) == 2 and parts[0] not in WORKLOADS):
        namespace, parts = parts[0], parts[1:]
    if len(parts) == 2:
        if parts[0] not in WORKLOADS:
            raise Failure(
                f"{parts[0]!r} is no kind of workload",
                hint=f"there are {', '.join(sorted(set(WORKLOADS.values())))}",
                code=ExitCode.USAGE,
            )
        return await _of_workload(client, WORKLOADS[parts[0]], parts[1], namespace)
    return await _named(client, parts[0], namespace)


async def check_namespace(client: KubeClient, namespace: str) -> Object:
    """Return a Namespace.

    Raises:
        Failure: there is none of that name.
    """
    from fsm.kube import NotFound
    from fsm.kube.resources import NAMESPACES

    try:
        return await client.get(NAMESPACES, namespace)
    except NotFound as error:
        names = [n["metadata"]["name"] for n in (await client.list(NAMESPACES)).items]
        hint = there_are("namespaces", names, namespace)
        raise Failure(f"there is no namespace {namespace}", hint=hint) from error


def has_sidecar(pod: Object) -> bool:
    """Whether a Pod was injected."""
    spec = pod.get("spec", {})
    containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    return any(container.get("name") == SIDECAR for container in containers)


def check_sidecar(pod: Object) -> None:
    """Make sure that a Pod has a sidecar and that it runs.

    Raises:
        Failure: it has none, or it does not run.
    """
    where = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    if not has_sidecar(pod):
        raise Failure(
            f"Pod {where} has no sidecar",
            hint="add its namespace with `fsm namespace add`, then start the Pod anew",
        )
    status = pod.get("status", {})
    states = [
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ]
    running = [s for s in states if s.get("name") == SIDECAR and "running" in s.get("state", {})]
    if not running:
        name, home = pod["metadata"]["name"], pod["metadata"]["namespace"]
        raise Failure(
            f"the sidecar of Pod {where} does not run",
            hint=f"see `kubectl describe pod {name} -n {home}`",
        )


def ready(pod: Object) -> bool:
    """Whether a Pod says that it is ready."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


async def _named(client: KubeClient, name: str, namespace: str) -> Object:
    from fsm.kube import NotFound
    from fsm.kube.resources import PODS

    try:
        return await client.get(PODS, name, namespace)
    except NotFound as error:
        await check_namespace(client, namespace)
        hint = _where("Pods", (await client.list(PODS)).items, name, namespace)
        raise Failure(f"there is no Pod {name} in namespace {namespace}", hint=hint) from error


def _where(what: str, found: Iterable[Object], name: str, namespace: str) -> str:
    """Return a hint: what there is in the namespace, or in which one there is what was meant."""
    names = [(o["metadata"]["namespace"], o["metadata"]["name"]) for o in found]
    here = [known for home, known in names if home == namespace]
    elsewhere = [home for home, known in names if known.startswith(name)]
    if not here and elsewhere:
        return f"name its namespace with -n: one like it is in {elsewhere[0]}"
    return there_are(f"{what} in {namespace}", here, name)


async def _of_workload(client: KubeClient, plural: str, name: str, namespace: str) -> Object:
    from fsm.kube import NotFound
    from fsm.kube.resources import DEPLOYMENTS, JOBS, PODS, REPLICASETS, STATEFULSETS

    resource = {r.plural: r for r in (DEPLOYMENTS, JOBS, REPLICASETS, STATEFULSETS)}[plural]
    try:
        workload = await client.get(resource, name, namespace)
    except NotFound as error:
        await check_namespace(client, namespace)
        hint = _where(f"{resource.kind}s", (await client.list(resource)).items, name, namespace)
        raise Failure(
            f"there is no {resource.kind} {name} in namespace {namespace}", hint=hint
        ) from error
    labels = (workload["spec"].get("selector") or {}).get("matchLabels") or {}
    chosen = ",".join(f"{key}={value}" for key, value in labels.items())
    found = (await client.list(PODS, namespace, labels=chosen)).items if chosen else []
    alive = [p for p in found if "deletionTimestamp" not in p["metadata"]]
    if not alive:
        raise Failure(
            f"{resource.kind} {namespace}/{name} has no Pod",
            hint=f"see `kubectl describe {resource.plural} {name} -n {namespace}`",
        )
    return next((pod for pod in alive if ready(pod)), alive[0])
