"""Subresources that are a view or an action: scale, binding, eviction.

What comes in: requests for NAME/scale, NAME/binding and NAME/eviction. What goes out: a ``Scale``
that stands for part of a workload, or the effect on a Pod.

Invariants: a scale is never stored: writing it writes ``spec.replicas`` of its workload (or the
path that a CRD names), with the same checks as any update.
Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/deployment-v1/#update-replace-scale-of-the-specified-deployment
and https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from fsm.standalone.apiserver import bodies, patch, shapes
from fsm.standalone.apiserver.bodies import json_response
from fsm.standalone.apiserver.calls import Call
from fsm.standalone.apiserver.decoding import version_of
from fsm.standalone.apiserver.errors import (
    Cause,
    StatusError,
    bad_request,
    conflict,
    invalid,
)
from fsm.standalone.apiserver.lifecycle import Lifecycle
from fsm.standalone.apiserver.metadata import now
from fsm.standalone.apiserver.store import KubeObject, copy_object

Json = dict[str, Any]


async def handle(lifecycle: Lifecycle, call: Call, request: web.Request) -> web.Response:
    """Answer GET, PUT and PATCH of a scale.

    Raises:
        StatusError: no such workload, or the scale makes no sense.
    """
    call.subresource = ""
    paths = _paths(call)
    obj = lifecycle.read(call)
    if request.method == "GET":
        return json_response(scale_of(obj, paths))
    if request.method not in ("PUT", "PATCH"):
        raise StatusError(405, "MethodNotAllowed", f"{request.method} is not allowed on a scale")
    body = bodies.decode_body(await bodies.read_body(request), request.content_type)

    def change(current: KubeObject) -> KubeObject:
        wanted = _wanted(scale_of(current, paths), body, request)
        count = (wanted.get("spec") or {}).get("replicas") or 0
        if count < 0:
            cause = Cause("spec.replicas", f"Invalid value: {count}: must be at least 0")
            raise invalid("autoscaling", "Scale", call.name, [cause])
        given = (wanted.get("metadata") or {}).get("resourceVersion")
        if given and given != current["metadata"]["resourceVersion"]:
            raise conflict(
                call.resource.group, call.resource.plural, call.name, "the object has been modified"
            )
        target: Json = current
        *parents, last = paths[0]
        for step in parents:
            target = target.setdefault(step, {})
        target[last] = count
        return current

    return json_response(scale_of(await lifecycle.update(call, change), paths), 200, call.warnings)


def _wanted(current: Json, body: Any, request: web.Request) -> Json:
    kind = request.content_type
    if request.method == "PUT":
        wanted = body
    elif kind == "application/json-patch+json":
        wanted = patch.json_patch(current, body)
    elif kind in ("application/merge-patch+json", "application/strategic-merge-patch+json"):
        wanted = patch.merge_patch(current, body)
    else:
        raise bad_request(f"a scale cannot be patched by {kind}")
    if not isinstance(wanted, dict):
        raise bad_request("the body must be a Scale object")
    cleaned, problems = shapes.check("Scale", wanted)
    if problems.wrong:
        raise bad_request(f"Scale: {'; '.join(problems.wrong)}")
    return cleaned


def _paths(call: Call) -> tuple[list[str], list[str], list[str]]:
    """Return where replicas wanted, replicas there, and the selector are."""
    version = version_of(call)
    if version is None or version.scale is None:
        return ["spec", "replicas"], ["status", "replicas"], []
    return (
        version.scale["specReplicasPath"].strip(".").split("."),
        version.scale["statusReplicasPath"].strip(".").split("."),
        [part for part in (version.scale.get("labelSelectorPath") or "").split(".") if part],
    )


def _dig(obj: Json, path: list[str]) -> Any:
    value: Any = obj
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def scale_of(obj: KubeObject, paths: tuple[list[str], list[str], list[str]]) -> KubeObject:
    """Return the scale that stands for a workload."""
    meta = obj["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    if paths[2]:
        selector = _dig(obj, paths[2]) or ""
    else:
        labels = ((obj.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
        selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: meta[key] for key in kept if key in meta},
        "spec": {"replicas": _dig(obj, paths[0]) or 0},
        "status": {"replicas": _dig(obj, paths[1]) or 0, "selector": selector},
    }


async def pod_action(lifecycle: Lifecycle, call: Call, request: web.Request) -> web.Response:
    """Bind a Pod to a node, or evict it.

    Raises:
        StatusError: it is bound to another node already, or the body is malformed.
    """
    if request.method != "POST":
        raise StatusError(405, "MethodNotAllowed", f"{call.subresource} can only be created")
    body = await bodies.read_object(request) or {}
    if not isinstance(body, dict):
        raise bad_request("the body must be an object")
    action, call.subresource = call.subresource, ""
    if action == "eviction":
        options = body.get("deleteOptions") or {}
        if not isinstance(options, dict):
            raise bad_request("deleteOptions must be an object")
        await lifecycle.delete(call, options)
    else:
        await _bind(lifecycle, call, body)
    done = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
    return json_response(done, 201)


async def _bind(lifecycle: Lifecycle, call: Call, body: Json) -> None:
    target = body.get("target")
    node = target.get("name") if isinstance(target, dict) else None
    if not isinstance(node, str) or not node:
        raise bad_request("a Binding needs target.name, the node")

    def change(current: KubeObject) -> KubeObject:
        if current["spec"].get("nodeName"):
            raise conflict(
                "", "pods", call.name, f"pod is already assigned to {current['spec']['nodeName']}"
            )
        bound = copy_object(current)
        bound["spec"]["nodeName"] = node
        return bound

    await lifecycle.update(call, change)
    # A separate write, because conditions are status.
    call.subresource = "status"
    await lifecycle.update(call, _scheduled)


def _scheduled(pod: KubeObject) -> KubeObject:
    status = pod.setdefault("status", {})
    others = [c for c in status.get("conditions") or [] if c.get("type") != "PodScheduled"]
    done = {"type": "PodScheduled", "status": "True", "lastTransitionTime": now()}
    status["conditions"] = [*others, done]
    return pod
