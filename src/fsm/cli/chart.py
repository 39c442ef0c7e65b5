"""What the values of an installation mean: the keys of the chart that users know, and their effect.

What comes in: a tree of values (``values``). What goes out: a ``Plan``: the settings of the control
plane, what MeshConfig shall say, and changes to the rendered objects.

``KNOBS`` is the one table of keys; the reference page is made from it.
Invariants: every key that is given has an effect, or a note says that and why it has none; a key
that nobody knows is refused with the nearest known ones; all problems are told at once; the spec is
judged by the same validation as MeshConfig itself.
Source: fsm-interfaces section 11 for the names.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from fsm.cli import values
from fsm.cli.errors import ExitCode, Failure

if TYPE_CHECKING:
    from fsm.settings import Settings

PREFIXES = ("fsm", "osm", "OpenServiceMesh")
"""The mesh's own values, under its name of each era."""


@dataclass(frozen=True, slots=True)
class Knob:
    """One key of the chart, or with a trailing dot all keys below it.

    Attributes:
        key: without the mesh's own name in front.
        spec: where in MeshConfig's ``spec`` it goes.
        setting: the field of ``Settings`` that it is.
        part: the part of the rendered objects that it changes.
        unused: why it has no effect here.
    """

    key: str
    spec: str = ""
    setting: str = ""
    part: str = ""
    unused: str = ""


_LATER = "this version has no such component"
_SIZE = "one controller does the work of all; see fsm.fsmController"

KNOBS = (
    Knob("enablePermissiveTrafficPolicy", "traffic.enablePermissiveTrafficPolicyMode"),
    Knob("enableEgress", "traffic.enableEgress"),
    Knob("trafficInterceptionMode", "traffic.interceptionMode"),
    Knob("serviceAccessMode", "traffic.serviceAccessMode"),
    Knob("http1PerRequestLoadBalancing", "traffic.http1PerRequestLoadBalancing"),
    Knob("http2PerRequestLoadBalancing", "traffic.http2PerRequestLoadBalancing"),
    Knob("outboundIPRangeExclusionList", "traffic.outboundIPRangeExclusionList"),
    Knob("outboundIPRangeInclusionList", "traffic.outboundIPRangeInclusionList"),
    Knob("outboundPortExclusionList", "traffic.outboundPortExclusionList"),
    Knob("inboundPortExclusionList", "traffic.inboundPortExclusionList"),
    Knob("networkInterfaceExclusionList", "traffic.networkInterfaceExclusionList"),
    Knob("maxDataPlaneConnections", "sidecar.maxDataPlaneConnections"),
    Knob("configResyncInterval", "sidecar.configResyncInterval"),
    Knob("localProxyMode", "sidecar.localProxyMode"),
    Knob("enablePrivilegedInitContainer", "sidecar.enablePrivilegedInitContainer"),
    Knob("sidecarLogLevel", "sidecar.logLevel"),
    Knob("sidecar.sidecarLogLevel", "sidecar.logLevel"),
    Knob("sidecar.image", "sidecar.sidecarImage"),
    Knob("sidecar.sidecarDisabledMTLS", "sidecar.sidecarDisabledMTLS"),
    Knob("sidecar.sidecarTimeout", "sidecar.sidecarTimeout"),
    Knob("sidecar.maxConnectionAge", "sidecar.maxConnectionAge"),
    Knob("sidecar.maxRequestsPerConnection", "sidecar.maxRequestsPerConnection"),
    Knob("sidecar.maxConcurrentStreams", "sidecar.maxConcurrentStreams"),
    Knob("sidecar.compressConfig", "sidecar.compressConfig"),
    Knob("sidecar.holdApplicationUntilProxyStarts", "sidecar.holdApplicationUntilProxyStarts"),
    Knob("sidecar.gracefulExitUntilDownstreamEnds", "sidecar.gracefulExitUntilDownstreamEnds"),
    Knob("localDNSProxy.", "sidecar.localDNSProxy"),
    Knob(
        "certificateProvider.serviceCertValidityDuration", "certificate.serviceCertValidityDuration"
    ),
    Knob("certificateProvider.certKeyBitSize", "certificate.certKeyBitSize"),
    Knob("featureFlags.", "featureFlags"),
    Knob("pluginChains.", "pluginChains"),
    Knob("tracing.", "observability.tracing"),
    Knob("remoteLogging.", "observability.remoteLogging"),
    Knob("warmup.", "warmup"),
    Knob("controllerLogLevel", "observability.fsmLogLevel", setting="log_level"),
    Knob("meshName", setting="mesh_name"),
    Knob("fsmNamespace", setting="fsm_namespace"),
    Knob("trustDomain", setting="trust_domain"),
    Knob("smi.validateTrafficTarget", setting="require_target_namespace"),
    Knob("image.registry", part="registry"),
    Knob("image.tag", part="tag"),
    Knob("image.pullPolicy", part="pull_policy"),
    Knob("imagePullSecrets", part="pull_secrets"),
    Knob("fsmController.resource.", part="resources"),
    Knob("fsmController.", unused="only fsm.fsmController.resource is followed"),
    Knob("certificateProvider.kind", part="provider"),
    Knob("enforceSingleMesh", unused="it is the option --enforce-single-mesh"),
    Knob("caBundleSecretName", unused="the Secret is always fsm-ca-bundle"),
    Knob("webhookConfigNamePrefix", unused="the names are fixed"),
    Knob("repoServer.", unused="configurations are delivered by the controller itself"),
    Knob("injector.", unused=_SIZE),
    Knob("fsmBootstrap.", unused=_SIZE),
    Knob("enableReconciler", unused="`fsm mesh upgrade` restores what was changed"),
    Knob("cleanup.", unused=_LATER),
    *(
        Knob(key, unused=_LATER)
        for key in (
            *("deployPrometheus", "deployGrafana", "deployJaeger", "enableFluentbit"),
            *("prometheus.", "grafana.", "fluentBit.", "fsmIngress.", "ingress.", "fsmGateway."),
            *("egressGateway.", "serviceLB.", "flb.", "vault.", "certmanager.", "fsmXnetwork."),
            *("xnetDNSProxy.", "cloudConnector.", "deployConsulConnector", "enableMultiClusters"),
            "clusterSet.",
        )
    ),
)
TOP_LEVEL = ("smi", "clusterSet")
"""Keys that stand beside the mesh's own name, not below it."""

