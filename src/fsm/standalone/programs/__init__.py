"""Small programs that stand in for what images of the documents contain; run by containers.

Each is a module of its own, started as ``python -m fsm.standalone.programs.NAME`` through the image
map (``node.image_table``). They know nothing of the box, the API or the mesh.
"""

from __future__ import annotations

from pathlib import Path


def is_volume(path: Path) -> bool:
    """Tell whether something was mounted exactly there; devices tell nothing on overlays."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return str(path) in {line.split(" ")[4].encode().decode("unicode_escape") for line in lines}
