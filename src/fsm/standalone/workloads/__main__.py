"""``python -m fsm.standalone.workloads``: all controllers, as PID 1 of the box starts them.

What comes in: the state directory, in which the API server's socket is. What goes out: exit status
0 after SIGTERM. Invariant: a controller that fails by a bug ends the process with a traceback, and
PID 1 starts it again: half a set of controllers would be harder to understand.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
from pathlib import Path

from fsm.kube import KubeClient
from fsm.standalone.box.logformat import set_up
from fsm.standalone.box.waiting import wait_for_api
from fsm.standalone.workloads.cluster import Cluster
from fsm.standalone.workloads.controller import Controller
from fsm.standalone.workloads.deployments import Deployments
from fsm.standalone.workloads.endpoints import Endpoints
from fsm.standalone.workloads.garbage import Garbage
from fsm.standalone.workloads.jobs import Jobs
from fsm.standalone.workloads.namespaces import Namespaces
from fsm.standalone.workloads.replicasets import ReplicaSets
from fsm.standalone.workloads.statefulsets import StatefulSets


def main() -> None:
    """Run the controllers."""
    parser = argparse.ArgumentParser(
        prog="fsm standalone kube-controllers", description="run the small Kubernetes controllers"
    )
    parser.add_argument("--state-dir", type=Path, required=True, help="holds api.sock")
    given = parser.parse_args()
    set_up(logging.INFO)
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_run(given.state_dir))


async def _run(state_dir: Path) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    async with KubeClient.from_unix_socket(state_dir / "api.sock") as client:
        await wait_for_api(client)
        await run_controllers(client)


async def run_controllers(client: KubeClient) -> None:
    """Run all controllers until cancelled."""
    cluster = Cluster(client)
    controllers: list[Controller | Garbage] = [
        Namespaces(cluster),
        Deployments(cluster),
        ReplicaSets(cluster),
        StatefulSets(cluster),
        Jobs(cluster),
        Endpoints(cluster),
        Garbage(cluster),
    ]
    async with asyncio.TaskGroup() as group:
        group.create_task(cluster.run())
        # Before the first full view, everything would look missing.
        await cluster.synced()
        for controller in controllers:
            group.create_task(controller.run())


if __name__ == "__main__":
    main()
