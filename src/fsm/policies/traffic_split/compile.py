"""TrafficSplit: who gets which share of an apex's traffic.

In: the snapshot and an apex. Out: the default shares and, before them, shares for the requests
that splits with matches name. Invariants: shares are as they are written, whether or not a backend
exists or may be reached; a share that leads nowhere fails visibly rather than going elsewhere. All
weights 0 mean equal shares. Among splits that say the same, the first by name is followed.

Not here: hosts, clusters, who may (TrafficTarget). Source: fsm-interfaces section 2.3.
"""

from __future__ import annotations

from dataclasses import dataclass

from fsm.model.names import Key
from fsm.model.policy import RouteShape, TrafficSplit
from fsm.model.snapshot import Snapshot
from fsm.policies.http_route_group.compile import ordered, shapes

FULL_WEIGHT = 100
"""Weight of a sole cluster, and of each where all weights are 0."""


@dataclass(frozen=True, slots=True)
class Share:
    """A backend, its weight, and the split that says so."""

    service: Key
    weight: int
    origin: str


@dataclass(frozen=True, slots=True)
class Division:
    """How the traffic of one apex is divided."""

    default: tuple[Share, ...]
    matched: tuple[tuple[RouteShape, tuple[Share, ...]], ...] = ()
    """Descriptions with shares of their own, in the order in which they are tried."""

    @property
    def services(self) -> tuple[Key, ...]:
        """Every Service that may get traffic."""
        shares = [*self.default, *(share for _, found in self.matched for share in found)]
        return tuple(dict.fromkeys(share.service for share in shares))


def division(snapshot: Snapshot, apex: Key) -> Division | None:
    """Return how the apex's traffic is divided, or None when no split is about it."""
    splits = snapshot.splits_by_apex.get(apex, ())
    if not splits:
        return None
    unmatched = [split for split in splits if not split.matches]
    matched: dict[tuple[object, ...], tuple[RouteShape, tuple[Share, ...]]] = {}
    for split in splits:
        for name in split.matches:
            group = snapshot.route_groups.get(Key(split.namespace, name))
            for shape in shapes(group) if group else ():
                same = (shape.path_regex, shape.methods, shape.headers)
                matched.setdefault(same, (shape, shares(split)))
    by_shape = dict(matched.values())
    return Division(
        default=shares(unmatched[0]) if unmatched else _union(splits),
        matched=tuple((shape, by_shape[shape]) for shape in ordered(by_shape)),
    )


def shares(split: TrafficSplit) -> tuple[Share, ...]:
    """Return the shares of one split."""
    equal = not any(backend.weight for backend in split.backends)
    return tuple(
        Share(backend.service, FULL_WEIGHT if equal else backend.weight, split.origin)
        for backend in split.backends
    )


def _union(splits: tuple[TrafficSplit, ...]) -> tuple[Share, ...]:
    # Where every split is about some requests only, the others go to all backends alike.
    first: dict[Key, Share] = {}
    for split in splits:
        for backend in split.backends:
            first.setdefault(backend.service, Share(backend.service, FULL_WEIGHT, split.origin))
    return tuple(first.values())
