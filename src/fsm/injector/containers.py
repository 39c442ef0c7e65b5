"""What is added to a Pod: two init containers and one volume.

What comes in: ``Options`` and the settings of the installation. What goes out: pieces of a PodSpec.

    fsm-init   installs the redirection, ends
    sidecar    a native sidecar: starts next, is ready before anything else starts, ends last
    (the Pod's own init containers, then its containers)

WHY the sidecar stands before the Pod's own init containers: from the moment that fsm-init ends,
every connection is redirected. Init containers that fetch something would otherwise find nobody
there; and this way what they do is encrypted and authorised like the rest.
Invariants: no secret and no key is in here; the kubelet projects the token, bound to the Pod.
Source: https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from fsm.injector.options import InjectionSettings, Options
from fsm.injector.ruleset import Redirection, capture_routes, redirect_ruleset
from fsm.model.probes import LISTENER_PORTS, Listener

INIT_NAME = "fsm-init"
SIDECAR_NAME = "sidecar"
VOLUME_NAME = "fsm-identity"
MOUNT_PATH = "/var/run/secrets/fsm"
# LIMIT: a sidecar that has no configuration after a minute is started anew.
STARTUP_ATTEMPTS = 60


def init_container(options: Options, settings: InjectionSettings) -> dict[str, Any]:
    """Build the container that installs the redirection.

    Raises:
        ValueError: a value of MeshConfig cannot be part of a ruleset; names it.
    """
    container: dict[str, Any] = {
        "name": INIT_NAME,
        "image": settings.init_image,
        "imagePullPolicy": settings.pull_policy,
        "command": _redirect(options.redirection),
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": 0,
            "runAsNonRoot": False,
            "privileged": options.privileged_init,
            "allowPrivilegeEscalation": options.privileged_init,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
        },
    }
    if options.init_resources:
        container["resources"] = dict(options.init_resources)
    return container


def sidecar_container(
    options: Options,
    settings: InjectionSettings,
    controller: tuple[str, str],
    probes: Collection[Listener] = (),
) -> dict[str, Any]:
    """Build the sidecar.

    Args:
        options: of this Pod.
        settings: of the installation.
        controller: kind and name of what owns the Pod, as users know it.
        probes: listeners on which it answers probes of the application.
    """
    ports = settings.ports
    command = [
        "pipy",
        "sidecar",
        "--control-plane",
        f"https://fsm-controller.{settings.fsm_namespace}.svc:{ports.delivery}",
        "--ca",
        f"{MOUNT_PATH}/ca.crt",
        "--token",
        f"{MOUNT_PATH}/token",
        "--workers",
        "1",
    ]
    if settings.mark is not None:
        command += ["--mark", f"{settings.mark:#x}"]
    if options.redirection.udp:
        command.append("--udp")
    container: dict[str, Any] = {
        "name": SIDECAR_NAME,
        "image": options.sidecar_image,
        "imagePullPolicy": settings.pull_policy,
        "restartPolicy": "Always",
        "command": command,
        "env": _environment(settings, controller),
        "ports": [
            {"name": "proxy-admin", "containerPort": ports.admin},
            {"name": "proxy-outbound", "containerPort": ports.outbound},
            {"name": "proxy-inbound", "containerPort": ports.inbound},
            {"name": "proxy-metrics", "containerPort": ports.metrics},
            *(
                {"name": f"{listener}-probe", "containerPort": port}
                for listener, port in LISTENER_PORTS.items()
                if listener in probes
            ),
        ],
        "securityContext": _sidecar_security(settings, options.redirection),
        "volumeMounts": [{"name": VOLUME_NAME, "mountPath": MOUNT_PATH, "readOnly": True}],
    }
    if options.hold_application:
        container["startupProbe"] = {
            "httpGet": {"path": "/ready", "port": ports.metrics},
            "periodSeconds": 1,
            "timeoutSeconds": 1,
            "failureThreshold": STARTUP_ATTEMPTS,
        }
    if options.sidecar_resources:
        container["resources"] = dict(options.sidecar_resources)
    return container


def identity_volume(settings: InjectionSettings) -> dict[str, Any]:
    """Build the volume: a token for the control plane only, and the roots to know it by."""
    token = {
        "audience": settings.token_audience,
        "expirationSeconds": settings.token_lifetime_s,
        "path": "token",
    }
    roots = {"name": settings.ca_config_map, "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    return {
        "name": VOLUME_NAME,
        "projected": {
            "defaultMode": 0o444,
            "sources": [{"serviceAccountToken": token}, {"configMap": roots}],
        },
    }


def _redirect(wish: Redirection) -> list[str]:
    """Return the command that installs the redirection, without UDP where the kernel refuses it."""
    if not wish.udp:
        return ["nft", redirect_ruleset(wish)]
    script = (
        f"capture() {{\n{capture_routes(wish)}\n}}\n"
        'if nft "$1" && (capture); then exit 0; fi\n'
        'echo "UDP passes the sidecar by: this kernel cannot capture it (nft_tproxy)" >&2\n'
        'exec nft "$2"'
    )
    plain = replace(wish, udp=False)
    return ["sh", "-c", script, INIT_NAME, redirect_ruleset(wish), redirect_ruleset(plain)]


def _sidecar_security(settings: InjectionSettings, wish: Redirection) -> dict[str, Any]:
    security: dict[str, Any] = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    if settings.mark is None:
        security |= {
            "runAsUser": settings.uid,
            "runAsGroup": settings.uid,
            "runAsNonRoot": True,
        }
    else:
        # socket(7): setting SO_MARK needs CAP_NET_ADMIN; raw(7): answering for others, CAP_NET_RAW.
        more = ["NET_RAW"] if wish.udp else []
        security["capabilities"] = {"drop": ["ALL"], "add": ["NET_ADMIN", *more]}
    return security


def _environment(settings: InjectionSettings, controller: tuple[str, str]) -> list[dict[str, Any]]:
    fields = {
        "POD_NAME": "metadata.name",
        "POD_NAMESPACE": "metadata.namespace",
        "POD_UID": "metadata.uid",
        "POD_IP": "status.podIP",
        "SERVICE_ACCOUNT": "spec.serviceAccountName",
    }
    plain = {
        "MESH_NAME": settings.mesh_name,
        "POD_CONTROLLER_KIND": controller[0],
        "POD_CONTROLLER_NAME": controller[1],
    }
    return [
        *(
            {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
            for name, path in fields.items()
        ),
        *({"name": name, "value": value} for name, value in plain.items()),
    ]
