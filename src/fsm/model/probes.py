"""The application's probes as the sidecar answers them: how they are written into a Pod, and read.

The kubelet has no certificate of the mesh, so it cannot reach the application. The injector has it
ask the sidecar (``sidecar_question``), and the compiler reads from the Pod's spec what the sidecar
may ask the application for it (``probes_from``). Both are here, so that they cannot disagree.

    httpGet :8080/health   ──►  httpGet :15902/fsm-healthcheck
                                    Original-Http-Port: 8080, Original-Http-Path: /health
    tcpSocket :5432        ──►  httpGet :15904/fsm-healthcheck   Original-Tcp-Port: 5432
    httpGet https :8443/…  ──►  httpGet :15902/fsm-healthcheck   Original-Tcp-Port: 8443

WHY from the spec and not from the annotation that keeps the original: the spec's probes cannot be
changed once the Pod exists, annotations can, by whoever may label Pods.
Invariants: pure; a probe that is not of this form is none of ours; reading never fails, for a Pod
whose probe is odd is still a Pod.
Source: fsm-interfaces section 4.6; Kubernetes API reference, v1 Probe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fsm.settings import Ports

Listener = Literal["liveness", "readiness", "startup", "tcp"]

HEALTH_PATH = "/fsm-healthcheck"
HTTP_PORT_HEADER = "Original-Http-Port"
HTTP_PATH_HEADER = "Original-Http-Path"
TCP_PORT_HEADER = "Original-Tcp-Port"
LISTENER_PORTS: Mapping[Listener, int] = {
    "liveness": 15901,
    "readiness": 15902,
    "startup": 15903,
    "tcp": 15904,
}
PROBES: Mapping[str, Listener] = {
    "livenessProbe": "liveness",
    "readinessProbe": "readiness",
    "startupProbe": "startup",
}
"""Fields of a container that hold probes, and the listener that answers for each."""

_OURS = {HTTP_PORT_HEADER.lower(), HTTP_PATH_HEADER.lower(), TCP_PORT_HEADER.lower()}
_LISTENERS = {port: listener for listener, port in LISTENER_PORTS.items()}


@dataclass(frozen=True, slots=True)
class Probe:
    """What the sidecar may ask the application.

    Attributes:
        place: container and field, such as ``app.readinessProbe``.
        listener: where the kubelet asks.
        port: of the application.
        path: path and query; ``None``: it is only connected to.
        host: Host header that the probe sets; ``None``: the Pod's address.
        headers: lower-case names of the other headers that the probe sets.
        timeout_s: how long the kubelet waits, seconds.

    """

    place: str
    listener: Listener
    port: int
    path: str | None = None
    host: str | None = None
    headers: tuple[str, ...] = ()
    timeout_s: int = 1


def sidecar_ports(ports: Ports) -> frozenset[int]:
    """Return the ports on which a sidecar listens: what is there is never the application's."""
    own = (ports.admin, ports.outbound, ports.inbound, ports.metrics)
    return frozenset((*own, *LISTENER_PORTS.values()))


def sidecar_question(
    listener: Listener, port: int, path: str | None, headers: list[dict[str, Any]]
) -> dict[str, Any]:
    """Write the ``httpGet`` that asks the sidecar.

    Args:
        listener: which one; its port is asked.
        port: of the application.
        path: path and query to ask the application for; ``None``: only connect.
        headers: ``httpHeaders`` of the original.

    """
    if path is None:
        ours = [{"name": TCP_PORT_HEADER, "value": str(port)}]
    else:
        kept = [h for h in headers if str(h.get("name", "")).lower() not in _OURS]
        ours = [
            *kept,
            {"name": HTTP_PORT_HEADER, "value": str(port)},
            {"name": HTTP_PATH_HEADER, "value": path},
        ]
    return {"path": HEALTH_PATH, "port": LISTENER_PORTS[listener], "httpHeaders": ours}


def probes_from(spec: Mapping[str, Any]) -> tuple[Probe, ...]:
    """Read what the sidecar may ask, in the order of the spec."""
    found = []
    for field in ("initContainers", "containers"):
        for container in _objects(spec.get(field)):
            for name in PROBES:
                probe = container.get(name)
                if isinstance(probe, Mapping):
                    place = f"{container.get('name', '')}.{name}"
                    if (read := _read(place, probe)) is not None:
                        found.append(read)
    return tuple(found)


def _read(place: str, probe: Mapping[str, Any]) -> Probe | None:
    action = probe.get("httpGet")
    if not isinstance(action, Mapping) or action.get("path") != HEALTH_PATH or action.get("host"):
        return None
    listener = _LISTENERS.get(_number(action.get("port")))
    values = {
        str(header.get("name", "")).lower(): str(header.get("value", ""))
        for header in _objects(action.get("httpHeaders"))
    }
    http = _number(values.get(HTTP_PORT_HEADER.lower()))
    port = http or _number(values.get(TCP_PORT_HEADER.lower()))
    if listener is None or not 0 < port < 65_536 or (http and listener == "tcp"):
        return None
    timeout_s = max(1, _number(probe.get("timeoutSeconds")))
    if not http:
        return Probe(place, listener, port, timeout_s=timeout_s)
    path = values.get(HTTP_PATH_HEADER.lower(), "")
    others = tuple(sorted(name for name in values if name not in _OURS and name != "host"))
    return Probe(place, listener, port, path, values.get("host") or None, others, timeout_s)


def _objects(value: Any) -> list[Mapping[str, Any]]:
    found = value if isinstance(value, list) else []
    return [entry for entry in found if isinstance(entry, Mapping)]


def _number(value: Any) -> int:
    """Read a number as Kubernetes writes it, or as a header does; 0 is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 5:
        return int(value)
    return 0
