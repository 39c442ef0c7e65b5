"""What passes a Pod's sidecar by: wanted now, made into the Pod's rules, and the difference.

In: MeshConfig, annotations of a Pod and its namespace; the annotation in which the injector noted
what it made a Pod with. Out: ``Exclusions`` and ``Injected``. Invariants: pure; a Pod's annotation
goes before its namespace's; lists of annotations and of MeshConfig add up; what cannot be read is
passed over here (the webhook has refused it, or ``fsm.compile.build`` reports it).

The redirection rules of a Pod are made once, when it starts. What is excluded later is carried past
by its sidecar, see ``docs/decisions/005-exclusions-while-pods-run.md``.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from typing import Any

from fsm.model.mesh_config import MeshConfig

PREFIXES = ("flomesh.io/", "openservicemesh.io/")
ANNOTATIONS = {
    "outbound_ports": "outbound-port-exclusion-list",
    "inbound_ports": "inbound-port-exclusion-list",
    "outbound_ranges": "outbound-ip-range-exclusion-list",
    "outbound_included": "outbound-ip-range-inclusion-list",
}
"""Annotations, without their prefix, by the field of ``Exclusions`` that they add to."""

_PORT_MAX = 65_535
_KNOWN_TEXTS = 1024  # LIMIT: different annotations that are kept parsed; most Pods have the same.


@dataclass(frozen=True, slots=True)
class Exclusions:
    """What passes a sidecar by; each list is in order and without repetition."""

    outbound_ports: tuple[int, ...] = ()
    inbound_ports: tuple[int, ...] = ()
    outbound_ranges: tuple[str, ...] = ()
    outbound_included: tuple[str, ...] = ()
    """If not empty, every destination outside of these."""
    interfaces: tuple[str, ...] = ()

    def without(self, other: Exclusions) -> Exclusions:
        """Return what this excludes and the other does not."""
        kept: dict[str, Any] = {
            f.name: tuple(x for x in getattr(self, f.name) if x not in getattr(other, f.name))
            for f in fields(self)
        }
        # Not a list of what is excluded: as a whole it is another one, or the same.
        same = self.outbound_included == other.outbound_included
        kept["outbound_included"] = () if same else self.outbound_included
        return Exclusions(**kept)

    @property
    def empty(self) -> bool:
        """Whether nothing is excluded."""
        return not any(getattr(self, f.name) for f in fields(self))


@dataclass(frozen=True, slots=True)
class Injected:
    """With what a Pod was made."""

    exclusions: Exclusions = field(default_factory=Exclusions)
    """What its redirection rules let pass."""
    mesh: Mapping[str, str] = field(default_factory=dict)
    """Digests of MeshConfig's fields that only count when a Pod is made, by path."""


def wanted(mesh: MeshConfig, pod: Mapping[str, Any], namespace: Mapping[str, Any]) -> Exclusions:
    """Return what shall pass the sidecar of a Pod by now.

    Args:
        mesh: what holds for all.
        pod: annotations of the Pod.
        namespace: annotations of its namespace.

    """
    traffic = mesh.traffic
    return Exclusions(
        outbound_ports=_merged(
            traffic.outbound_port_exclusion_list, _ports("outbound_ports", pod, namespace)
        ),
        inbound_ports=_merged(
            traffic.inbound_port_exclusion_list, _ports("inbound_ports", pod, namespace)
        ),
        outbound_ranges=_merged(
            map(canonical, traffic.outbound_ip_range_exclusion_list),
            _ranges("outbound_ranges", pod, namespace),
        ),
        outbound_included=_merged(
            map(canonical, traffic.outbound_ip_range_inclusion_list),
            _ranges("outbound_included", pod, namespace),
        ),
        interfaces=_merged(traffic.network_interface_exclusion_list, ()),
    )


def faults(annotations: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield what cannot be read in annotations: the annotation, what is wrong, what it may be."""
    for name, suffix in ANNOTATIONS.items():
        for prefix in PREFIXES:
            for part in _parts(annotations.get(prefix + suffix, "")):
                if name.endswith("ports") and _port(part) is None:
                    yield prefix + suffix, f"{part!r} is no port; it is not heeded", "such as 5432"
                elif not name.endswith("ports") and not canonical(part):
                    yield (
                        prefix + suffix,
                        f"{part!r} is no IP range; it is not heeded",
                        "such as 10.0.0.0/8",
                    )


def note(exclusions: Exclusions, mesh: Mapping[str, object]) -> str:
    """Write the annotation of a Pod that is made with these.

    Args:
        exclusions: what its rules let pass.
        mesh: values of MeshConfig's fields that only count now, by path.

    """
    lists = {name: list(value) for name, value in asdict(exclusions).items() if value}
    digests = {path: digest(value) for path, value in mesh.items()}
    return json.dumps({"exclusions": lists, "mesh": digests}, sort_keys=True, separators=(",", ":"))


def digest(value: object) -> str:
    """Return a short digest of a value of MeshConfig."""
    text = json.dumps(value, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@lru_cache(maxsize=_KNOWN_TEXTS)
def read_note(text: str) -> Injected:
    """Read that annotation; whatever it says, there is an answer.

    WHY: it is the users' to spoil. Then the sidecar carries past what shall pass, which does no
    harm where the rules do it already.
    """
    try:
        found = json.loads(text) if text else {}
    except (json.JSONDecodeError, RecursionError):
        found = {}
    lists = found.get("exclusions") if isinstance(found, dict) else None
    digests = found.get("mesh") if isinstance(found, dict) else None
    known: dict[str, Any] = {}
    for f in fields(Exclusions):
        value = lists.get(f.name) if isinstance(lists, dict) else None
        kind = int if f.name.endswith("ports") else str
        if isinstance(value, list) and all(isinstance(item, kind) for item in value):
            known[f.name] = tuple(value)
    return Injected(
        Exclusions(**known),
        {str(path): str(value) for path, value in digests.items()}
        if isinstance(digests, dict)
        else {},
    )


def canonical(text: str) -> str:
    """Return a network in its one spelling; empty for what is none."""
    try:
        return str(ipaddress.ip_network(text.strip(), strict=False))
    except ValueError:
        return ""


def _merged(mesh: Any, own: Any) -> tuple[Any, ...]:
    return tuple(sorted({value for value in (*mesh, *own) if value}))


def _ports(name: str, pod: Mapping[str, Any], namespace: Mapping[str, Any]) -> list[int]:
    found = (_port(part) for part in _annotated(name, pod, namespace))
    return [port for port in found if port is not None]


def _ranges(name: str, pod: Mapping[str, Any], namespace: Mapping[str, Any]) -> list[str]:
    return [canonical(part) for part in _annotated(name, pod, namespace)]


def _annotated(name: str, pod: Mapping[str, Any], namespace: Mapping[str, Any]) -> list[str]:
    for notes in (pod, namespace):
        for prefix in PREFIXES:
            if (value := notes.get(prefix + ANNOTATIONS[name])) is not None:
                return _parts(str(value))
    return []


def _port(part: str) -> int | None:
    if not (part.isascii() and part.isdecimal()) or len(part) > len(str(_PORT_MAX)):
        return None
    return int(part) if 0 < int(part) <= _PORT_MAX else None


def _parts(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]
