"""What the chapters of the story share: the cluster, the applications, the counters, the screen.

What comes in: an open client and a stage. What goes out: changes that are applied, shown and
measured in one call, and a list of these measurements for the end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fsm.cli import apply
from fsm.cli.demo import applied, cast
from fsm.cli.demo.observer import Observer, Reading
from fsm.cli.demo.stage import Stage
from fsm.cli.podhttp import PodHttp

if TYPE_CHECKING:
    from fsm.kube import KubeClient

STRICT = {"enablePermissiveTrafficPolicyMode": False, "enableEgress": False}
"""What the demo sets in MeshConfig: only policies allow, and nothing leaves the mesh unseen."""

Noticed = Callable[[Mapping[str, Reading]], Awaitable[float]]
"""Waits until the applications noticed a change; returns when they did (monotonic seconds)."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One change of policy, and how fast it worked."""

    what: str
    applied: applied.Applied
    noticed_s: float


@dataclass(slots=True)
class Scene:
    """Everything a chapter needs."""

    client: KubeClient
    stage: Stage
    observer: Observer
    controller: PodHttp
    state_dir: Path
    fast: bool = False
    pods: dict[str, cast.PodRef] = field(default_factory=dict)
    measured: list[Measured] = field(default_factory=list)

    @property
    def applier(self) -> apply.Applier:
        """Applies manifests as the demo; made anew, so that it knows kinds that came later."""
        return apply.Applier(self.client, field_manager="fsm-demo")

    async def enter(self, namespace: str, app: str) -> cast.PodRef:
        """Wait for an application to be ready and follow its counters."""
        pod = await cast.ready_pod(self.client, namespace, app)
        self.pods[app] = pod
        self.observer.follow(app, pod.namespace, pod.name)
        return pod

    async def change(
        self, what: str, files: Sequence[str], mentions: str, noticed: Noticed
    ) -> None:
        """Apply a change, wait until it works, and tell how fast it did.

        Args:
            what: a few words for the summary.
            files: manifests to apply.
            mentions: the changed object, ``Kind/namespace/name``.
            noticed: waits until the applications see the change.

        Raises:
            Failure: the control plane or a proxy does not follow.
            ClaimFailed: the applications do not see it.
        """
        for file in files:
            self.stage.command(f"kubectl apply -f {file}")
        before = await applied.newest(self.controller)
        mark = await self.observer.fresh()
        started, started_at = time.monotonic(), time.time()
        await self.applier.apply(cast.load(*files))
        noticed_s = await noticed(mark) - started
        result = await applied.since(self.controller, before, mentions, started_at)
        self.measured.append(Measured(what, result, noticed_s))
        self.stage.applied(
            f"applied by {_proxies(result.proxies)} within {1000 * result.slowest_s:.0f} ms, "
            f"noticed by the applications after {1000 * noticed_s:.0f} ms"
        )

    async def breathe(self, seconds: float = 1.5) -> None:
        """Leave time to read; none when the person is in a hurry."""
        if not self.fast:
            await asyncio.sleep(seconds)


def _proxies(count: int) -> str:
    return "1 proxy" if count == 1 else f"{count} proxies"
