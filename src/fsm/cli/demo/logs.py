"""Puts the logs of a box aside before it is closed, so that a failed demo can be looked into.

What comes in: a state directory. What goes out: a new directory below the one for temporary files,
readable by its owner only, with the logs of the box and of its Pods.

Invariant: nothing but logs is copied: no keys, no stored objects.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path


def put_aside(state_dir: Path) -> Path:
    """Copy every log below ``state_dir`` and return where to."""
    target = Path(tempfile.mkdtemp(prefix="fsm-demo-logs-"))
    for log in sorted([*state_dir.glob("log/*.log*"), *state_dir.glob("pods/*/*.log*")]):
        place = target / log.relative_to(state_dir)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(log, place)
        except OSError as error:
            # A log that goes away meanwhile must not hide the failure it was to explain.
            place.with_name(place.name + ".missing").write_text(f"{error}\n")
    return target
