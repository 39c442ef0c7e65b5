"""``fsm down``: closes the box, and leaves nothing behind but what is stored, or nothing at all.

What comes in: the box of this user. What goes out: one line per step on stderr. It is no error when
no box runs. ``--purge`` also removes the stored objects, keys and logs.
"""

from __future__ import annotations

from typing import Annotated

import typer


def down(
    purge: Annotated[
        bool, typer.Option("--purge", help="Also remove the stored objects, keys and logs.")
    ] = False,
) -> None:
    """Stop the mesh on this machine."""
    from fsm.cli import runner, steps
    from fsm.standalone.box import lifecycle
    from fsm.standalone.box.settings import StandaloneSettings

    settings = StandaloneSettings.default()
    with steps.Steps() as shown:
        there_was_one = runner.run(lifecycle.down(settings, purge=purge, progress=shown.begin))
    if not there_was_one:
        gone = f" The state in {settings.state_dir} is removed." if purge else ""
        shown.note(f"No box was running.{gone}")
    elif purge:
        shown.note("The box is closed and its state removed.")
    else:
        shown.note(f"The box is closed. Its objects stay in {settings.state_dir} (--purge).")
