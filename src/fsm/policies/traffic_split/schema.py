"""TrafficSplit, split.smi-spec.io v1alpha1 to v1alpha4: the shape.

In: the object's JSON. Out: pydantic models, and ``TrafficSplit`` with whole weights. v1alpha1
writes weights as Kubernetes quantities (``500m``, ``"1"``), later versions as numbers; matches
exist from v1alpha3 on. A Service is written ``name``, ``name.namespace`` with or without the
cluster's domain (the document that the bookstore comes from does), or ``namespace/name``.

Source: SMI specification, Traffic Split; fsm-interfaces section 2.3; Kubernetes API, Quantity.
"""

from __future__ import annotations

import math
import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from fsm.model.fields import JsonObject
from fsm.model.names import Key
from fsm.model.policy import Backend, TrafficSplit
from fsm.policies.strict import Name, Reading, Strict, fault, read

WEIGHT_MAX = 1_000_000
"""LIMIT: one weight, so that sums stay far from the contract's 32 bits even in thousandths."""
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_QUANTITY = re.compile(r"(?P<number>\d{1,9}(?:\.\d{1,3})?)(?P<unit>m|k)?")
_UNITS = {None: 1_000, "m": 1, "k": 1_000_000}


def service_key(text: str, namespace: str) -> Key | None:
    """Return the Service that a text names, or None when it names none.

    Args:
        text: ``name``, ``namespace/name``, ``name.namespace`` or ``name.namespace.svc.…``.
        namespace: where a name without namespace is looked up.

    """
    if "/" in text:
        parts = text.split("/")
        found = Key(parts[0], parts[1]) if len(parts) == 2 else None
    else:
        parts = text.split(".")
        if len(parts) > 2 and parts[2] != "svc":
            return None
        found = Key(parts[1] if len(parts) > 1 else namespace, parts[0])
    return found if found and all(_LABEL.fullmatch(part) for part in found) else None


def _service(value: str) -> str:
    if service_key(value, "default") is None:
        raise fault(f"{value!r} names no Service", "write name, name.namespace or namespace/name")
    return value


def _weight(value: object) -> object:
    """Turn a weight into thousandths."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise fault(f"expected a number, got {value!r}")
    if isinstance(value, str):
        found = _QUANTITY.fullmatch(value)
        if found is None:
            raise fault(f"{value!r} is not a weight", "write a whole number, such as 50")
        thousandths = float(found["number"]) * _UNITS[found["unit"]]
    else:
        thousandths = value * 1_000
    if not 0 <= thousandths <= WEIGHT_MAX * 1_000:
        raise fault(f"{value!r} is out of range, a weight is from 0 to {WEIGHT_MAX}")
    if isinstance(value, float) and not math.isfinite(value):
        raise fault(f"{value!r} is not a weight")
    return round(thousandths)


def _group_kind(value: str) -> str:
    if value != "HTTPRouteGroup":
        raise fault(f"{value!r} is not a kind of match", "only HTTPRouteGroup is")
    return value


ServiceText = Annotated[str, AfterValidator(_service)]
Weight = Annotated[int, BeforeValidator(_weight)]


class BackendBody(Strict):
    """A Service and its share."""

    service: ServiceText
    weight: Weight


class MatchRef(Strict):
    """Requests that the split is about."""

    kind: Annotated[str, AfterValidator(_group_kind)]
    name: Name
    apiGroup: str | None = None


class Body(Strict):
    """The split."""

    service: ServiceText
    backends: Annotated[list[BackendBody], Field(min_length=1)]
    matches: list[MatchRef] | None = None


def read_split(obj: JsonObject) -> Reading[Body]:
    """Read the object."""
    return read(obj, Body)


def model(obj: JsonObject) -> TrafficSplit:
    """Return the dataclass of a valid object."""
    reading = read_split(obj)
    body = reading.body
    assert body is not None, "the object was validated"
    here = reading.key.namespace
    weights = _whole([backend.weight for backend in body.backends])
    return TrafficSplit(
        namespace=here,
        name=reading.key.name,
        apex=_key(body.service, here),
        backends=tuple(
            Backend(_key(backend.service, here), weight)
            for backend, weight in zip(body.backends, weights, strict=True)
        ),
        matches=tuple(dict.fromkeys(match.name for match in body.matches or ())),
        generation=reading.generation,
    )


def _key(text: str, namespace: str) -> Key:
    found = service_key(text, namespace)
    assert found is not None, "the name was validated"
    return found


def _whole(thousandths: list[int]) -> list[int]:
    """Return whole weights in the same proportions; whole ones stay as they were written."""
    if all(weight % 1_000 == 0 for weight in thousandths):
        return [weight // 1_000 for weight in thousandths]
    divisor = math.gcd(*thousandths)
    return [weight // divisor for weight in thousandths]
