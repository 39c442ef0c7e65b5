"""``tcp-echo-server``: answers each line with ``echo response: LINE``.

What comes in: TCP connections on ``--port`` (several ports separated by commas). What goes out: for
every line one line. Invariants: a client that closes only its own direction still gets all its
answers; a line of more than ``LINE_BYTES_MAX`` bytes ends that connection, and no other.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal

LINE_BYTES_MAX = 1 << 20


async def serve(ports: list[int], host: str, prefix: str) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        OSError: a port cannot be listened on.

    """
    answer = prefix.encode() + b" "
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError):
            while line := await reader.readline():
                writer.write(answer + line)
                await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async with contextlib.AsyncExitStack() as stack:
        for port in ports:
            server = await asyncio.start_server(talk, host or None, port, limit=LINE_BYTES_MAX)
            stack.callback(server.close)
            for sock in server.sockets:
                print(f"listening on {sock.getsockname()[0]}:{sock.getsockname()[1]}", flush=True)
        await ended.wait()


def main() -> None:
    """Read the flags and serve."""
    parser = argparse.ArgumentParser("tcp-echo-server", description="Echo lines over TCP.")
    parser.add_argument("-p", "--port", "--ports", default="9000", help="separated by commas")
    parser.add_argument("--host", default="", help="address to listen on (default: all)")
    parser.add_argument("--prefix", default="echo response:", help="text before each answer")
    given = parser.parse_args()
    try:
        ports = [int(word) for word in given.port.split(",")]
    except ValueError:
        parser.error(f"--port {given.port!r}: expected port numbers, separated by commas")
    try:
        asyncio.run(serve(ports, given.host, given.prefix))
    except (OSError, OverflowError) as error:
        raise SystemExit(f"cannot listen: {error}") from None


if __name__ == "__main__":
    main()
