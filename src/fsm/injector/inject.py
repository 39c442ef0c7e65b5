"""The injector as one pure function: a Pod in; a patch, a refusal, or nothing out.

What comes in: the Pod as the API server is about to create it, its Namespace object, MeshConfig,
the settings of the installation and a fresh id. What goes out: JSON patch operations (RFC 6902).

Decided in this order:
  hostNetwork, namespace not of this mesh ──► nothing (rules in the host's network would hit all)
  already injected ──► nothing       (the API server may ask twice, see reinvocationPolicy)
  the switch: Pod, else Namespace, else no; an unknown word ──► refusal
  options; anything malformed ──► refusal that lists all of it
  the name of our container or volume is taken ──► refusal

Invariants: same arguments, same patch; applying the patch makes the function return nothing; the
Pod's own containers, volumes and order stay as they are, but for probes (``probes``), whose
originals an annotation keeps.
Not done here: ``httpGet`` hooks of ``lifecycle``, which the kubelet calls over the network too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fsm.injector.containers import (
    INIT_NAME,
    SIDECAR_NAME,
    VOLUME_NAME,
    identity_volume,
    init_container,
    sidecar_container,
)
from fsm.injector.options import InjectionSettings, Options, Refusal, read_options, wants_sidecar
from fsm.injector.probes import rewrite_probes
from fsm.model.exclusions import note
from fsm.model.mesh_config import MeshConfig
from fsm.model.names import (
    INJECTED_WITH_ANNOTATION,
    ORIGINAL_PROBES_ANNOTATION,
    POD_TEMPLATE_HASH_LABEL,
    PROXY_UUID_LABEL,
)
from fsm.model.probes import sidecar_ports
from fsm.model.workload import Namespace
from fsm.policies.mesh_config.effects import counted_at_injection

JsonObject = dict[str, Any]
Patch = list[JsonObject]


def inject(
    pod: Mapping[str, Any],
    namespace: Mapping[str, Any],
    mesh: MeshConfig,
    settings: InjectionSettings,
    proxy_uuid: str,
) -> Patch | Refusal | None:
    """Decide about a Pod and build its patch.

    Args:
        pod: as in the AdmissionReview; its name may not be chosen yet.
        namespace: the Namespace object.
        mesh: what users configured for the mesh.
        settings: of the installation.
        proxy_uuid: a fresh UUID; becomes the label ``fsm-proxy-uuid``.

    Returns:
        Operations to apply; a refusal; or ``None``, the Pod is none of our business.
    """
    spec, meta = pod.get("spec") or {}, pod.get("metadata") or {}
    annotations = meta.get("annotations") or {}
    around = namespace.get("metadata") or {}
    home = Namespace(
        str(around.get("name", "")), around.get("labels") or {}, around.get("annotations") or {}
    )
    if spec.get("hostNetwork") is True or not home.monitored_by(settings.mesh_name):
        return None
    if _injected(spec):
        return None
    wanted = wants_sidecar(annotations, home.annotations)
    if not wanted or isinstance(wanted, Refusal):
        return wanted or None
    options = read_options(annotations, home.annotations, mesh, settings)
    if isinstance(options, Refusal):
        return options
    if taken := _taken(spec):
        return Refusal(f"{taken} has a name that the injected sidecar needs; rename it")
    try:
        return _patch(meta, spec, options, mesh, settings, proxy_uuid)
    except ValueError as error:
        return Refusal(f"MeshConfig {mesh.key}: {error}")


def owner_of(meta: Mapping[str, Any]) -> tuple[str, str]:
    """Name what owns a Pod as users know it: the Deployment rather than its ReplicaSet."""
    for reference in meta.get("ownerReferences") or []:
        if not reference.get("controller"):
            continue
        kind, name = str(reference.get("kind", "")), str(reference.get("name", ""))
        suffix = f"-{(meta.get('labels') or {}).get(POD_TEMPLATE_HASH_LABEL, '')}"
        if kind == "ReplicaSet" and len(suffix) > 1 and name.endswith(suffix):
            return "Deployment", name.removesuffix(suffix)
        return kind, name
    return "Pod", str(meta.get("name") or meta.get("generateName", "").rstrip("-"))


def _injected(spec: Mapping[str, Any]) -> bool:
    """Whether all that we add is there: ours is recognised by the volume, not by a label alone."""
    inits = {found.get("name") for found in spec.get("initContainers") or []}
    volumes = {found.get("name") for found in spec.get("volumes") or []}
    return {INIT_NAME, SIDECAR_NAME} <= inits and VOLUME_NAME in volumes


def _taken(spec: Mapping[str, Any]) -> str:
    for field in ("initContainers", "containers"):
        for found in spec.get(field) or []:
            if found.get("name") in (INIT_NAME, SIDECAR_NAME):
                return f"the container {found['name']!r}"
    for found in spec.get("volumes") or []:
        if found.get("name") == VOLUME_NAME:
            return f"the volume {VOLUME_NAME!r}"
    return ""


def _patch(
    meta: Mapping[str, Any],
    spec: Mapping[str, Any],
    options: Options,
    mesh: MeshConfig,
    settings: InjectionSettings,
    proxy_uuid: str,
) -> Patch:
    probes = rewrite_probes(spec, sidecar_ports(settings.ports))
    first = [
        init_container(options, settings),
        sidecar_container(options, settings, owner_of(meta), probes.listeners),
    ]
    # Probes first: their paths count containers before ours stand among them.
    patch = [*probes.patch]
    patch += _prepend("/spec/initContainers", spec.get("initContainers"), first)
    volume = identity_volume(settings)
    if spec.get("volumes"):
        patch.append({"op": "add", "path": "/spec/volumes/-", "value": volume})
    else:
        patch.append({"op": "add", "path": "/spec/volumes", "value": [volume]})
    patch += _add_keys("/metadata/labels", meta.get("labels"), {PROXY_UUID_LABEL: proxy_uuid})
    notes = {INJECTED_WITH_ANNOTATION: note(options.exclusions, counted_at_injection(mesh))}
    if options.scrape_metrics:
        notes |= {
            "prometheus.io/scrape": "true",
            "prometheus.io/port": str(settings.ports.metrics),
            "prometheus.io/path": "/stats/prometheus",
        }
    if probes.originals:
        notes[ORIGINAL_PROBES_ANNOTATION] = json.dumps(probes.originals, sort_keys=True)
    patch += _add_keys("/metadata/annotations", meta.get("annotations"), notes)
    return patch


def _prepend(path: str, existing: Any, values: list[JsonObject]) -> Patch:
    if not existing:
        return [{"op": "add", "path": path, "value": values}]
    return [
        {"op": "add", "path": f"{path}/{index}", "value": value}
        for index, value in enumerate(values)
    ]


def _add_keys(path: str, existing: Any, values: dict[str, str]) -> Patch:
    if not existing:
        return [{"op": "add", "path": path, "value": values}]
    # RFC 6901 section 3: "~" and "/" inside a key are escaped.
    return [
        {
            "op": "add",
            "path": f"{path}/{key.replace('~', '~0').replace('/', '~1')}",
            "value": value,
        }
        for key, value in values.items()
    ]
