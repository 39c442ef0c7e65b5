"""Manifests that an installation applies, as data.

In: the YAML files beside this module. Out: objects, ready for the API. ``crds`` are the kinds that
the mesh brings; ``fsm.manifests.install`` renders the control plane itself. Invariant: nothing
here talks to an API.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import yaml

from fsm.policies.base import OLDER_GROUPS


def crds() -> list[dict[str, Any]]:
    """Return the CustomResourceDefinitions of the mesh, in order of name.

    Kinds whose group had another name in the older generation have a definition under either.
    """
    folder = files(__package__).joinpath("crds")
    documents = [
        yaml.safe_load(entry.read_text(encoding="utf-8"))
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    ]
    # Aliases make versions share their schema in memory too; callers may change what they get.
    separate = [json.loads(json.dumps(document)) for document in documents]
    separate += [_older(crd, older) for crd in separate for older in _older_groups(crd)]
    return sorted(separate, key=lambda crd: str(crd["metadata"]["name"]))


def _older_groups(crd: dict[str, Any]) -> list[str]:
    older = OLDER_GROUPS.get(crd["spec"]["group"])
    return [older] if older else []


def _older(crd: dict[str, Any], group: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(crd))
    found["metadata"]["name"] = f"{found['spec']['names']['plural']}.{group}"
    found["spec"]["group"] = group
    # Whoever types a short name, or all of the mesh's kinds, means the current group.
    for field in ("shortNames", "categories"):
        found["spec"]["names"].pop(field, None)
    return found
