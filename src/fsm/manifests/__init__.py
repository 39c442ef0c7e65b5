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


def crds() -> list[dict[str, Any]]:
    """Return the CustomResourceDefinitions of the mesh, in order of name."""
    folder = files(__package__).joinpath("crds")
    documents = [
        yaml.safe_load(entry.read_text(encoding="utf-8"))
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    ]
    # Aliases make versions share their schema in memory too; callers may change what they get.
    separate = [json.loads(json.dumps(document)) for document in documents]
    return sorted(separate, key=lambda crd: str(crd["metadata"]["name"]))
