"""The director of the demo: opens the mesh when none runs, plays the chapters, cleans up.

    nothing runs ──► up ──► cast ──► chapters ──► summary ──► down, and nothing is left
    a box runs ────────────► cast ──► chapters ──► summary ──► the demo's namespaces go

What comes in: ``Options``. What goes out: exit code 0 when every claim held. With ``keep``
everything stays, and the applications' pages are served until Ctrl-C.

Invariants: what was there before stays (a box, its stored objects); what the demo made goes, also
after a failure, Ctrl-C or SIGTERM, and that is checked; the logs of a failed demo are put aside.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsm.cli import box, errors, planes, up
from fsm.cli.demo import cast, chapters, cleanup, logs, pages
from fsm.cli.demo.claims import ClaimFailed
from fsm.cli.demo.observer import Observer
from fsm.cli.demo.scene import STRICT, Scene
from fsm.cli.demo.stage import Stage
from fsm.cli.errors import Failure
from fsm.cli.options import FSM_NAMESPACE
from fsm.cli.podhttp import PodHttp
from fsm.cli.steps import Steps

if TYPE_CHECKING:
    from fsm.kube import KubeClient
    from fsm.standalone.box.lifecycle import BoxInfo
    from fsm.standalone.box.settings import StandaloneSettings

APPS = (
    ("bookwarehouse", "bookwarehouse"),
    ("bookstore", "bookstore-v1"),
    ("bookbuyer", "bookbuyer"),
    ("bookthief", "bookthief"),
)


@dataclass(frozen=True, slots=True)
class Options:
    """What the person asked for."""

    keep: bool = False
    detach: bool = False
    fast: bool = False


async def run(settings: StandaloneSettings, options: Options) -> None:
    """Play the demo.

    Raises:
        ClaimFailed: something the story says is not so.
        Failure: the mesh or an application does not start.
    """
    stage = Stage()
    ran_before = box.running() is not None
    stored_before = cleanup.holds_anything(settings.state_dir)
    began = time.monotonic()
    undo: dict[str, Any] = {}
    stage.title(
        "The bookstore, in a service mesh on this machine",
        "Real processes, real network namespaces, real HTTP. Every ✓ was measured.",
    )
    try:
        with stage:
            info = await _open(settings, stage, ran_before)
            await _play(settings, options, stage, info, began, undo)
    except Exception as error:
        failure = errors.explain(error)
        if failure is None:
            raise
        if isinstance(failure, ClaimFailed):
            stage.disproven(failure.claim)
        stays = options.keep or ran_before
        raise _with_logs(failure, settings.state_dir, stays=stays) from error
    finally:
        if not options.keep:
            with Steps(stage.console) as steps:
                if ran_before:
                    await cleanup.remove_demo(steps, undo)
                else:
                    await cleanup.close_box(settings, steps, purge=not stored_before)
    if not options.keep:
        stage.say(
            "Try next:  fsm demo --keep   leaves it running, with a live page per application"
        )
        stage.say()


async def _open(settings: StandaloneSettings, stage: Stage, ran_before: bool) -> BoxInfo:
    if not ran_before and not _free(settings.api_port):
        # Another cluster on this machine has the usual port; the demo needs none in particular.
        settings = replace(settings, api_port=0)
    with Steps(stage.console) as steps:
        return await up.start(settings, steps.begin)


async def _play(
    settings: StandaloneSettings,
    options: Options,
    stage: Stage,
    info: BoxInfo,
    began: float,
    undo: dict[str, Any],
) -> None:
    from fsm.kube import KubeClient

    async with KubeClient.from_kubeconfig(info.kubeconfig) as client:
        undo.update(await _enforce_policies(client))
        controller = await planes.controller_http(client, FSM_NAMESPACE)
        observer = Observer(client)
        scene = Scene(client, stage, observer, controller, info.state_dir, options.fast)
        try:
            await _cast(scene, settings.mesh_name)
            stage.show_counters(observer)
            for chapter in chapters.CHAPTERS:
                await chapter(scene)
                await scene.breathe()
            stage.hide_counters()
            _summary(scene, time.monotonic() - began)
        finally:
            await observer.close()
            await controller.close()
        if options.keep:
            await _keep(client, stage, info, options)


async def _cast(scene: Scene, mesh: str) -> None:
    with Steps(scene.stage.console) as steps:
        steps.begin("creating four namespaces in the mesh")
        await cast.make_namespaces(scene.client, mesh)
        steps.begin("starting the applications")
        objects = cast.hurried(cast.load("apps"), cast.INTERVAL_MS)
        await scene.applier.apply(objects)
        try:
            await asyncio.gather(*(scene.enter(namespace, app) for namespace, app in APPS))
        except Failure as failure:
            raise await _with_refusals(failure, scene.controller) from failure


async def _with_refusals(failure: Failure, controller: PodHttp) -> Failure:
    """Return the failure with what proxies said, if they refused what they were sent."""
    try:
        proxies = (await controller.get_json("/proxies"))["proxies"]
    except Failure:
        return failure
    refused = [p for p in proxies if p.get("refused_reason")]
    if not refused:
        return failure
    first = refused[0]
    text = f"the proxy of {first['namespace']}/{first['pod']} refuses its configuration"
    return Failure(
        f"{text}: {first['refused_reason']}",
        hint="are pipy and fsm of the same build? (`make build`)",
        code=failure.code,
    )


async def _enforce_policies(client: KubeClient) -> dict[str, Any]:
    """Switch permissive mode and egress off; return what of it was on, to be switched on again."""
    from fsm.kube.resources import MESHCONFIGS

    found = await client.get(MESHCONFIGS, cleanup.MESH_CONFIG_NAME, FSM_NAMESPACE)
    traffic = (found.get("spec") or {}).get("traffic") or {}
    before = {name: traffic.get(name) for name in STRICT if traffic.get(name) != STRICT[name]}
    if before:
        await cleanup.set_traffic(client, STRICT)
    return before


def _summary(scene: Scene, took_s: float) -> None:
    stage = scene.stage
    stage.ending(f"Every claim held, in {took_s:.0f} seconds", "How fast each change worked:")
    rows = [
        (
            m.what,
            str(m.applied.proxies),
            f"{1000 * m.applied.slowest_s:.0f} ms",
            f"{1000 * m.noticed_s:.0f} ms",
        )
        for m in scene.measured
    ]
    stage.say()
    stage.table(("change", "proxies", "applied by all", "noticed by the applications"), rows)
    stage.say()


async def _keep(client: KubeClient, stage: Stage, info: BoxInfo, options: Options) -> None:
    stage.say("The mesh stays up. Look around:", style="bold")
    stage.say(f"  export KUBECONFIG={info.kubeconfig}")
    stage.say("  kubectl get pods -A          fsm status          fsm proxy list")
    stage.say("  fsm down                     ends it (--purge: leaves no trace)")
    stage.say()
    if options.detach:
        return
    async with pages.serve(client) as urls:
        for app, url in urls.items():
            stage.say(f"{app:<15}{url}")
        stage.say()
        stage.say("Ctrl-C ends these pages; the mesh stays.", style="dim")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()


def _with_logs(failure: Failure, state_dir: Path, *, stays: bool) -> Failure:
    """Return the failure with a hint where the logs are; if the box goes, they are put aside."""
    hint = f"{failure.hint}; " if failure.hint else ""
    if stays:
        hint += f"the mesh is still up, see `fsm status`; its logs are in {state_dir}"
    else:
        hint += f"the logs are in {logs.put_aside(state_dir)}; `fsm demo --keep` leaves the mesh up"
    return Failure(failure.message, hint=hint, code=failure.code)


def _free(port: int) -> bool:
    import socket

    if port == 0:
        return True
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
