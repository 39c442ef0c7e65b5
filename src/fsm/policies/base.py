"""What every policy offers, as data.

In: the functions of one policy folder. Out: a ``Policy``, which the webhook, the command line, the
snapshot and the tests all go through. Invariant: no policy is treated specially anywhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from fsm.model.fields import JsonObject
from fsm.model.snapshot import Snapshot
from fsm.policies.violation import Invalid, Violation, fit
from fsm.settings import Settings


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether an object has the effect that it describes."""

    reason: str = ""
    """Why not, one word in camel case; empty: it has it."""
    messages: tuple[str, ...] = ()
    """For people; empty: "in effect"."""
    conflict: str = ""
    """Which other object says otherwise and is followed; empty: none does."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What must be switched on for objects of a kind to be taken at all."""

    flag: str
    """One of ``featureFlags`` of MeshConfig."""
    refusal: str
    """What people are told otherwise."""

    def violation(self) -> Violation:
        """Return the fault of an object while the flag is off."""
        return Violation("", self.refusal, f"set featureFlags.{self.flag} of MeshConfig to true")


OLDER_GROUPS = {
    "config.flomesh.io": "config.openservicemesh.io",
    "policy.flomesh.io": "policy.openservicemesh.io",
}
"""Groups that the documents of the older generation name, by the one that took their place. Their
kinds are served and read beside it, so that these documents apply as they are."""


@dataclass(frozen=True, slots=True)
class Policy:
    """One kind of policy."""

    kind: str
    group: str
    plural: str
    versions: tuple[str, ...]
    """Served versions, the newest first; the newest is stored."""
    place: str
    """Why it stands where it stands in ``POLICIES``."""
    validate_body: Callable[[JsonObject, Settings], list[Violation]]
    """All faults, apart from those of the envelope."""
    warn: Callable[[JsonObject], list[Violation]]
    """What is allowed and probably not meant."""
    model: Callable[[JsonObject], Any]
    """The dataclass of a valid object."""
    judge: Callable[[Snapshot, Any, Settings], Judgement] | None = None
    """What an object comes to in a snapshot, for its status; None: it is judged elsewhere, or is
    always in effect."""
    namespaced: bool = True
    gate: Gate | None = None
    """None: objects are taken whatever is switched on."""

    @property
    def groups(self) -> tuple[str, ...]:
        """The group, and the older one if there is one."""
        older = OLDER_GROUPS.get(self.group)
        return (self.group, older) if older else (self.group,)

    def validate(self, obj: JsonObject, settings: Settings) -> list[Violation]:
        """Return all faults of an object, in order of path."""
        found = [*self._envelope(obj), *self.validate_body(obj, settings)]
        return _in_order(found)

    def warnings(self, obj: JsonObject) -> list[Violation]:
        """Return what is allowed and probably not meant; empty for what is no object of ours."""
        return [] if self._envelope(obj) else _in_order(self.warn(obj))

    def parse(self, obj: JsonObject, settings: Settings) -> Any:
        """Return the dataclass of an object.

        Raises:
            Invalid: with all faults.

        """
        violations = self.validate(obj, settings)
        if violations:
            raise Invalid(violations)
        return self.model(obj)

    def _envelope(self, obj: JsonObject) -> list[Violation]:
        # Lists of the API leave kind and apiVersion out of their items.
        violations = []
        kind, version = obj.get("kind", self.kind), obj.get("apiVersion")
        if kind != self.kind:
            violations.append(Violation("kind", f"{kind!r} is not {self.kind}"))
        served = [f"{group}/{v}" for group in self.groups for v in self.versions]
        if version is not None and version not in served:
            known = ", ".join(self.versions)
            violations.append(
                Violation("apiVersion", f"{version!r} is not served", f"{self.group}/ with {known}")
            )
        return violations


def _in_order(found: Iterable[Violation]) -> list[Violation]:
    return sorted(Violation(fit(v.path), fit(v.message), fit(v.hint)) for v in found)
