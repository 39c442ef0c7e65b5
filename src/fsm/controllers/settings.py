"""What one controller process is told at its start.

What comes in: the environment of its Pod (set by ``fsm.manifests.install``) and flags. What goes
out: frozen settings. Everything that users change while the mesh runs is in MeshConfig instead.

Invariants: a malformed value is an error with its name in words, never a silent default.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, cast

from fsm import __version__
from fsm.injector import InjectionSettings
from fsm.settings import Proxy, Settings

LogLevel = Literal["debug", "info", "warning", "error"]
LOG_LEVELS = ("debug", "info", "warning", "error")
# socket(7) SO_MARK: 32 bits; 0 is what unmarked packets have.
_MARK_MAX = 0xFFFFFFFF


class SettingsError(Exception):
    """A setting is malformed; the message names it and what it may be."""


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """One controller process."""

    mesh: Settings = field(default_factory=Settings)
    """The mesh that it controls."""
    injection: InjectionSettings = field(default_factory=InjectionSettings)
    """What sidecars are made of."""
    identity: str = "fsm-controller"
    """Name of its Pod, by which replicas tell each other apart."""
    pod_uid: str = ""
    """Uid of its Pod; empty: unknown."""
    lease: str = "fsm-controller"
    """Lease in the mesh's namespace; the replica that holds it writes."""
    lease_s: float = 15.0
    """How long it holds without being renewed, seconds; it is renewed seven times as often."""
    host: str = "0.0.0.0"
    """Address that its servers listen on. Its Pod has one address, so all of them."""
    ca_secret: str = "fsm-ca-bundle"
    """Secret in the mesh's namespace with the root certificate and its key."""
    ca_config_map: str = "fsm-ca-bundle"
    """ConfigMap in every namespace of the mesh with the public root certificates."""
    preset_config_map: str = "preset-mesh-config"
    """ConfigMap in the mesh's namespace from which MeshConfig is made if there is none."""
    resync_s: float = 60.0
    """Period of every reconciling loop, seconds, beside the signals that wake it."""
    sync_timeout_s: float = 20.0
    """A start waits this long for the API, seconds, before it says that it waits; it goes on."""
    status_delay_s: float = 0.1
    """Pause before statuses are written, seconds, so that one change is written once."""
    status_settle_s: float = 2.0
    """Status waits this long for proxies to apply a change, seconds, before it says "pending"."""

    @classmethod
    def from_environment(
        cls,
        environ: Mapping[str, str],
        *,
        mesh_name: str | None = None,
        fsm_namespace: str | None = None,
        log_level: str | None = None,
    ) -> ControllerSettings:
        """Read the environment; arguments that are given go before it.

        Reads ``FSM_MESH_NAME``, ``FSM_NAMESPACE``, ``FSM_TRUST_DOMAIN``, ``FSM_LOG_LEVEL``,
        ``FSM_SIDECAR_MARK`` (a number, or empty), ``FSM_SIDECAR_IMAGE``, ``FSM_INIT_IMAGE``,
        ``FSM_IMAGE_PULL_POLICY``, ``FSM_REQUIRE_TARGET_NAMESPACE`` (true or false),
        ``FSM_POD_NAME``, ``FSM_POD_UID``.

        Raises:
            SettingsError: one of them is malformed.
        """
        level = (log_level or environ.get("FSM_LOG_LEVEL") or "info").lower()
        if level not in LOG_LEVELS:
            raise SettingsError(f"the log level {level!r} is none of {', '.join(LOG_LEVELS)}")
        mark = _mark(environ.get("FSM_SIDECAR_MARK", ""))
        mesh = Settings(
            mesh_name=mesh_name or environ.get("FSM_MESH_NAME") or "fsm",
            fsm_namespace=fsm_namespace or environ.get("FSM_NAMESPACE") or "fsm-system",
            trust_domain=environ.get("FSM_TRUST_DOMAIN") or "cluster.local",
            log_level=cast(LogLevel, level),
            require_target_namespace=_flag(environ, "FSM_REQUIRE_TARGET_NAMESPACE"),
            proxy=Proxy(carries_udp=mark is not None),
        )
        injection = InjectionSettings(
            mesh_name=mesh.mesh_name,
            fsm_namespace=mesh.fsm_namespace,
            sidecar_image=f"flomesh/pipy:{__version__}",
            init_image=f"flomesh/fsm-sidecar-init:{__version__}",
            ports=mesh.ports,
            mark=mark,
        )
        if image := environ.get("FSM_SIDECAR_IMAGE"):
            injection = replace(injection, sidecar_image=image)
        if image := environ.get("FSM_INIT_IMAGE"):
            injection = replace(injection, init_image=image)
        if policy := environ.get("FSM_IMAGE_PULL_POLICY"):
            injection = replace(injection, pull_policy=policy)
        return cls(
            mesh=mesh,
            injection=injection,
            identity=environ.get("FSM_POD_NAME") or socket.gethostname(),
            pod_uid=environ.get("FSM_POD_UID") or "",
        )


def _flag(environ: Mapping[str, str], name: str) -> bool:
    text = environ.get(name) or "true"
    if text not in ("true", "false"):
        raise SettingsError(f"{name} is {text!r}; it must be true or false")
    return text == "true"


def _mark(text: str) -> int | None:
    if not text.strip():
        return None
    try:
        mark = int(text, 0)
    except ValueError:
        mark = 0
    if not 0 < mark <= _MARK_MAX:
        raise SettingsError(f"FSM_SIDECAR_MARK is {text!r}; it must be a number such as 0xf5")
    return mark
