"""Feeds objects to the validators of all kinds, led by coverage: ``tools/fuzz SECONDS policies``.

In: bytes that atheris makes, read as choices. Out: nothing; the first object that breaks a promise
ends it, and is printed. What is promised, and how objects come about, is in
``tests/unit/support/any_object.py``, which a test of the suite asks with hypothesis.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit" / "support"))
with atheris.instrument_imports(include=["fsm"]):
    from any_object import disturbed, examine


class Fed:
    """Choices that are read from bytes."""

    def __init__(self, data: bytes) -> None:
        """Take the bytes of one run."""
        self._bytes = atheris.FuzzedDataProvider(data)

    def below(self, limit: int) -> int:
        """Return a number from 0 to below the limit."""
        return int(self._bytes.ConsumeIntInRange(0, limit - 1))

    def text(self) -> str:
        """Return any text."""
        return str(self._bytes.ConsumeUnicode(12))


def run(data: bytes) -> None:
    """Examine one object."""
    obj = disturbed(Fed(data))
    try:
        examine(obj)
    except BaseException:
        print(f"the object was {obj!r}", file=sys.stderr)
        raise


if __name__ == "__main__":
    atheris.Setup(sys.argv, run)
    atheris.Fuzz()
