"""What a Pod, its namespace and the mesh say about injection, read into one typed value.

What comes in: annotations as people write them, MeshConfig, settings of the installation. What goes
out: ``Options``, or a ``Refusal`` that names the annotation, what it says and what it may say.

Invariants: a Pod's annotation goes before its namespace's, that before MeshConfig; lists of
exclusions add up; names of the old mesh are read like the current ones.
Source: fsm-interfaces section 4.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fsm.injector.ruleset import Redirection, parse_networks
from fsm.model.exclusions import Exclusions, wanted
from fsm.model.mesh_config import MeshConfig
from fsm.model.names import INJECTION_ANNOTATIONS
from fsm.settings import Ports

_YES = ("enabled", "yes", "true")
_NO = ("disabled", "no", "false")
_PREFIXES = ("flomesh.io/", "openservicemesh.io/")
_RESOURCES = ("cpu", "memory", "storage", "ephemeral-storage")


@dataclass(frozen=True, slots=True)
class InjectionSettings:
    """What an installation decides about every sidecar.

    Attributes:
        mesh_name: value of the label ``flomesh.io/monitored-by``.
        fsm_namespace: where the control plane is.
        sidecar_image: used where MeshConfig names none.
        init_image: of the container that installs the redirection.
        pull_policy: of both.
        ports: of sidecar and control plane.
        mark: packet mark by which the sidecar's traffic is told apart; ``None``: by ``uid``.
        uid: user id of the sidecar, where there are users to choose from.
        ca_config_map: ConfigMap in every namespace of the mesh that holds the public roots.
        token_audience: of the token with which the sidecar proves who it is.
        token_lifetime_s: of that token, seconds; the kubelet renews it in time.
    """

    mesh_name: str = "fsm"
    fsm_namespace: str = "fsm-system"
    sidecar_image: str = "flomesh/pipy:latest"
    init_image: str = "flomesh/fsm-sidecar-init:latest"
    pull_policy: str = "IfNotPresent"
    ports: Ports = field(default_factory=Ports)
    mark: int | None = None
    uid: int = 1500
    ca_config_map: str = "fsm-ca-bundle"
    token_audience: str = "fsm-controller"
    token_lifetime_s: int = 3600


@dataclass(frozen=True, slots=True)
class Refusal:
    """The Pod must not be created like this; the reason is for the person who tried."""

    reason: str


@dataclass(frozen=True, slots=True)
class Options:
    """How this Pod is to be injected."""

    redirection: Redirection
    exclusions: Exclusions
    sidecar_image: str
    log_level: str
    hold_application: bool
    privileged_init: bool
    sidecar_resources: Mapping[str, Any]
    init_resources: Mapping[str, Any]
    scrape_metrics: bool


class Layers:
    """Annotations of a Pod and its namespace; remembers all that is wrong with them."""

    def __init__(self, pod: Mapping[str, Any], namespace: Mapping[str, Any]) -> None:
        self._pod = pod
        self._namespace = namespace
        self.problems: list[str] = []

    def text(self, name: str) -> tuple[str, str] | None:
        """Find an annotation; returns where it stands, for messages, and what it says."""
        for owner, notes in (("Pod", self._pod), ("Namespace", self._namespace)):
            for prefix in _PREFIXES:
                if (value := notes.get(prefix + name)) is not None:
                    return f"annotation {prefix}{name} of the {owner}", str(value)
        return None

    def flag(self, name: str, default: bool) -> bool:
        """Read a switch; anything but the known words is a problem."""
        found = self.text(name)
        if found is None:
            return default
        where, value = found
        word = value.strip().lower()
        if word not in (*_YES, *_NO):
            self.problems.append(f"{where} is {value!r}; it may be {_words()}")
            return default
        return word in _YES

    def ports(self, name: str) -> None:
        """Look at a comma list of ports."""
        where, value = self.text(name) or ("", "")
        for part in _parts(value):
            if not part.isascii() or not part.isdigit() or not 0 < int(part) < 65536:
                self.problems.append(f"{where} lists {part!r}, which is no port from 1 to 65535")

    def networks(self, name: str) -> None:
        """Look at a comma list of networks."""
        where, value = self.text(name) or ("", "")
        try:
            parse_networks(_parts(value))
        except ValueError as error:
            self.problems.append(f"{where}: {error}")

    def resources(self, base: Mapping[str, Any]) -> dict[str, Any]:
        """Read the sidecar's resources: annotations over what MeshConfig says."""
        merged: dict[str, Any] = {key: value for key, value in base.items() if value}
        for kind in ("limits", "requests"):
            for resource in _RESOURCES:
                found = self.text(f"sidecar-resource-{kind}-{resource}")
                if found is not None:
                    merged[kind] = {**merged.get(kind, {}), resource: found[1]}
        return merged


def wants_sidecar(
    pod_annotations: Mapping[str, Any], namespace_annotations: Mapping[str, Any]
) -> bool | Refusal:
    """Read the switch itself: the Pod's word, else its namespace's, else no."""
    for owner, notes in (("Pod", pod_annotations), ("Namespace", namespace_annotations)):
        for key in INJECTION_ANNOTATIONS:
            if (value := notes.get(key)) is None:
                continue
            word = str(value).strip().lower()
            if word in _YES:
                return True
            if word in _NO:
                return False
            return Refusal(f"annotation {key} of the {owner} is {value!r}; it may be {_words()}")
    return False


def read_options(
    pod_annotations: Mapping[str, Any],
    namespace_annotations: Mapping[str, Any],
    mesh: MeshConfig,
    settings: InjectionSettings,
) -> Options | Refusal:
    """Read everything else; a Refusal lists all that is wrong at once."""
    layers = Layers(pod_annotations, namespace_annotations)
    sidecar = mesh.sidecar
    for name in ("outbound-port-exclusion-list", "inbound-port-exclusion-list"):
        layers.ports(name)
    for name in ("outbound-ip-range-exclusion-list", "outbound-ip-range-inclusion-list"):
        layers.networks(name)
    exclusions = wanted(mesh, pod_annotations, namespace_annotations)
    image = layers.text("sidecar-image")
    redirection = Redirection(
        ports=settings.ports,
        mark=settings.mark,
        uid=settings.uid,
        outbound_ports_excluded=exclusions.outbound_ports,
        inbound_ports_excluded=exclusions.inbound_ports,
        outbound_ranges_excluded=exclusions.outbound_ranges,
        outbound_ranges_included=exclusions.outbound_included,
        interfaces_excluded=exclusions.interfaces,
        # Only root may capture, and a sidecar that is known by its user id is not root.
        udp=settings.mark is not None,
    )
    options = Options(
        redirection=redirection,
        exclusions=exclusions,
        sidecar_image=image[1] if image else sidecar.image or settings.sidecar_image,
        log_level=sidecar.log_level,
        hold_application=layers.flag(
            "hold-application-until-proxy-starts", sidecar.hold_application_until_proxy_starts
        ),
        privileged_init=sidecar.enable_privileged_init_container,
        sidecar_resources=layers.resources(sidecar.resources),
        init_resources=sidecar.init_resources,
        scrape_metrics=layers.flag("metrics", False),
    )
    return Refusal("; ".join(layers.problems)) if layers.problems else options


def _parts(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]


def _words() -> str:
    return ", ".join(_YES) + " or " + ", ".join(_NO)
