"""The checks of ``fsm verify control-plane``.

What comes in: a client. What goes out: checks of what the control plane is made of: kinds,
Deployment, readiness, root certificate, webhooks, MeshConfig, roots in namespaces, proxies.

Invariant: every check is made, whatever the others say; one that cannot be made is *unknown*.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from fsm.cli import planes
from fsm.cli.errors import Failure
from fsm.cli.verify import Check, Status

if TYPE_CHECKING:
    from fsm.cli.options import Target
    from fsm.kube import KubeClient

CA_NAME = "fsm-ca-bundle"

Look = Callable[["KubeClient", planes.ControlPlane], Awaitable[Check]]


async def verify(target: Target) -> list[Check]:
    """Make the checks.

    Raises:
        Failure: there is no control plane in the namespace.
    """
    async with target.client() as client:
        found = await planes.find(client)
        mine = next((p for p in found if p.namespace == target.fsm_namespace), None)
        if mine is None:
            elsewhere = ", ".join(p.namespace for p in found)
            raise Failure(
                f"no control plane is installed in namespace {target.fsm_namespace}",
                hint=f"there is one in {elsewhere}; name it with -N" if elsewhere else "`fsm up`",
            )
        return [await _safely(look, client, mine) for look in LOOKS]


async def _safely(look: Look, client: KubeClient, plane: planes.ControlPlane) -> Check:
    from fsm.kube import ApiError

    try:
        return await look(client, plane)
    except (Failure, ApiError) as error:
        return Check(what_of(look), Status.UNKNOWN, str(error))


def what_of(look: Look) -> str:
    """Return what a look is about: the first line of its description."""
    return (look.__doc__ or "").splitlines()[0].rstrip(".")


def _check(look: Look, problem: str, suggestion: str = "") -> Check:
    what = what_of(look)
    return Check(what, Status.FAILURE, problem, suggestion) if problem else Check(what, _OK)


_OK = Status.SUCCESS


async def _kinds(client: KubeClient, plane: planes.ControlPlane) -> Check:
    """The API serves the mesh's kinds."""
    from fsm.kube.resources import CRDS
    from fsm.manifests import crds

    served = {
        crd["metadata"]["name"]
        for crd in (await client.list(CRDS)).items
        for c in (crd.get("status") or {}).get("conditions") or []
        if c.get("type") == "Established" and c.get("status") == "True"
    }
    missing = [c["metadata"]["name"] for c in crds() if c["metadata"]["name"] not in served]
    problem = f"not served: {', '.join(missing)}" if missing else ""
    return _check(_kinds, problem, "`fsm mesh upgrade` brings them")


async def _deployment(client: KubeClient, plane: planes.ControlPlane) -> Check:
    """Its Deployment is ready."""
    from fsm.cli.apply import explain_pods

    if plane.ready:
        return _check(_deployment, "")
    why = await explain_pods(client, plane.namespace)
    return _check(
        _deployment,
        f"it is not ready{': ' + why if why else ''}",
        f"see `kubectl logs -n {plane.namespace} deploy/fsm-controller`",
    )


async def _health(client: KubeClient, plane: planes.ControlPlane) -> Check:
    """It says that it can serve proxies."""
    http = await planes.controller_http(client, plane.namespace)
    try:
        answer = await http.get("/health/ready")
    finally:
        await http.close()
    words = answer.body.decode(errors="replace").strip()
    return _check(_health, "" if answer.status == 200 else f"{answer.status}: {words}")


async def _root(client: KubeClient, plane: planes.ControlPlane) -> Check:
    """Its root certificate is there."""
    from fsm.kube import NotFound
    from fsm.kube.resources import SECRETS

    try:
        await client.get(SECRETS, CA_NAME, plane.namespace)
    except NotFound:
        return _check(
            _root, f"Secret {plane.namespace}/{CA_NAME} is gone", "restart the control plane"
        )
    return _check(_root, "")


async def _webhooks(client: KubeClient, plane: planes.ControlPlane) -> Check:
    """Its webhooks are registered, with the CA bundle."""
    from fsm.kube import NotFound
    from fsm.kube.resources import MUTATINGWEBHOOKS, VALIDATINGWEBHOOKS

    problems = []
    for resource, name in (
        (MUTATINGWEBHOOKS, f"fsm-webhook-{plane.mesh}"),
        (VALIDATINGWEBHOOKS, f"fsm-validator-mesh-{plane.mesh}"),
    ):
        try:
            found = await client.get(resource, name)
        except NotFound:
            problems.append(f"{resource.kind} {name} is gone")
            continue
        hooks = found.get("webhooks") or []
        if not all((hook.get("clientConfig") or {}).get("caBundle") for hook in hooks):
            problems.append(f"{resource.kind} {name} has no CA bundle")
    return _check(_webhooks, "; ".join(problems), "`fsm mesh upgrade` restores them")


async def _mesh_config(client: KubeClient, plane: planes.ControlPlane) -> Check:
    """MeshConfig is there and in effect."""
    from fsm.cli.status import object_status
    from fsm.kube import NotFound
    from fsm.kube.resources import MESHCONFIGS
    from fsm.settings import mesh_config_name

    name = mesh_config_name(plane.namespace)
    try:
        found = await client.get(MESHCONFIGS, name, plane.namespace)
    except NotFound:
        return _check(
            _mesh_config,
            f"MeshConfig {plane.namespace}/{name} is gone",
            "restart the control plane: it makes one from the preset",
        )
    words = object_status(found)
    return _check(_mesh_config, words if words.startswith("refused") else "")


async def _roots(client: KubeClient, plane: planes.ControlPlane) -> Check:
    """Every namespace of the mesh has the public roots."""
    from fsm.controllers import namespaces
    from fsm.kube.resources import CONFIGMAPS

    having = {
        c["metadata"]["namespace"]
        for c in (await client.list(CONFIGMAPS)).items
        if c["metadata"]["name"] == CA_NAME
    }
    members = [n.name for n in await namespaces.list_(client, plane.mesh)]
    missing = [name for name in members if name not in having]
    return _check(_roots, f"not in {', '.join(missing)}" if missing else "")


async def _proxies(client: KubeClient, plane: planes.ControlPlane) -> Check:
    """Every sidecar is connected and has applied its configuration."""
    from fsm.cli.proxy import state

    found = await planes.proxies(client, plane.namespace)
    wrong = [
        f"{p['namespace']}/{p['pod']}: {state(p) if p.get('connected') else 'not connected'}"
        for p in found
        if not p.get("connected") or state(p) != "applied"
    ]
    return _check(_proxies, "; ".join(wrong), "`fsm proxy list` shows them")


LOOKS: tuple[Look, ...] = (
    *(_kinds, _deployment, _health, _root, _webhooks, _mesh_config, _roots, _proxies),
)
