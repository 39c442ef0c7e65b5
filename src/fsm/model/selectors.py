"""Label selectors: which Pods, which namespaces.

In: labels. Out: whether they fit. Invariants: an empty selector fits everything; all parts of one
must fit.
Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Operator(StrEnum):
    """How a requirement is meant."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True, slots=True)
class Requirement:
    """What is asked of one label."""

    label: str
    operator: Operator
    values: tuple[str, ...] = ()

    def fits(self, labels: Mapping[str, str]) -> bool:
        """Tell whether labels are as asked; a label that is absent is in no list."""
        value = labels.get(self.label)
        match self.operator:
            case Operator.IN:
                return value is not None and value in self.values
            case Operator.NOT_IN:
                return value is None or value not in self.values
            case Operator.EXISTS:
                return value is not None
            case Operator.DOES_NOT_EXIST:
                return value is None


@dataclass(frozen=True, slots=True)
class Selector:
    """What is asked of the labels of an object."""

    requirements: tuple[Requirement, ...] = ()

    def fits(self, labels: Mapping[str, str]) -> bool:
        """Tell whether labels are as asked."""
        return all(requirement.fits(labels) for requirement in self.requirements)
