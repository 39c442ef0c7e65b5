"""The application's probes, rewritten so that the kubelet asks the sidecar.

What comes in: the Pod's spec as the user wrote it, and the ports of the sidecar. What goes out:
patch operations, and the originals for the annotation that keeps them for people.

    httpGet                 ──► the listener of its kind (15901, 15902, 15903), asked over HTTP
    httpGet, scheme HTTPS   ──► the same listener, which only connects: it has no trust in the
                                application's certificate, and the kubelet checks none
    tcpSocket               ──► listener 15904, which only connects

Left as they are: exec and gRPC probes; probes of another host; probes of the sidecar's own ports
(among them those that were rewritten before); named ports that the container does not declare, so
that the kubelet says about them what it always says; containers that end before the Pod's start is
complete, which have no probes.
Invariants: pure; only the handler of a probe changes, never its periods and thresholds.
Source: fsm-interfaces section 4.6; Kubernetes API reference, v1 Probe and HTTPGetAction.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fsm.model.probes import PROBES, Listener, sidecar_question

JsonObject = dict[str, Any]
# What stays as it is in a request target: RFC 3986 section 3.3 and 3.4, and "%", as people escape
# paths themselves.
_TARGET_CHARACTERS = "/?:@!$&'()*+,;=-._~%[]"


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What becomes of a Pod's probes.

    Attributes:
        patch: operations, for a spec in which nothing has been inserted yet.
        originals: container → field → handler as it was.
        listeners: listeners of the sidecar that have something to answer.

    """

    patch: tuple[JsonObject, ...]
    originals: Mapping[str, Mapping[str, JsonObject]]
    listeners: frozenset[Listener]


def rewrite_probes(spec: Mapping[str, Any], own_ports: Collection[int]) -> Rewritten:
    """Rewrite the probes of a Pod.

    Args:
        spec: of the Pod, before anything of ours is in it.
        own_ports: on which the sidecar listens; probes of these are left alone.

    """
    patch: list[JsonObject] = []
    originals: dict[str, dict[str, JsonObject]] = {}
    listeners: set[Listener] = set()
    for field in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(field) or []):
            for name, listener in PROBES.items():
                probe = container.get(name)
                if not isinstance(probe, dict):
                    continue
                asked = _rewrite(probe, container, listener, own_ports)
                if asked is None:
                    continue
                asks, question = asked
                handler = {k: probe[k] for k in ("httpGet", "tcpSocket") if probe.get(k)}
                kept = {k: v for k, v in probe.items() if k not in ("httpGet", "tcpSocket")}
                value = {**kept, "httpGet": question}
                path = f"/spec/{field}/{index}/{name}"
                patch.append({"op": "replace", "path": path, "value": value})
                originals.setdefault(str(container.get("name", "")), {})[name] = handler
                listeners.add(asks)
    return Rewritten(tuple(patch), originals, frozenset(listeners))


def _rewrite(
    probe: JsonObject, container: Mapping[str, Any], listener: Listener, own_ports: Collection[int]
) -> tuple[Listener, JsonObject] | None:
    """Find the listener to ask and what to ask; ``None``: the probe stays as it is."""
    action: Any
    if isinstance(action := probe.get("httpGet"), dict):
        secure = str(action.get("scheme") or "HTTP").upper() == "HTTPS"
        path = None if secure else _target(str(action.get("path") or "/"))
        asks, headers = listener, action.get("httpHeaders") or []
    elif isinstance(action := probe.get("tcpSocket"), dict):
        asks, path, headers = "tcp", None, []
    else:
        return None
    port = _port(action.get("port"), container)
    if action.get("host") or port is None or port in own_ports:
        return None
    return asks, sidecar_question(asks, port, path, headers)


def _port(port: Any, container: Mapping[str, Any]) -> int | None:
    """Resolve a port as the kubelet does: a name among the container's ports, else a number."""
    found: Any = port
    if isinstance(port, str):
        numbers = [
            declared.get("containerPort")
            for declared in container.get("ports") or []
            if declared.get("name") == port
        ]
        found = numbers[0] if numbers else int(port) if port.isascii() and port.isdigit() else None
    if isinstance(found, bool) or not isinstance(found, int) or not 0 < found < 65_536:
        return None
    return found


def _target(path: str) -> str:
    """Write a path as it stands in a request: escaped, with its slash, without a fragment."""
    target = quote(path.partition("#")[0], safe=_TARGET_CHARACTERS)
    return target if target.startswith("/") else f"/{target}"
