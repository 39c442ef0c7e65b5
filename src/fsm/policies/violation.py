"""What is wrong with an object, in words that help whoever wrote it.

In: nothing. Out: the types that validation speaks in. Invariants: a path is the path in the
document that the user wrote, whatever version it is; messages are lower case and carry the value
that was wrong; a hint says what to write instead, or is empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TEXT_CHARS_MAX = 300
"""LIMIT: characters of a message, a path or a hint. They carry what was wrong, which may be a
megabyte, and go into statuses, logs and terminals; the document itself says the rest."""


def fit(text: str) -> str:
    """Return a text that can be shown: short, its beginning and its end; nothing that moves."""
    if not text.isprintable():
        # Names of fields are whatever somebody wrote, and terminals do what they are told.
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    if len(text) <= TEXT_CHARS_MAX:
        return text
    half = TEXT_CHARS_MAX // 2
    return f"{text[:half]} … {text[-half:]}"


@dataclass(frozen=True, slots=True, order=True)
class Violation:
    """One fault, or with ``warnings`` one doubt, about an object."""

    path: str
    """Where, such as ``spec.matches[0].pathRegex``; empty for the object as a whole."""
    message: str
    """What is wrong there."""
    hint: str = ""
    """What to write instead; may be empty."""

    def __str__(self) -> str:
        text = f"{self.path}: {self.message}" if self.path else self.message
        return f"{text} (hint: {self.hint})" if self.hint else text


class Invalid(ValueError):
    """An object that cannot be used.

    Args:
        violations: all of its faults, at least one.

    """

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__("; ".join(str(violation) for violation in violations))
        self.violations = tuple(violations)
