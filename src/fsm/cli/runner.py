"""Runs the coroutine of a command, and ends it in order when the person has had enough.

What comes in: a coroutine. What goes out: its result. Ctrl-C and SIGTERM cancel it, so that
``finally`` blocks and context managers run (the demo takes its mesh down there), and the program
ends with exit code 130. A second signal during that ending is not swallowed: it cancels again.
"""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run ``coroutine`` to its end.

    Raises:
        KeyboardInterrupt: it was ended by SIGINT or SIGTERM.
    """

    async def main() -> T:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await coroutine

    try:
        return asyncio.run(main())
    except asyncio.CancelledError as error:
        raise KeyboardInterrupt from error