LOG_LEVELS = {"trace": "debug", "warn": "warning", "disabled": "error"}
"""Levels of the chart that the controller calls otherwise."""


@dataclass(frozen=True, slots=True)
class Plan:
    """An installation as its values want it."""

    settings: Settings
    spec: dict[str, Any] = field(default_factory=dict)
    """What MeshConfig says where the values say something."""
    parts: dict[str, Any] = field(default_factory=dict)
    """What changes in the rendered objects."""
    notes: tuple[str, ...] = ()
    """Sentences about values that have no effect."""
    given: dict[str, Any] = field(default_factory=dict)
    """The values themselves, kept for the next upgrade."""


def plan(settings: Settings, given: Mapping[str, Any]) -> Plan:
    """Work out what values mean.

    Raises:
        Failure: some are unknown or wrong; names all of them.
    """
    spec: dict[str, Any] = {}
    parts: dict[str, Any] = {}
    changes: dict[str, Any] = {}
    notes: list[str] = []
    problems: list[str] = []
    for key, value in values.leaves(given):
        knob, rest = find(key)
        if knob is None:
            problems.append(unknown(key))
            continue
        if knob.unused:
            notes.append(f"{key} has no effect: {knob.unused}")
        if knob.spec:
            values.put(spec, f"{knob.spec}.{rest}" if rest else knob.spec, value)
        if knob.setting:
            changes[knob.setting] = value
        if knob.part:
            values.put(parts, f"{knob.part}.{rest}" if rest else knob.part, value)
    problems += _judge_settings(changes) + _judge_parts(parts) + _judge_spec(spec)
    if problems:
        raise Failure("\n       ".join(problems), code=ExitCode.USAGE, hint=_HINT)
    return Plan(replace(settings, **changes), spec, parts, tuple(notes), dict(given))


_HINT = "the keys are listed in docs/reference/install-values.md"


def find(key: str) -> tuple[Knob | None, str]:
    """Return the knob of a key, and what of the key is below it."""
    bare = _bare(key)
    for knob in KNOBS:
        if bare == knob.key or bare == knob.key.removesuffix("."):
            return knob, ""
        if knob.key.endswith(".") and bare.startswith(knob.key):
            return knob, bare.removeprefix(knob.key)
    return None, ""


def unknown(key: str) -> str:
    """Say that nobody knows a key, and which it may have been."""
    keys = {full_key(knob).removesuffix(".") for knob in KNOBS}
    near = difflib.get_close_matches(f"fsm.{_bare(key)}", sorted(keys), n=2, cutoff=0.75)
    return f"unknown value {key}" + (f" (did you mean {' or '.join(near)}?)" if near else "")


def full_key(knob: Knob) -> str:
    """Return the key as users write it."""
    return knob.key if knob.key.startswith(TOP_LEVEL) else f"fsm.{knob.key}"


def _bare(key: str) -> str:
    head, _, rest = key.partition(".")
    return rest if head in PREFIXES else key


def _judge_settings(changes: dict[str, Any]) -> list[str]:
    import re

    problems = []
    level = changes.get("log_level")
    if level is not None:
        changes["log_level"] = level = LOG_LEVELS.get(str(level), str(level))
        if level not in ("debug", "info", "warning", "error"):
            problems.append(
                f"fsm.controllerLogLevel is {level!r}; it is debug, info, warn or error"
            )
    name = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
    for setting, pattern in (
        ("mesh_name", name),
        ("fsm_namespace", name),
        ("trust_domain", rf"{name}(\.{name})*"),
    ):
        value = changes.get(setting)
        if value is not None and not re.fullmatch(pattern, str(value)):
            problems.append(f"{setting.replace('_', ' ')} {value!r} is not a valid name")
    strict = changes.get("require_target_namespace")
    if strict is not None and not isinstance(strict, bool):
        problems.append(f"smi.validateTrafficTarget is {strict!r}; it is true or false")
    return problems


def _judge_parts(parts: Mapping[str, Any]) -> list[str]:
    provider = parts.get("provider", "tresor")
    if provider != "tresor":
        return [f"fsm.certificateProvider.kind is {provider!r}; this version has tresor"]
    policy = parts.get("pull_policy", "Always")
    if policy not in ("Always", "IfNotPresent", "Never"):
        return [f"fsm.image.pullPolicy is {policy!r}; it is Always, IfNotPresent or Never"]
    return []


def _judge_spec(spec: Mapping[str, Any]) -> list[str]:
    from fsm import policies

    obj = {
        "apiVersion": "config.flomesh.io/v1alpha3",
        "kind": "MeshConfig",
        "metadata": {"name": "fsm-mesh-config", "namespace": "fsm-system"},
        "spec": spec,
    }
    found = []
    for violation in policies.validate(obj) if spec else ():
        path = violation.path.removeprefix("spec.")
        knob = next((k for k in KNOBS if k.spec and path.startswith(k.spec)), None)
        found.append(f"{full_key(knob).removesuffix('.') if knob else path}: {violation.message}")
    return found
