"""Takes away what the demo made, and looks whether it is really gone.

What comes in: a box that the demo opened, or one that ran before with the demo's namespaces in it.
What goes out: nothing, or a ``Failure`` that names what is left.

Invariant: what was there before the demo stays: namespaces, stored objects, the mesh's settings.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsm.cli import box
from fsm.cli.demo import cast, leftovers
from fsm.cli.errors import Failure
from fsm.cli.options import FSM_NAMESPACE
from fsm.cli.steps import Steps

if TYPE_CHECKING:
    from fsm.kube import KubeClient
    from fsm.standalone.box.settings import StandaloneSettings

MESH_CONFIG_NAME = "fsm-mesh-config"

LOCK = "lock"
"""The file in the state directory by which the box makes sure that there is only one."""


def holds_anything(state_dir: Path) -> bool:
    """Tell whether an earlier box stored something there."""
    return state_dir.is_dir() and any(entry.name != LOCK for entry in state_dir.iterdir())


async def set_traffic(client: KubeClient, traffic: dict[str, Any]) -> None:
    """Change the section ``traffic`` of the mesh's settings."""
    from fsm.kube.resources import MESHCONFIGS

    body = {"spec": {"traffic": traffic}}
    await client.patch(MESHCONFIGS, MESH_CONFIG_NAME, body, FSM_NAMESPACE)


async def remove_demo(steps: Steps, undo: dict[str, Any]) -> None:
    """Remove the demo's namespaces from a mesh that ran before, and set ``undo`` back in it."""
    from fsm.kube import ApiError, KubeClient

    info = box.running()
    if info is None:
        return
    steps.begin("removing the demo's namespaces")
    try:
        async with KubeClient.from_kubeconfig(info.kubeconfig) as client:
            await cast.remove_namespaces(client)
            if undo:
                await set_traffic(client, undo)
    except ApiError as error:
        steps.note(f"the demo's namespaces could not be removed: {error}")


async def close_box(settings: StandaloneSettings, steps: Steps, *, purge: bool) -> None:
    """Close the box that the demo opened.

    Raises:
        BoxError: a process of it cannot be ended.
        Failure: a process, a namespace or a file of it is left.
    """
    from fsm.standalone.box import lifecycle

    info = box.running()
    there = leftovers.of_box(info.pid) if info is not None else leftovers.NOTHING
    steps.begin("closing the mesh")
    await lifecycle.down(settings, purge=purge)
    if purge:
        _remove_directory(settings.state_dir)
    if left := leftovers.still_there(there):
        raise Failure(f"the box is closed, but this is left of it: {left}")
    if there.processes:
        counted = f"{len(there.processes)} processes, {len(there.namespaces)} kernel namespaces"
        steps.note(f"  Gone: {counted}, every link, rule and file. Nothing is left.")


def _remove_directory(state_dir: Path) -> None:
    """Remove the state directory, in which a purge leaves only the lock that it held."""
    (state_dir / LOCK).unlink(missing_ok=True)
    try:
        state_dir.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        left = ", ".join(sorted(entry.name for entry in state_dir.iterdir()))
        raise Failure(f"files are left in {state_dir}: {left}") from error
