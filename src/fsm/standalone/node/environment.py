"""What a container sees as its environment, its command line and its resolver.

What comes in: the Pod, the container, and the Secrets and ConfigMaps they name. What goes out:
plain strings. All functions are pure; fetching is done before (``PodVolumes.objects``).

Invariants: the order is image, service variables, ``envFrom``, ``env``, each overriding the ones
before; ``$(NAME)`` is replaced by what is known so far, ``$$`` is a dollar sign, and what is not
known stays as it is.
Not done here: ``resourceFieldRef`` (there are no cgroups, so it would be a lie; it is refused).
Source: https://kubernetes.io/docs/tasks/inject-data-application/
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any

KubeObject = dict[str, Any]
#: From ``(kind, name)`` of a Secret or ConfigMap in the Pod's namespace to it; absent: ``None``.
Sources = Mapping[tuple[str, str], KubeObject | None]

_REFERENCE = re.compile(r"\$(?:\$|\(([A-Za-z_.-][A-Za-z0-9_.-]*)\))")
_BRACKETED = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class EnvironmentProblem(Exception):
    """The container cannot be configured; shown as ``CreateContainerConfigError``."""


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` by its value and ``$$`` by ``$``."""

    def one(match: re.Match[str]) -> str:
        name = match.group(1)
        if name is None:
            return "$"
        return values.get(name, match.group(0))

    return _REFERENCE.sub(one, text)


def environment(
    pod: KubeObject,
    container: KubeObject,
    base: Mapping[str, str],
    sources: Sources,
    pod_ips: Sequence[str],
    node_ips: Sequence[str],
) -> dict[str, str]:
    """Build the environment of a container.

    Args:
        pod: the Pod.
        container: one entry of its containers or init containers.
        base: what the image and the node give to everyone.
        sources: every object that ``sources_of`` names.
        pod_ips: addresses of the Pod, IPv4 first.
        node_ips: those of the node.

    Raises:
        EnvironmentProblem: a Secret, ConfigMap, key or field does not exist and is not optional.

    """
    values = dict(base)
    for entry in container.get("envFrom") or []:
        prefix = entry.get("prefix", "")
        for kind, key in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
            if ref := entry.get(key):
                data = _data(kind, ref.get("name", ""), bool(ref.get("optional")), sources)
                for name, raw in data.items():
                    values[prefix + name] = raw.decode(errors="replace")
    for entry in container.get("env") or []:
        name = entry["name"]
        if (source := entry.get("valueFrom")) is None:
            values[name] = expand(str(entry.get("value", "")), values)
            continue
        value = _value_from(pod, source, sources, pod_ips, node_ips)
        if value is not None:
            values[name] = value
    return values


def field(pod: KubeObject, path: str, pod_ips: Sequence[str], node_ips: Sequence[str]) -> str:
    """Read a field of the downward API.

    Raises:
        EnvironmentProblem: the field is not one that Kubernetes offers.

    """
    meta, spec = pod["metadata"], pod["spec"]
    known = {
        "metadata.name": meta["name"],
        "metadata.namespace": meta.get("namespace", ""),
        "metadata.uid": meta.get("uid", ""),
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName") or "default",
        "status.podIP": pod_ips[0],
        "status.podIPs": ",".join(pod_ips),
        "status.hostIP": node_ips[0],
        "status.hostIPs": ",".join(node_ips),
    }
    if path in known:
        return str(known[path])
    if path in ("metadata.labels", "metadata.annotations"):
        entries = meta.get(path.split(".")[1]) or {}
        return "\n".join(f'{k}="{_escaped(v)}"' for k, v in sorted(entries.items()))
    if match := _BRACKETED.fullmatch(path):
        return str((meta.get(match.group(1)) or {}).get(match.group(2), ""))
    raise EnvironmentProblem(f"fieldPath {path!r} is not supported")


def sources_of(pod: KubeObject, container: KubeObject) -> set[tuple[str, str]]:
    """List the Secrets and ConfigMaps that the environment of a container needs."""
    found = set()
    for entry in container.get("envFrom") or []:
        for kind, key in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
            if ref := entry.get(key):
                found.add((kind, str(ref.get("name", ""))))
    for entry in container.get("env") or []:
        source = entry.get("valueFrom") or {}
        for kind, key in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
            if ref := source.get(key):
                found.add((kind, str(ref.get("name", ""))))
    return found


