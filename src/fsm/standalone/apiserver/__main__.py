"""Run the API server by itself: ``python -m fsm.standalone.apiserver --state-dir DIR``.

What comes in: arguments. What goes out: exit code 0 when told to stop (SIGTERM, SIGINT), 1 with one
line on stderr when it cannot serve, 78 when trying again will not help, 2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path

from fsm.standalone.apiserver.pki import PkiError
from fsm.standalone.apiserver.server import run_apiserver
from fsm.standalone.apiserver.settings import ApiServerSettings
from fsm.standalone.apiserver.store import StoreError, UnusableStoreError

UNUSABLE = 78
"""Exit code for a store that cannot be used: ``EX_CONFIG`` of sysexits(3)."""


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def parse_settings(arguments: list[str] | None = None) -> ApiServerSettings:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="fsm standalone apiserver", description="serve the embedded Kubernetes-style API"
    )
    parser.add_argument("--state-dir", type=Path, required=True, help="where everything is kept")
    parser.add_argument(
        "--port", type=int, help="listen on 127.0.0.1 at this port; 0 takes any free one"
    )
    parser.add_argument(
        "--listen",
        type=_address,
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="listen on this address too (may be repeated)",
    )
    parser.add_argument(
        "--listen-fd",
        type=int,
        action="append",
        default=[],
        metavar="FD",
        help="serve on this inherited listening socket (may be repeated)",
    )
    parser.add_argument("--unix-socket", type=Path, help="default: STATE_DIR/api.sock")
    parser.add_argument("--node-socket", type=Path, help="default: STATE_DIR/node.sock")
    parser.add_argument("--service-cidr", default="10.96.0.0/16", help="range of cluster IPs")
    parser.add_argument("--service-cidr6", default="", help="range of IPv6 cluster IPs")
    parser.add_argument(
        "--sync-every-write",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="flush the disk on each write, to survive power cuts",
    )
    given = parser.parse_args(arguments)
    listen = given.listen
    if given.port is not None or not (listen or given.listen_fd):
        listen = [("127.0.0.1", given.port or 0), *listen]
    return ApiServerSettings(
        state_dir=given.state_dir,
        listen_fds=given.listen_fd,
        listen=listen,
        unix_socket=given.unix_socket,
        node_socket=given.node_socket,
        service_cidr=given.service_cidr,
        service_cidr6=given.service_cidr6,
        sync_every_write=given.sync_every_write,
    )


async def _serve(settings: ApiServerSettings) -> None:
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await run_apiserver(settings)


def main(arguments: list[str] | None = None) -> int:
    """Serve until a signal comes."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        asyncio.run(_serve(parse_settings(arguments)))
    except (StoreError, PkiError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return UNUSABLE if isinstance(error, UnusableStoreError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
