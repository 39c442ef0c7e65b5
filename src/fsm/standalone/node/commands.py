"""Run a system tool (`ip`, `nft`) from asyncio, with a time limit and errors in words.

What comes in: a command line and what to feed it. What goes out: its standard output, or a
``CommandError`` with what it said. Invariant: no process is left behind, however this ends.
"""

from __future__ import annotations

import asyncio
import contextlib


class CommandError(Exception):
    """A tool failed, is missing, or took too long; the text holds what it said."""


async def run(*argv: str, feed: str = "", limit_s: float = 15.0) -> str:
    """Run a tool to its end.

    Args:
        argv: the command line.
        feed: what it reads from standard input.
        limit_s: how long it may take, seconds.

    Raises:
        CommandError: see there.

    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError as error:
        packages = {"ip": "iproute2", "nft": "nftables", "nsenter": "util-linux"}
        hint = f"\nhint: install {packages[argv[0]]}" if argv[0] in packages else ""
        raise CommandError(f"cannot find `{argv[0]}`{hint}") from error
    try:
        out, err = await asyncio.wait_for(process.communicate(feed.encode()), limit_s)
    except TimeoutError as error:
        raise CommandError(f"`{' '.join(argv)}` took more than {limit_s:g} s") from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        said = err.decode(errors="replace").strip() or f"exit code {process.returncode}"
        raise CommandError(f"`{' '.join(argv)}`: {said}")
    return out.decode(errors="replace")
