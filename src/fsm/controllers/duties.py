"""What a replica does besides answering proxies and the API server: its loops, and what wakes each.

What comes in: the parts of a control plane. What goes out: running loops; three of them can be
woken from outside.

    every replica             telling the one that leads · rotation (which asks whether it leads)
    the replica that leads    roots of namespaces · CA bundle of webhooks · certificates of
                              AccessCerts · statuses

Invariant: made once, inside of the task group that they run in.
Not done here: any decision.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry

from fsm.ca import LiveAuthority
from fsm.compile import Assessments
from fsm.controllers.access_certs import AccessCerts
from fsm.controllers.election import Elector
from fsm.controllers.loops import Loops, Reconciler
from fsm.controllers.replicas import Replicas
from fsm.controllers.root_certificates import RESOURCE as ROOT_CERTIFICATES
from fsm.controllers.root_certificates import RootCertificates
from fsm.controllers.rotation import Rotator
from fsm.controllers.settings import ControllerSettings
from fsm.controllers.status import StatusWriter
from fsm.controllers.trust import RootsEverywhere, WebhookBundle, webhook_names
from fsm.controllers.world import World
from fsm.delivery import FailingPlugins, ProxyRegistry
from fsm.kube import KubeClient
from fsm.kube.resources import NAMESPACES
from fsm.model import Snapshot

SERVICE = "fsm-controller"
# How often a replica that does not lead looks whether it has something to tell, seconds.
_REPORT_PERIOD_S = 1.0


@dataclass(frozen=True)
class Parts:
    """What the loops work with."""

    client: KubeClient
    settings: ControllerSettings
    world: World
    registry: ProxyRegistry
    metrics: CollectorRegistry
    elector: Elector
    replicas: Replicas
    failing: FailingPlugins
    authority: LiveAuthority
    snapshot: Callable[[], Snapshot | None]
    assessments: Callable[[], Assessments | None]
    leaf_lifetime: Callable[[], timedelta]
    servers: Callable[[], list[tuple[str, str]]]
    """Our own servers and the signers of their certificates."""
    now: Callable[[], datetime]


class Duties:
    """The loops of one replica."""

    def __init__(self, parts: Parts, tasks: asyncio.TaskGroup) -> None:
        """Begin them all."""
        self._parts = parts
        self._tasks = tasks
        self._loops = Loops(tasks, parts.elector, period_s=parts.settings.resync_s)
        tasks.create_task(parts.elector.run())
        tasks.create_task(parts.replicas.informer.run())
        parts.authority.subscribe(parts.registry.wake_all)
        mesh = parts.settings.mesh
        secret = f"Secret/{mesh.fsm_namespace}/{parts.settings.ca_secret}"
        parts.authority.subscribe(lambda: parts.world.nudge(secret))

        self._loops.always(
            "telling the replica that leads",
            parts.replicas.reconcile,
            period_s=_REPORT_PERIOD_S,
        )
        roots = self._give_roots()
        bundle = self._give_bundles()
        certs, self.access_certs = self._keep_access_certs()
        self.rotator, self.rotation = self._rotate(
            lambda: [*roots.lacking(), *bundle.lacking(), *certs.lacking()], certs
        )
        self.status = self._write_statuses(certs)

    def _give_roots(self) -> RootsEverywhere:
        parts = self._parts
        roots = RootsEverywhere(
            parts.client,
            parts.world,
            parts.settings.ca_config_map,
            parts.settings.mesh.mesh_name,
            lambda: parts.authority.roots,
        )
        namespaces = parts.world.informers[NAMESPACES.kind]
        self._loops.leading(
            "giving the roots to namespaces",
            roots.reconcile,
            namespaces,
            roots.informer,
            parts.authority,
        )
        self._tasks.create_task(roots.informer.run())
        return roots

    def _give_bundles(self) -> WebhookBundle:
        parts = self._parts
        mesh = parts.settings.mesh
        bundle = WebhookBundle(
            parts.client,
            mesh.fsm_namespace,
            SERVICE,
            webhook_names(mesh.mesh_name),
            lambda: parts.authority.roots,
        )
        informers = bundle.informers.values()
        self._loops.leading(
            "giving the CA bundle to webhooks", bundle.reconcile, *informers, parts.authority
        )
        for informer in informers:
            self._tasks.create_task(informer.run())
        return bundle

    def _keep_access_certs(self) -> tuple[AccessCerts, Reconciler]:
        parts = self._parts
        certs = AccessCerts(
            parts.client,
            parts.world,
            parts.authority,
            parts.settings.mesh,
            snapshot=parts.snapshot,
            lifetime=parts.leaf_lifetime,
            now=parts.now,
        )
        loop = self._loops.leading(
            "keeping certificates of AccessCerts",
            certs.reconcile,
            certs.informer,
            parts.authority,
        )
        certs.again = loop.poke
        self._tasks.create_task(certs.informer.run())
        return certs, loop

    def _rotate(
        self, unspread: Callable[[], list[str]], certs: AccessCerts
    ) -> tuple[Rotator, Reconciler]:
        parts = self._parts
        mesh = parts.settings.mesh
        rotator = Rotator(
            parts.client,
            parts.authority,
            parts.world,
            parts.registry,
            parts.metrics,
            namespace=mesh.fsm_namespace,
            secret=parts.settings.ca_secret,
            now=parts.now,
            leaf_lifetime=parts.leaf_lifetime,
            unspread=unspread,
            servers=lambda: [*parts.servers(), *certs.signers()],
            declared=RootCertificates(parts.client, parts.world, mesh),
            leads=lambda: parts.elector.leads,
            replicas=parts.replicas,
        )
        loop = self._loops.always(
            "rotating the root",
            rotator.reconcile,
            parts.replicas.informer,
            rotator.informer,
            parts.world.informers[ROOT_CERTIFICATES.kind],
            certs.informer,
        )
        rotator.again = loop.poke
        self._tasks.create_task(rotator.informer.run())
        return rotator, loop

    def _write_statuses(self, certs: AccessCerts) -> Reconciler:
        parts = self._parts
        status = StatusWriter(
            parts.client,
            parts.world,
            parts.registry,
            settle_s=parts.settings.status_settle_s,
            assessments=parts.assessments,
            replicas=parts.replicas,
            failing=parts.replicas.failing,
            kept=certs.condition,
        )
        loop = self._loops.leading(
            "writing statuses",
            status.reconcile,
            parts.replicas.informer,
            delay_s=parts.settings.status_delay_s,
        )
        status.again = loop.poke
        parts.failing.on_change = loop.poke
        certs.on_news = loop.poke
        return loop
