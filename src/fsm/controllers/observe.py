"""What people and machines may ask a controller: health, metrics, version, proxies, changes.

What comes in: plain HTTP on port 9091. What goes out: text and JSON; nothing secret and nothing
that can be changed.

Invariants: ``/health/alive`` answers as long as the event loop turns; ``/health/ready`` only while
proxies and the API server can be served.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fsm import __version__
from fsm.delivery import Change, ProxyRegistry
from fsm.delivery.metrics import DeliveryMetrics
from fsm.delivery.registry import ProxyRecord

log = logging.getLogger("fsm.observe")


class Observer:
    """The server of port 9091."""

    def __init__(
        self,
        registry: ProxyRegistry,
        metrics: CollectorRegistry,
        delivery: DeliveryMetrics,
        not_ready: Callable[[], str],
        status: Callable[[str], Mapping[str, Any] | None] = lambda name: None,
        certificates: Callable[[], dict[str, Any] | None] = lambda: None,
        pending: Callable[[Change], int] = lambda change: change.pending,
    ) -> None:
        """Put it together.

        Args:
            registry: of proxies.
            metrics: everything that is counted.
            delivery: whose gauge of connected proxies is set when somebody looks.
            not_ready: says why the controller is not ready; empty when it is.
            status: finds the status of an object by ``Kind/namespace/name``.
            certificates: tells about roots and their rotation; ``None`` before there are any.
            pending: counts the proxies that have to answer about a change here.
        """
        metrics.register(AppliedTimes(registry))
        self._registry = registry
        self._metrics = metrics
        self._delivery = delivery
        self._not_ready = not_ready
        self._status = status
        self._certificates = certificates
        self._pending = pending
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listen; ``port`` then says where, also if 0 was asked for.

        Raises:
            OSError: the address cannot be bound.
        """
        app = web.Application()
        app.add_routes(
            [
                web.get("/health/ready", self._ready),
                web.get("/health/alive", _alive),
                web.get("/metrics", self._render_metrics),
                web.get("/version", _version),
                web.get("/smi/version", _smi_version),
                web.get("/proxies", self._proxies),
                web.get("/changes", self._changes),
                web.get("/rollout", self._rollout),
                web.get("/certs", self._certs),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        listener = socket.create_server((host, port), backlog=128)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._runner = runner
        await web.SockSite(runner, listener).start()
        log.info("serving health and metrics address=%s:%d", host, self.port)

    async def stop(self) -> None:
        """Close."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _ready(self, request: web.Request) -> web.Response:
        why = self._not_ready()
        return web.Response(text=f"{why or 'ok'}\n", status=503 if why else 200)

    async def _render_metrics(self, request: web.Request) -> web.Response:
        connected = [r for r in self._registry.records() if self._registry.connected(r)]
        self._delivery.connected.set(len(connected))
        body = generate_latest(self._metrics)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _proxies(self, request: web.Request) -> web.Response:
        return _json({"proxies": [self._row(record) for record in self._registry.records()]})

    async def _changes(self, request: web.Request) -> web.Response:
        return _json({"changes": [_change_row(change) for change in self._registry.changes]})

    async def _certs(self, request: web.Request) -> web.Response:
        found = self._certificates()
        if found is None:
            return _json({"error": "there is no root certificate yet"}, status=503)
        return _json(found)

    async def _rollout(self, request: web.Request) -> web.Response:
        name = request.query.get("object", "")
        if name.count("/") != 2:
            return _json({"error": "object must be Kind/namespace/name"}, status=400)
        known = self._registry.objects.get(name)
        if known is None and name not in self._registry.gone:
            return _json({"error": f"no {name} is in force"}, status=404)
        change = known.change if known else self._registry.gone[name]
        return _json(
            {
                "object": name,
                "generation": known.generation if known else None,
                "gone": known is None,
                "status": self._status(name) or {},
                "change": None if change is None else self._rollout_row(change),
            }
        )

    def _rollout_row(self, change: Change) -> dict[str, Any]:
        rows = [
            {
                "namespace": key.namespace,
                "pod": key.pod,
                "state": state,
                "applied_s": change.took.get(key),
                "reason": reason,
            }
            for key, state, reason in self._registry.rows(change)
        ]
        row = _change_row(change)
        pending = self._pending(change)
        return {
            **row,
            "proxies": change.proxies - change.pending + pending,
            "pending": pending,
            "done": change.published and not pending,
            "rows": rows if pending else [r for r in rows if r["state"] != "pending"],
        }

    def _row(self, record: ProxyRecord) -> dict[str, Any]:
        target = record.target.version if record.target else None
        return {
            "namespace": record.key.namespace,
            "pod": record.key.pod,
            "uid": record.key.uid,
            "identity": record.identity,
            "connected": self._registry.connected(record),
            "connected_at": record.connected_at,
            "seen_at": record.seen_at,
            "reconnects": record.reconnects,
            "target_version": target,
            "sent_version": record.sent_version,
            "sent_at": record.sent_at,
            "applied_version": record.applied_version,
            "applied_at": record.applied_at,
            "applied_s": record.applied_s,
            "refused_version": record.refused_version,
            "refused_reason": record.refused_reason,
            "compile_error": record.compile_error,
            "certificate_not_after": record.certificate_not_after,
        }


def _change_row(change: Change) -> dict[str, Any]:
    return {
        "number": change.number,
        "at": change.at,
        "objects": change.objects,
        "published_s": change.compile_s,
        "proxies": change.proxies,
        "applied": change.applied,
        "refused": change.refused,
        "slowest_s": change.slowest_s,
    }


class AppliedTimes(Collector):
    """How long it took until the last change was applied, by object and by proxy.

    LIMIT: series are as many as objects of ours and Pods with a sidecar; those that are gone go.
    """

    def __init__(self, registry: ProxyRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        """Yield both families; the registry calls it when somebody looks."""
        by_object = GaugeMetricFamily(
            "fsm_object_time_to_applied_seconds",
            "Seconds from the API event of an object's last change until the last proxy that it"
            " concerns had applied it.",
            labels=["kind", "namespace", "name"],
        )
        for name, known in self._registry.objects.items():
            if known.change is not None and known.change.done and known.change.applied:
                by_object.add_metric(name.split("/", 2), known.change.slowest_s)
        yield by_object
        by_proxy = GaugeMetricFamily(
            "fsm_proxy_time_to_applied_seconds",
            "Seconds from the API event of the last change that concerned a proxy until it had"
            " applied it.",
            labels=["namespace", "pod"],
        )
        for record in self._registry.records():
            if record.applied_s is not None:
                by_proxy.add_metric([record.key.namespace, record.key.pod], record.applied_s)
        yield by_proxy


async def _alive(request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def _version(request: web.Request) -> web.Response:
    return _json({"version": __version__})


async def _smi_version(request: web.Request) -> web.Response:
    return _json(
        {
            "HTTPRouteGroup": "specs.smi-spec.io/v1alpha4",
            "TCPRoute": "specs.smi-spec.io/v1alpha4",
            "TrafficSplit": "split.smi-spec.io/v1alpha4",
            "TrafficTarget": "access.smi-spec.io/v1alpha3",
        }
    )


def _json(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
