"""``fsm controller``: puts the control plane together and runs it until it is told to stop.

What comes in: settings, a Kubernetes API. What goes out: port 15128 for proxies, 9443 for the API
server, 9091 for people and machines; statuses and a few objects in the API.

    root certificate ─► health, webhooks ─► world synced ─► first snapshot ─► delivery ─► MeshConfig
                                                                                 │
    loops from then on: world · publisher · election · TLS keys · what is told to whoever leads
    and in the replica that leads: status · roots · rotation · webhook bundle · AccessCerts

Invariants: delivery opens only when the first snapshot is there, so no proxy is told "you have
nothing" by a controller that has not looked; SIGTERM sends waiting proxies away before the process
ends; a lost API stops nothing.
Not done here: any decision.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from prometheus_client import CollectorRegistry, Gauge

from fsm import __version__, policies
from fsm.ca import CaError, LiveAuthority
from fsm.controllers import bootstrap, logs, memory
from fsm.controllers.duties import SERVICE, Duties, Parts
from fsm.controllers.election import Elector
from fsm.controllers.engine import Engine
from fsm.controllers.observe import Observer
from fsm.controllers.publisher import Publisher
from fsm.controllers.replicas import Replicas
from fsm.controllers.rotation import Rotator
from fsm.controllers.scripts import Scripts
from fsm.controllers.settings import ControllerSettings, SettingsError
from fsm.controllers.world import World
from fsm.delivery import Change, DeliveryServer, FailingPlugins, ProxyRegistry
from fsm.delivery.metrics import DeliveryMetrics
from fsm.delivery.tls import ServerTls, shrink_read_buffers
from fsm.injector.webhook import Webhook
from fsm.kube import ConfigError, KubeClient
from fsm.model import MeshConfig, Snapshot

log = logging.getLogger("fsm.main")


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Controller:
    """One control plane; ``run`` is its life."""

    def __init__(
        self,
        client: KubeClient,
        settings: ControllerSettings,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        """Prepare it; nothing listens and nothing is asked yet."""
        self._client = client
        self._settings = settings
        self._now = now
        mesh = settings.mesh
        self.metrics = CollectorRegistry()
        self._delivery_metrics = DeliveryMetrics(self.metrics)
        self.registry = ProxyRegistry(
            time.monotonic, time.time, self._delivery_metrics.applied.observe
        )
        self.world = World(client, mesh, self.metrics)
        self.started = asyncio.Event()
        self.ports: dict[str, int] = {}
        self._servers: dict[str, ServerTls] = {}
        self.duties: Duties | None = None
        self.elector = Elector(
            client,
            name=settings.lease,
            namespace=mesh.fsm_namespace,
            identity=settings.identity,
            now=now,
            clock=time.monotonic,
            gone=lambda identity: self.replicas.gone(identity),
            duration_s=settings.lease_s,
            renew_within_s=settings.lease_s * 2 / 3,
            look_s=settings.lease_s / 7,
        )
        self.replicas = Replicas(
            client,
            self.world,
            self.registry,
            mesh_name=mesh.mesh_name,
            namespace=mesh.fsm_namespace,
            identity=settings.identity,
            uid=settings.pod_uid,
            leads=lambda: self.elector.leads,
            rotating=self._rotates,
            servers=self._signers,
            failing=lambda: self._failing.all(),
        )
        self._phase = "starting"
        self._mesh_config = MeshConfig()
        self._scripts = Scripts()
        self._failing = FailingPlugins(
            self.metrics,
            clock=time.monotonic,
            alive=lambda key: self.registry.get(key) is not None,
        )
        Gauge(
            "fsm_version_info", "Version of the control plane.", ["version"], registry=self.metrics
        ).labels(__version__).set(1)

    @property
    def rotator(self) -> Rotator | None:
        """Who replaces the root; none before there is one."""
        return self.duties.rotator if self.duties else None

    async def run(self) -> None:
        """Run until cancelled.

        Raises:
            CaError: the root certificate is unusable.
            OSError: a port cannot be bound.
        """
        shrink_read_buffers()
        async with contextlib.AsyncExitStack() as stack:
            observer = Observer(
                self.registry,
                self.metrics,
                self._delivery_metrics,
                lambda: self._phase,
                self._status_of,
                lambda: self.rotator.report() if self.rotator else None,
                self.replicas.pending,
            )
            await observer.start(self._settings.host, self._settings.mesh.ports.health)
            stack.push_async_callback(observer.stop)
            self.ports["health"] = observer.port
            self._phase = "waiting for the root certificate"
            authority = await bootstrap.authority(self._client, self._settings, self._now)
            try:
                async with asyncio.TaskGroup() as tasks:
                    await self._assemble(authority, stack, tasks)
            except BaseExceptionGroup as group:
                # The tasks are loops that catch what they can; what ends one is a single cause.
                raise group.exceptions[0] from group

    async def _assemble(
        self, authority: LiveAuthority, stack: contextlib.AsyncExitStack, tasks: asyncio.TaskGroup
    ) -> None:
        mesh = self._settings.mesh
        engine = Engine(mesh, lambda: authority.roots, self._scripts.noted)
        publisher = Publisher[Snapshot](
            self.world,
            self.registry,
            engine,
            self.metrics,
            coalesce_s=mesh.delivery.coalesce_ms / 1000,
            on_snapshot=self._on_snapshot,
            prepare=self._scripts.prepare,
        )
        duties = self.duties = Duties(
            Parts(
                client=self._client,
                settings=self._settings,
                world=self.world,
                registry=self.registry,
                metrics=self.metrics,
                elector=self.elector,
                replicas=self.replicas,
                failing=self._failing,
                authority=authority,
                snapshot=lambda: publisher.snapshot,
                assessments=lambda: engine.assessments,
                leaf_lifetime=self._leaf_lifetime,
                servers=self._signers,
                now=self._now,
            ),
            tasks,
        )
        for coroutine in self.world.tasks():
            tasks.create_task(coroutine)
        await self._start_webhook(authority, stack, tasks)
        self._phase = "waiting for the Kubernetes API"
        await self._until_synced()
        await publisher.first()
        tasks.create_task(publisher.run())
        tasks.create_task(memory.tend(lambda: publisher.active_at))
        await self._start_delivery(authority, publisher, duties, stack, tasks)
        # Whoever waits until we are ready may patch MeshConfig the moment after.
        self._phase = "waiting for the API to take MeshConfig"
        await bootstrap.until_answered(
            "make MeshConfig",
            lambda: bootstrap.ensure_mesh_config(self._client, self._settings),
        )
        self._phase = ""
        self.started.set()
        log.info(
            "the control plane is ready mesh=%s namespace=%s version=%s",
            mesh.mesh_name,
            mesh.fsm_namespace,
            __version__,
        )

    async def _start_webhook(
        self, authority: LiveAuthority, stack: contextlib.AsyncExitStack, tasks: asyncio.TaskGroup
    ) -> None:
        mesh = self._settings.mesh
        webhook = Webhook(
            self._settings.injection,
            mesh=lambda: self._mesh_config,
            namespace=self.world.namespace,
            validate=lambda obj: [
                *policies.shut(obj, self._flags()),
                *policies.validate(obj, mesh),
            ],
            warn=policies.warnings,
            examine=self._scripts.violations,
            metrics=self.metrics,
        )
        tls = self._tls("webhook", authority, client_certificates=False)
        await webhook.start(tls.context, self._settings.host, mesh.ports.webhook)
        stack.push_async_callback(webhook.stop)
        tasks.create_task(tls.keep_fresh())
        self.ports["webhook"] = webhook.port

    async def _start_delivery(
        self,
        authority: LiveAuthority,
        publisher: Publisher[Snapshot],
        duties: Duties,
        stack: contextlib.AsyncExitStack,
        tasks: asyncio.TaskGroup,
    ) -> None:
        mesh = self._settings.mesh
        server = DeliveryServer(
            authority=authority,
            registry=self.registry,
            reviewer=self._client,
            world=self.world,
            metrics=self._delivery_metrics,
            leaf_lifetime=self._leaf_lifetime,
            now=self._now,
            on_new_proxy=publisher.new_proxy,
            on_ack=duties.status.poke,
            on_credentials=duties.rotation.poke,
            failing=self._failing,
            wait_max_s=mesh.delivery.wait_max_s,
            review_timeout_s=mesh.api.request_timeout_s,
        )
        tls = self._tls("delivery", authority, client_certificates=True)
        await server.start(tls.context, self._settings.host, mesh.ports.delivery)
        stack.push_async_callback(server.stop)
        tasks.create_task(tls.keep_fresh())
        self.ports["delivery"] = server.port

    def _tls(self, name: str, authority: LiveAuthority, *, client_certificates: bool) -> ServerTls:
        mesh = self._settings.mesh
        base = f"{SERVICE}.{mesh.fsm_namespace}"
        made = ServerTls(
            authority,
            [f"{base}.svc", f"{base}.svc.{mesh.cluster_domain}", base],
            lifetime=timedelta(seconds=mesh.certificates.server_lifetime_s),
            now=self._now,
            client_certificates=client_certificates,
        )
        authority.subscribe(made.refresh)
        self._servers[name] = made
        return made

    def _flags(self) -> Mapping[str, Any]:
        """Return the feature flags as the API has them now: who set one goes on at once."""
        mesh = self._settings.mesh
        found = self.world.find("MeshConfig", mesh.fsm_namespace, mesh.mesh_config_name) or {}
        flags = (found.get("spec") or {}).get("featureFlags")
        return flags if isinstance(flags, Mapping) else {}

    def _signers(self) -> list[tuple[str, str]]:
        return [(name, tls.signer) for name, tls in self._servers.items()]

    def _rotates(self) -> bool:
        return self.rotator is not None and self.rotator.rotates

    def _leaf_lifetime(self) -> timedelta:
        return timedelta(seconds=self._mesh_config.certificate.service_cert_validity_s)

    def _on_snapshot(self, snapshot: Snapshot, change: Change | None) -> None:
        if snapshot.mesh.log_level != self._mesh_config.log_level:
            logs.set_level(snapshot.mesh.log_level)
        other_life = snapshot.mesh.certificate != self._mesh_config.certificate
        self._mesh_config = snapshot.mesh
        if other_life:
            # Whose certificate lives longer than it should is told so on the poll that waits.
            self.registry.wake_all()
        for problem in snapshot.problems:
            log.log(logging.WARNING if change else logging.INFO, "left out: %s", problem)
        if self.duties:
            self.duties.status.poke()
            self.duties.access_certs.poke()

    def _status_of(self, name: str) -> Mapping[str, Any] | None:
        kind, namespace, called = name.split("/", 2)
        found = self.world.find(kind, namespace, called) if kind in self.world.informers else None
        return found.get("status") if found else None

    async def _until_synced(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.sync_timeout_s):
                    await self.world.synced()
                return
            log.warning("still waiting for the API to list %s", ", ".join(self.world.unsynced()))


async def run_controller(settings: ControllerSettings | None = None) -> int:
    """Run a controller until SIGTERM or SIGINT.

    Args:
        settings: ``None`` means from the environment of the process.

    Returns:
        The exit status: 0 after a signal, 1 after something that no waiting can mend; the log says
        what.

    """
    try:
        settings = settings or ControllerSettings.from_environment(os.environ)
        logs.set_up(settings.mesh.log_level)
        client = KubeClient.connect()
    except (SettingsError, ConfigError) as error:
        logs.set_up("info")
        log.error("cannot start: %s", error)
        return 1
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with client:
        controller = asyncio.create_task(Controller(client, settings).run())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({controller, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (controller, stopping):
            if not task.done():
                task.cancel()
        try:
            await controller
        except asyncio.CancelledError:
            log.info("stopped")
            return 0
        except (CaError, OSError) as error:
            log.error("cannot go on: %s", error)
            return 1
        except Exception:
            log.exception("the control plane failed; this is a fault of fsm")
            return 1
    return 0
