"""``fsm demo``: the flags; the story itself is in ``demo/``."""

from __future__ import annotations

from typing import Annotated

import typer


def demo(
    keep: Annotated[
        bool,
        typer.Option(
            "--keep", help="Leave everything running at the end, with a page per application."
        ),
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="With --keep: return at once, serve no pages.")
    ] = False,
    fast: Annotated[bool, typer.Option("--fast", help="Leave no time to read.")] = False,
) -> None:
    """Watch the bookstore: access denied, allowed, split between versions, encrypted."""
    from fsm.cli import runner
    from fsm.cli.demo import run
    from fsm.standalone.box.settings import StandaloneSettings

    options = run.Options(keep=keep or detach, detach=detach, fast=fast)
    runner.run(run.run(StandaloneSettings.default(), options))
