"""Telemetry: where a sidecar's spans and log lines go, and whether what is said of it makes sense.

In: MeshConfig. Out: the contract's ``Tracing`` and ``RemoteLog``, and the faults of any that the
proxy would refuse (``proxy/pipy-config/src/telemetry.rs`` asks the same). Invariant: what is not
switched on is absent, so that it costs no request anything.
"""

from __future__ import annotations

import re
from dataclasses import replace

from fsm.compile.check_upstream import Fault
from fsm.compile.contract import Collector, RemoteLog, Telemetry, Tracing
from fsm.model.mesh_config import Export, MeshConfig

_PER_MILLION = 1_000_000
_HOST = re.compile(r"[!-~]+")
_NO_HOST = frozenset("/@?#")
_PATH = re.compile(r"/[!-~]*")
_VALUE = re.compile(r"[ -~]*")


def with_exports(telemetry: Telemetry, mesh: MeshConfig) -> Telemetry:
    """Return telemetry that also goes where MeshConfig says."""
    tracing, remote = mesh.tracing, mesh.remote_log
    if tracing is not None:
        telemetry = replace(
            telemetry,
            tracing=Tracing(
                collector=_collector(tracing),
                origin=mesh.origin,
                sampled_per_million=round(tracing.share * _PER_MILLION),
                traceparent=tracing.traceparent,
            ),
        )
    if remote is not None:
        telemetry = replace(
            telemetry,
            remote_log=RemoteLog(
                collector=_collector(remote),
                origin=mesh.origin,
                sampled_per_million=round(remote.share * _PER_MILLION),
            ),
        )
    return telemetry


def telemetry_faults(telemetry: Telemetry) -> list[Fault]:
    """Return what the proxy would refuse, each with its place."""
    faults: list[Fault] = []
    for place, export in (("tracing", telemetry.tracing), ("remote_log", telemetry.remote_log)):
        if export is None:
            continue
        to = export.collector
        at = f"{place}.collector"
        if not _HOST.fullmatch(to.host) or _NO_HOST & set(to.host):
            faults.append((f"{at}.host", f'"{to.host}" is no host'))
        if to.port == 0:
            faults.append((f"{at}.port", "is 0"))
        if not _PATH.fullmatch(to.path):
            faults.append((f"{at}.path", f'"{to.path}" is no path'))
        if not _VALUE.fullmatch(to.authorization):
            faults.append((f"{at}.authorization", "holds what no header may"))
        if export.sampled_per_million > _PER_MILLION:
            text = f"{export.sampled_per_million} is more than {_PER_MILLION}"
            faults.append((f"{place}.sampled_per_million", text))
    return faults


def _collector(export: Export) -> Collector:
    return Collector(
        host=export.host, port=export.port, path=export.path, authorization=export.authorization
    )
