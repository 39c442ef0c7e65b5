"""The table of MeshConfig's fields and its schema hold each other."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from fsm.policies.mesh_config.effects import EFFECTS
from fsm.policies.mesh_config.schema import Body


def models(annotation: Any) -> list[type[BaseModel]]:
    parts = [annotation, *getattr(annotation, "__args__", ())]
    return [p for p in parts if isinstance(p, type) and issubclass(p, BaseModel)]


def paths(model: type[BaseModel], prefix: str = "") -> list[str]:
    found: list[str] = []
    for name, field in model.model_fields.items():
        inner = models(field.annotation)
        found += paths(inner[0], f"{prefix}{name}.") if inner else [prefix + name]
    return found


def test_every_field_of_the_schema_says_when_it_takes_effect_in_the_same_order() -> None:
    assert [effect.path for effect in EFFECTS] == paths(Body)
    assert all(effect.text for effect in EFFECTS)
