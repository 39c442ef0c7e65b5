"""Fits the rendered control plane to the values of an installation.

What comes in: the objects of ``fsm.manifests.install`` and a ``chart.Plan``. What goes out: the
same objects with the preset of MeshConfig, images and sizes that the values want; the values
themselves are kept in the preset's ConfigMap, so that an upgrade begins with them.

Invariant: without values the objects are exactly the rendered ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fsm.cli import values

if TYPE_CHECKING:
    from fsm.cli.chart import Plan

Object = dict[str, Any]

VALUES_KEY = "values.json"
"""Key of the preset's ConfigMap with the values that users gave."""


def customise(objects: list[Object], plan: Plan) -> list[Object]:
    """Return the objects as the plan wants them."""
    return [_one(json.loads(json.dumps(obj)), plan) for obj in objects]


def kept_values(preset: Object) -> values.Tree:
    """Return the values that were kept in the preset's ConfigMap."""
    try:
        found = json.loads((preset.get("data") or {}).get(VALUES_KEY, "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _one(obj: Object, plan: Plan) -> Object:
    from fsm.manifests.install.preset import KEY, NAME

    if obj["kind"] == "ConfigMap" and obj["metadata"]["name"] == NAME:
        if plan.spec:
            spec = values.merged(json.loads(obj["data"][KEY]), plan.spec)
            obj["data"][KEY] = json.dumps(spec, indent=2, sort_keys=True) + "\n"
        if plan.given:
            obj["data"][VALUES_KEY] = json.dumps(plan.given, indent=2, sort_keys=True) + "\n"
    if obj["kind"] == "Deployment":
        _workload(obj["spec"]["template"]["spec"], plan)
    return obj


def _workload(pod: Object, plan: Plan) -> None:
    parts = plan.parts
    for container in pod["containers"]:
        container["image"] = _image(container["image"], parts)
        if policy := parts.get("pull_policy"):
            container["imagePullPolicy"] = policy
        if isinstance(parts.get("resources"), dict):
            container["resources"] = values.merged(container["resources"], parts["resources"])
        container["env"] += list(_environment(plan))
    if secrets := parts.get("pull_secrets"):
        pod["imagePullSecrets"] = secrets


def _environment(plan: Plan) -> Iterator[dict[str, str]]:
    from fsm import __version__

    parts = plan.parts
    if "registry" in parts or "tag" in parts:
        for name, image in (
            ("FSM_SIDECAR_IMAGE", f"flomesh/pipy:{__version__}"),
            ("FSM_INIT_IMAGE", f"flomesh/fsm-sidecar-init:{__version__}"),
        ):
            yield {"name": name, "value": _image(image, parts)}
    if policy := parts.get("pull_policy"):
        yield {"name": "FSM_IMAGE_PULL_POLICY", "value": policy}
    if not plan.settings.require_target_namespace:
        yield {"name": "FSM_REQUIRE_TARGET_NAMESPACE", "value": "false"}


def _image(image: str, parts: dict[str, Any]) -> str:
    registry, _, rest = image.rpartition("/")
    name, _, tag = rest.partition(":")
    return f"{parts.get('registry', registry)}/{name}:{parts.get('tag', tag)}"
