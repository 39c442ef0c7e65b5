"""``python -m fsm.standalone.node``: the node agent as PID 1 of the box starts it.

What comes in: settings as JSON and the numbers of the two DNS sockets. What goes out: exit status 0
after SIGTERM (containers go on) or SIGUSR2 (Pods were ended first).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import socket

from fsm.kube import KubeClient
from fsm.standalone.box.logformat import set_up
from fsm.standalone.box.settings import StandaloneSettings
from fsm.standalone.box.waiting import wait_for_api
from fsm.standalone.node.agent import Agent, DnsSockets


def main() -> None:
    """Run the agent."""
    parser = argparse.ArgumentParser(prog="fsm standalone node", description=__doc__)
    parser.add_argument("--settings", required=True, help="StandaloneSettings as JSON")
    parser.add_argument("--dns-fds", required=True, help="UDP and TCP socket, for each address")
    given = parser.parse_args()
    set_up(logging.INFO)
    sockets = [socket.socket(fileno=int(word)) for word in given.dns_fds.split(",")]
    with contextlib.suppress(asyncio.CancelledError), contextlib.ExitStack() as stack:
        for sock in sockets:
            stack.enter_context(sock)
        dns = list(zip(sockets[::2], sockets[1::2], strict=True))
        asyncio.run(_run(StandaloneSettings.from_json(given.settings), dns))


async def _run(settings: StandaloneSettings, dns: DnsSockets) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    async with KubeClient.from_unix_socket(settings.state_dir / "api.sock") as client:
        agent = Agent(settings, client)
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
        loop.add_signal_handler(signal.SIGINT, task.cancel)
        # Without the API there is no telling what to end: PID 1 ends everything with itself.
        loop.add_signal_handler(signal.SIGUSR2, task.cancel)
        await wait_for_api(client)
        loop.add_signal_handler(signal.SIGUSR2, agent.drain)
        await agent.run(dns)


if __name__ == "__main__":
    main()
