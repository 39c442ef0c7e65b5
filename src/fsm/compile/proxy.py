"""The configuration of one proxy.

In: the snapshot, the Pod, the settings. Out: ``ProxyConfig`` with its version. Invariants: pure;
the same snapshot gives the same bytes; in SMI mode the work is in proportion to what the Pod may
reach and who may reach it, not to the size of the mesh.
"""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

from fsm.compile.chains import BUILT_IN_STAGES, CHAIN_FIELDS
from fsm.compile.contract import (
    AccessLog,
    Chains,
    DownstreamLimits,
    Exclusions,
    Plugin,
    ProxyConfig,
    Telemetry,
    Timeouts,
    Trust,
    Workload,
)
from fsm.compile.egress import originates_of
from fsm.compile.inbound import inbound_half
from fsm.compile.outbound import outbound_half
from fsm.compile.probes import pod_probes
from fsm.compile.telemetry import with_exports
from fsm.model.exclusions import Exclusions as PodExclusions
from fsm.model.exclusions import read_note, wanted
from fsm.model.names import (
    ACCESS_LOG_ANNOTATION,
    GRACEFUL_EXIT_ANNOTATION,
    INJECTED_WITH_ANNOTATION,
)
from fsm.model.snapshot import Snapshot
from fsm.model.workload import Pod
from fsm.policies.plugin.compile import text_of
from fsm.policies.plugin_chain.compile import chains_of
from fsm.settings import AccessLog as AccessLogText
from fsm.settings import Settings

_SWITCH = {"enabled": True, "yes": True, "true": True} | {
    "disabled": False,
    "no": False,
    "false": False,
}
_CUT_MS = 1
"""WHY: 0 means "as long as they like"."""


def compile_proxy(snapshot: Snapshot, pod: Pod, settings: Settings) -> ProxyConfig:
    """Compile the configuration of the proxy beside a Pod.

    Args:
        snapshot: the world; trust roots included.
        pod: the Pod, as the snapshot has it.
        settings: those of the mesh.

    Returns:
        the configuration, with its version.

    """
    own = compile_own(snapshot, pod, settings)
    shared = outbound_half(snapshot, pod.service_account, settings)
    return replace(
        own, outbound=shared.outbound, clusters={**shared.clusters, **own.clusters}
    ).with_version()


def compile_own(snapshot: Snapshot, pod: Pod, settings: Settings) -> ProxyConfig:
    """Compile what no other proxy has: everything but the outbound half and its clusters."""
    past = carried_past(snapshot, pod)
    inbound = inbound_half(snapshot, pod, settings, past.inbound_ports)
    chains = chains_of(snapshot, pod, BUILT_IN_STAGES)
    return ProxyConfig(
        identity=pod.service_account.spiffe(settings.trust_domain),
        workload=Workload(
            namespace=pod.namespace,
            kind=pod.owner_kind,
            name=pod.owner_name or pod.name,
            pod=pod.name,
            service_account=pod.service_account.name,
        ),
        trust=Trust(domain=settings.trust_domain, roots=snapshot.trust_roots),
        inbound=inbound.inbound,
        exclusions=Exclusions(
            ports=past.outbound_ports,
            destinations=past.outbound_ranges,
            all_but=past.outbound_included,
        ),
        clusters=inbound.clusters,
        originates=originates_of(snapshot, pod.service_account, settings),
        chains=Chains(**{field: chains.stages[name] for field, name in CHAIN_FIELDS}),
        plugins=tuple(
            Plugin(name=plugin.name, origin=plugin.origin, script=text_of(plugin))
            for plugin in chains.plugins
        ),
        probes=pod_probes(pod, settings.ports),
        telemetry=with_exports(
            Telemetry(access_log=_access_log(snapshot, pod, settings)), snapshot.mesh
        ),
        timeouts=_timeouts(snapshot, pod, settings),
        connection_limits=DownstreamLimits(
            connection_age_ms=snapshot.mesh.sidecar.connection_age_ms,
            requests_per_connection_max=snapshot.mesh.sidecar.requests_per_connection_max,
            streams_max=snapshot.mesh.sidecar.streams_max,
        ),
    )


def carried_past(snapshot: Snapshot, pod: Pod) -> PodExclusions:
    """Return what the sidecar must let pass because the Pod's own rules do not do it yet."""
    namespace = snapshot.namespaces.get(pod.namespace)
    now = wanted(snapshot.mesh, pod.annotations, namespace.annotations if namespace else {})
    made_with = read_note(pod.annotations.get(INJECTED_WITH_ANNOTATION, ""))
    return now.without(made_with.exclusions)


def _access_log(snapshot: Snapshot, pod: Pod, settings: Settings) -> AccessLog:
    namespace = snapshot.namespaces.get(pod.namespace)
    for found in (pod.annotations, namespace.annotations if namespace else {}):
        value = found.get(ACCESS_LOG_ANNOTATION, "")
        if value in get_args(AccessLogText):
            return AccessLog(value)
    # What people switch on to see what happens, and off to have peace.
    level = snapshot.mesh.sidecar.log_level
    if level in ("trace", "debug"):
        return AccessLog.ALL
    return AccessLog.OFF if level == "disabled" else AccessLog(settings.proxy.access_log)


def _timeouts(snapshot: Snapshot, pod: Pod, settings: Settings) -> Timeouts:
    stated = snapshot.mesh.sidecar.timeout_s
    graceful = snapshot.mesh.sidecar.graceful_exit_until_downstream_ends
    namespace = snapshot.namespaces.get(pod.namespace)
    for found in (namespace.annotations if namespace else {}, pod.annotations):
        graceful = _SWITCH.get(found.get(GRACEFUL_EXIT_ANNOTATION, "").strip().lower(), graceful)
    return Timeouts(
        handshake_ms=settings.proxy.handshake_timeout_ms,
        request_head_ms=settings.proxy.request_head_timeout_ms,
        idle_ms=settings.proxy.idle_timeout_ms if stated is None else stated * 1_000,
        drain_ms=settings.proxy.drain_timeout_ms if graceful else _CUT_MS,
    )
