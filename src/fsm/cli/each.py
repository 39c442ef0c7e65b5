"""Does one thing to each of several namespaces, and tells of each.

What comes in: names, and what is done to one. What goes out: a line each as it is done, or with
``-o json|yaml`` all of them as data at the end.

Invariant: of several names each is tried; the exit code is that of the worst failure.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import typer

from fsm.cli import errors, options, output

if TYPE_CHECKING:
    from fsm.kube import KubeClient

Change = Callable[["KubeClient", str], Awaitable[str]]
"""Changes one namespace and returns the line that says so."""


def each(
    target: options.Target,
    names: Sequence[str],
    change: Change,
    output_format: output.Format,
    before: Callable[[KubeClient], Awaitable[object]] | None = None,
) -> None:
    """Change namespaces one after the other.

    Raises:
        typer.Exit: at least one failed.
    """
    from fsm.cli import runner

    done: list[dict[str, object]] = []
    as_text = output_format is output.Format.TABLE

    async def work() -> int:
        worst = int(errors.ExitCode.OK)
        async with target.client() as client:
            if before is not None:
                await before(client)
            for name in names:
                try:
                    text = await change(client, name)
                    done.append({"namespace": name, "ok": True, "message": text})
                    if as_text:
                        print(text)
                except Exception as error:
                    # One wrong name must not keep the others from being tried.
                    told = errors.explain(error)
                    if told is None:
                        raise
                    done.append({"namespace": name, "ok": False, "message": told.message})
                    worst = errors.report(error)
                sys.stdout.flush()
        return worst

    code = runner.run(work())
    if not as_text:
        output.emit(output_format, done, (), ())
    if code:
        raise typer.Exit(code)
