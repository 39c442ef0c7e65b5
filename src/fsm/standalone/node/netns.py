"""Do one thing inside another network namespace, without leaving one's own.

What comes in: the path of a namespace and a plain function. What goes out: what it returned. The
function runs in a thread that joins the namespace for that long: sockets made there stay there,
wherever they are used later, and ``/proc/sys/net`` means the joined namespace.

Invariant: a thread that cannot go back ends, so that no later call runs in the wrong namespace.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from typing import TypeVar

from fsm.standalone.box import syscalls

T = TypeVar("T")


async def inside(netns: str, function: Callable[[], T], limit_s: float = 10.0) -> T:
    """Run ``function`` in the network namespace at path ``netns``.

    Raises:
        OSError: the namespace is gone, or what the function raised.
        TimeoutError: it took longer than ``limit_s`` seconds.

    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def report(result: T | None, error: BaseException | None) -> None:
        if future.done():
            if isinstance(result, socket.socket):
                result.close()
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result: T | None = None
        failure: BaseException | None = None
        try:
            fd = os.open(netns, os.O_RDONLY)
            try:
                syscalls.setns(fd, syscalls.CLONE_NEWNET, netns)
            finally:
                os.close(fd)
            result = function()
        except Exception as error:
            failure = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(report, result, failure)

    # A thread of its own each time: it ends with the call and never has to find its way back.
    threading.Thread(target=work, name="netns", daemon=True).start()
    return await asyncio.wait_for(future, limit_s)


async def connect(netns: str, host: str, port: int, limit_s: float = 5.0) -> socket.socket:
    """Open a TCP connection from inside a namespace; the socket is non-blocking.

    Raises:
        OSError: refused or unreachable.
        TimeoutError: no answer within ``limit_s`` seconds.

    """

    def dial() -> socket.socket:
        made = socket.create_connection((host, port), limit_s)
        made.setblocking(False)
        return made

    return await inside(netns, dial, limit_s + 1.0)
