"""The box of this user, as the commands see it: where it is, whether it runs.

A thin door to ``fsm.standalone.box``: that package owns the box; this one only spares the commands
its import when they can do without. What comes in: ``FSM_HOME`` and the user. What goes out:
settings, and what is known of a running box.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsm.standalone.box.lifecycle import BoxInfo


def running() -> BoxInfo | None:
    """Return what is known of this user's box, or ``None`` when it does not run."""
    from fsm.standalone.box import lifecycle
    from fsm.standalone.box.settings import StandaloneSettings

    return lifecycle.status(StandaloneSettings.default())


def behind(server: str) -> BoxInfo | None:
    """Return this user's box when it is what answers at an API server's URL, else ``None``."""
    info = running()
    return info if info and server.endswith(f"127.0.0.1:{info.api_port}") else None