def decoded(kind: str, obj: KubeObject) -> dict[str, bytes]:
    """Return the entries of a Secret or ConfigMap as bytes."""
    if kind == "Secret":
        try:
            return {k: base64.b64decode(v or "") for k, v in (obj.get("data") or {}).items()}
        except (binascii.Error, ValueError) as error:
            name = obj["metadata"]["name"]
            raise EnvironmentProblem(f'secret "{name}" holds broken base64: {error}') from error
    plain = {k: str(v).encode() for k, v in (obj.get("data") or {}).items()}
    binary = {k: base64.b64decode(v or "") for k, v in (obj.get("binaryData") or {}).items()}
    return plain | binary


def resolv_conf(pod: KubeObject, dns: Sequence[str], domain: str, upstream: tuple[str, ...]) -> str:
    """Write ``/etc/resolv.conf`` by the Pod's ``dnsPolicy`` and ``dnsConfig``.

    Source: https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/
    """
    spec = pod["spec"]
    policy = spec.get("dnsPolicy") or "ClusterFirst"
    host_network = bool(spec.get("hostNetwork"))
    servers: list[str] = []
    searches: list[str] = []
    options: dict[str, str | None] = {}
    if policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not host_network):
        namespace = pod["metadata"].get("namespace", "default")
        servers, searches = list(dns), [f"{namespace}.svc.{domain}", f"svc.{domain}", domain]
        options = {"ndots": "5"}
    elif policy in ("Default", "ClusterFirst"):
        servers = list(upstream)
    config = spec.get("dnsConfig") or {}
    servers += [s for s in config.get("nameservers") or [] if s not in servers]
    searches += [s for s in config.get("searches") or [] if s not in searches]
    for option in config.get("options") or []:
        options[option["name"]] = option.get("value")
    lines = [f"nameserver {server}" for server in servers]
    if searches:
        lines.append("search " + " ".join(searches))
    if options:
        words = (k if v is None else f"{k}:{v}" for k, v in options.items())
        lines.append("options " + " ".join(words))
    return "\n".join(lines) + "\n"


def etc_hosts(pod: KubeObject, pod_ips: Sequence[str]) -> str:
    """Write ``/etc/hosts`` with the Pod's own name and its ``hostAliases``."""
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    name = hostname(pod)
    subdomain = pod["spec"].get("subdomain")
    namespace = pod["metadata"].get("namespace", "default")
    full = f"{name}.{subdomain}.{namespace}.svc.cluster.local\t" if subdomain else ""
    lines += [f"{ip}\t{full}{name}" for ip in pod_ips]
    for alias in pod["spec"].get("hostAliases") or []:
        lines.append(f"{alias['ip']}\t" + "\t".join(alias.get("hostnames") or []))
    return "\n".join(lines) + "\n"


def hostname(pod: KubeObject) -> str:
    """Name the Pod's host: its ``hostname``, or its name cut to the 63 bytes that fit."""
    return str(pod["spec"].get("hostname") or pod["metadata"]["name"])[:63].rstrip("-.")


def _value_from(
    pod: KubeObject,
    source: KubeObject,
    sources: Sources,
    pod_ips: Sequence[str],
    node_ips: Sequence[str],
) -> str | None:
    if ref := source.get("fieldRef"):
        return field(pod, str(ref.get("fieldPath", "")), pod_ips, node_ips)
    for kind, key in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
        if ref := source.get(key):
            optional = bool(ref.get("optional"))
            data = _data(kind, ref.get("name", ""), optional, sources)
            raw = data.get(ref.get("key", ""))
            if raw is None and not optional:
                name, wanted = ref.get("name", ""), ref.get("key", "")
                raise EnvironmentProblem(
                    f'couldn\'t find key "{wanted}" in {kind.lower()} "{name}"'
                )
            return None if raw is None else raw.decode(errors="replace")
    raise EnvironmentProblem(f"unsupported source of a variable: {', '.join(source) or 'none'}")


def _data(kind: str, name: str, optional: bool, sources: Sources) -> dict[str, bytes]:
    obj = sources.get((kind, name))
    if obj is not None:
        return decoded(kind, obj)
    if optional:
        return {}
    raise EnvironmentProblem(f'{kind.lower()} "{name}" not found')


def _escaped(value: str) -> str:
    return str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
