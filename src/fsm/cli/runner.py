"""Runs the coroutine of a command, and ends it in order when the person has had enough.

What comes in: a coroutine. What goes out: its result; on a terminal, after a second of silence, a
line on stderr that turns while it is waited for, and goes. Ctrl-C and SIGTERM cancel it, so that
``finally`` blocks and context managers run (the demo takes its mesh down there), and the program
ends with exit code 130. A second signal during that ending is not swallowed: it cancels again.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


SILENT_S = 1.0
"""How long a command may be silent on a terminal, in seconds."""


def run(coroutine: Coroutine[Any, Any, T], doing: str = "") -> T:
    """Run ``coroutine`` to its end.

    Args:
        coroutine: the command; it writes nothing itself where ``doing`` is given.
        doing: what it waits for, as people are told when it takes longer.

    Raises:
        KeyboardInterrupt: it was ended by SIGINT or SIGTERM.
    """

    async def main() -> T:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
        with _told(loop, doing):
            return await coroutine

    try:
        return asyncio.run(main())
    except asyncio.CancelledError as error:
        raise KeyboardInterrupt from error


@contextlib.contextmanager
def _told(loop: asyncio.AbstractEventLoop, doing: str) -> Iterator[None]:
    if not doing or not sys.stderr.isatty():
        yield
        return
    with contextlib.ExitStack() as shown:

        def tell() -> None:
            from rich.console import Console

            console = Console(stderr=True, highlight=False)
            shown.enter_context(console.status(f"[dim]{doing} …", spinner_style="dim"))

        timer = loop.call_later(SILENT_S, tell)
        try:
            yield
        finally:
            timer.cancel()
