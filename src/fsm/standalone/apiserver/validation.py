"""Rules that types alone cannot say, for the built-in kinds.

What comes in: an object with its defaults, and its state before when this is an update. What goes
out: every ``Cause`` for which it must be refused.

Invariants: pure; all problems at once; only rules whose breach would otherwise surface as a
confusing failure later (a Deployment whose selector misses its own Pods, two containers of one
name). Admission by policy is the webhooks' business.
Source: https://kubernetes.io/docs/reference/kubernetes-api/ (the constraints named on each page)
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from fsm.standalone.apiserver.errors import Cause
from fsm.standalone.apiserver.metadata import LABEL_1123
from fsm.standalone.apiserver.selectors import matches_label_selector
from fsm.standalone.apiserver.store import KubeObject

Json = dict[str, Any]
# LIMIT bytes of one ConfigMap or Secret: Kubernetes' figure.
DATA_BYTES_MAX = 1 << 20


def causes_of(kind: str, new: KubeObject, old: KubeObject | None) -> list[Cause]:
    """Return what is wrong with an object of a built-in kind."""
    validator = _VALIDATORS.get(kind)
    return validator(new, old) if validator else []


def _bad(path: str, value: Any, why: str) -> Cause:
    shown = f'"{value}"' if isinstance(value, str) else value
    return Cause(path, f"Invalid value: {shown}: {why}")


def _required(path: str, why: str = "") -> Cause:
    return Cause(path, f"Required value{': ' + why if why else ''}", "FieldValueRequired")


def _one_of(path: str, value: Any, allowed: tuple[str, ...]) -> list[Cause]:
    if value in allowed:
        return []
    names = ", ".join(f'"{name}"' for name in allowed)
    message = f'Unsupported value: "{value}": supported values: {names}'
    return [Cause(path, message, "FieldValueNotSupported")]


def _duplicate(path: str, value: Any) -> Cause:
    return Cause(path, f'Duplicate value: "{value}"', "FieldValueDuplicate")


def _port_range(path: str, value: Any) -> list[Cause]:
    if isinstance(value, int) and not 1 <= value <= 65535:
        return [_bad(path, value, "must be between 1 and 65535, inclusive")]
    return []


def _immutable(path: str, new: Any, old: Any) -> list[Cause]:
    return [] if new == old else [Cause(path, "Invalid value: field is immutable")]


def _pod(new: Json, old: Json | None) -> list[Cause]:
    spec = new.get("spec")
    if not spec:
        return [_required("spec")]
    causes = _pod_spec(spec, "spec")
    if old is not None:
        causes += _pod_update(spec, old.get("spec") or {})
    return causes


def _pod_update(new: Json, old: Json) -> list[Cause]:
    """Only images, tolerations, deadlines and ephemeral containers of a Pod may change."""

    def frozen(spec: Json) -> Json:
        kept = {
            key: value
            for key, value in spec.items()
            if key
            not in (
                "activeDeadlineSeconds",
                "tolerations",
                "terminationGracePeriodSeconds",
                "ephemeralContainers",
                "schedulingGates",
            )
        }
        for name in ("containers", "initContainers"):
            if name in kept:
                kept[name] = [
                    {key: value for key, value in item.items() if key not in _CONTAINER_MUTABLE}
                    for item in kept[name]
                ]
        return kept

    a, b = frozen(new), frozen(old)
    if not b.get("nodeName"):
        # Scheduling: the one time that a node is named.
        a.pop("nodeName", None)
        b.pop("nodeName", None)
    if a == b:
        return []
    changed = sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))
    return [
        Cause(
            "spec",
            f"Forbidden: pod updates may not change {', '.join(changed)}; only container images,"
            " tolerations and deadlines may change",
            "FieldValueForbidden",
        )
    ]


_CONTAINER_MUTABLE = ("image", "imagePullPolicy", "resources")


def _pod_spec(spec: Json, path: str, claims: Collection[str] = ()) -> list[Cause]:
    causes: list[Cause] = []
    if not spec.get("containers"):
        causes.append(_required(f"{path}.containers"))
    causes += _one_of(
        f"{path}.restartPolicy", spec.get("restartPolicy"), ("Always", "OnFailure", "Never")
    )
    causes += _one_of(
        f"{path}.dnsPolicy",
        spec.get("dnsPolicy"),
        ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"),
    )
    volumes: set[str] = set()
    for index, volume in enumerate(spec.get("volumes") or []):
        here, name = f"{path}.volumes[{index}]", volume.get("name") or ""
        if name in volumes:
            causes.append(_duplicate(f"{here}.name", name))
        volumes.add(name)
        sources = [key for key in volume if key != "name"]
        if len(sources) > 1:
            causes.append(
                Cause(
                    f"{here}.{sources[1]}",
                    "Forbidden: may not specify more than 1 volume type",
                    "FieldValueForbidden",
                )
            )
    volumes |= set(claims)
    seen: set[str] = set()
    for group in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(group) or []):
            here = f"{path}.{group}[{index}]"
            name = container.get("name") or ""
            if name in seen:
                causes.append(_duplicate(f"{here}.name", name))
            seen.add(name)
            causes += _container(container, here, volumes)
            if group == "containers" and container.get("restartPolicy"):
                causes.append(
                    Cause(
                        f"{here}.restartPolicy",
                        "Forbidden: may not be set for non-init containers",
                        "FieldValueForbidden",
                    )
                )
    return causes


def _container(container: Json, path: str, volumes: set[str]) -> list[Cause]:
    causes: list[Cause] = []
    name = container.get("name") or ""
    if not name:
        causes.append(_required(f"{path}.name"))
    elif len(name) > 63 or not LABEL_1123.fullmatch(name):
        causes.append(_bad(f"{path}.name", name, "must be a lowercase RFC 1123 label"))
    if not (container.get("image") or "").strip():
        causes.append(_required(f"{path}.image"))
    for index, port in enumerate(container.get("ports") or []):
        here = f"{path}.ports[{index}]"
        causes += _port_range(f"{here}.containerPort", port.get("containerPort"))
        causes += _one_of(f"{here}.protocol", port.get("protocol"), ("SCTP", "TCP", "UDP"))
    for index, mount in enumerate(container.get("volumeMounts") or []):
        if mount.get("name") not in volumes:
            causes.append(
                Cause(
                    f"{path}.volumeMounts[{index}].name",
                    f'Not found: "{mount.get("name")}"',
                    "FieldValueNotFound",
                )
            )
    for index, variable in enumerate(container.get("env") or []):
        if not variable.get("name") or "=" in variable["name"]:
            causes.append(
                _bad(
                    f"{path}.env[{index}].name",
                    variable.get("name") or "",
                    "not a valid name of an environment variable",
                )
            )
        if variable.get("value") and variable.get("valueFrom"):
            causes.append(
                _bad(
                    f"{path}.env[{index}].valueFrom",
                    "",
                    "may not be specified when `value` is not empty",
                )
            )
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        causes += _probe(container.get(probe) or {}, f"{path}.{probe}")
    return causes


def _probe(probe: Json, path: str) -> list[Cause]:
    handlers = [key for key in ("exec", "httpGet", "tcpSocket", "grpc") if probe.get(key)]
    if probe and len(handlers) != 1:
        why = "must specify a handler type" if not handlers else "may not specify more than one"
        return [_required(path, why)]
    return []


def _service(new: Json, old: Json | None) -> list[Cause]:
    spec, causes = new["spec"], []
    causes += _one_of(
        "spec.type", spec["type"], ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
    )
    if spec["type"] == "ExternalName" and not spec.get("externalName"):
        causes.append(_required("spec.externalName"))
    ports = spec.get("ports") or []
    headless = spec.get("clusterIP") == "None"
    if not ports and spec["type"] != "ExternalName" and not headless:
        causes.append(_required("spec.ports"))
    names: set[str] = set()
    numbers: set[tuple[Any, Any]] = set()
    for index, port in enumerate(ports):
        path, name = f"spec.ports[{index}]", port.get("name") or ""
        if not name and len(ports) > 1:
            causes.append(_required(f"{path}.name"))
        if name and name in names:
            causes.append(_duplicate(f"{path}.name", name))
        if name and not LABEL_1123.fullmatch(name):
            causes.append(_bad(f"{path}.name", name, "must be a lowercase RFC 1123 label"))
        names.add(name)
        causes += _port_range(f"{path}.port", port.get("port"))
        causes += _port_range(f"{path}.targetPort", port.get("targetPort"))
        causes += _one_of(f"{path}.protocol", port.get("protocol"), ("SCTP", "TCP", "UDP"))
        key = (port.get("port"), port.get("protocol"))
        if key in numbers:
            causes.append(_duplicate(path, f"{key[0]}/{key[1]}"))
        numbers.add(key)
    return causes


def _workload(new: Json, old: Json | None) -> list[Cause]:
    spec, causes = new["spec"], []
    if (spec.get("replicas") or 0) < 0:
        causes.append(_bad("spec.replicas", spec["replicas"], "must be at least 0"))
    template = spec.get("template") or {}
    claims = {
        str((claim.get("metadata") or {}).get("name"))
        for claim in spec.get("volumeClaimTemplates") or []
    }
    causes += _pod_spec(template.get("spec") or {}, "spec.template.spec", claims)
    if (policy := (template.get("spec") or {}).get("restartPolicy")) not in (None, "Always"):
        causes += _one_of("spec.template.spec.restartPolicy", policy, ("Always",))
    selector = spec.get("selector") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        causes.append(_required("spec.selector", "empty selector is invalid"))
    elif not matches_label_selector(selector, labels):
        causes.append(
            _bad(
                "spec.template.metadata.labels",
                labels,
                "`selector` does not match template `labels`",
            )
        )
    if old is not None:
        causes += _immutable("spec.selector", selector, old["spec"].get("selector"))
    return causes


def _job(new: Json, old: Json | None) -> list[Cause]:
    spec = new["spec"]
    template = spec.get("template") or {}
    causes = _pod_spec(template.get("spec") or {}, "spec.template.spec")
    policy = (template.get("spec") or {}).get("restartPolicy")
    # The default, Always, makes no sense for a Pod that is meant to end.
    causes += _one_of("spec.template.spec.restartPolicy", policy, ("Never", "OnFailure"))
    if old is not None:
        causes += _immutable("spec.template", template, old["spec"].get("template"))
        causes += _immutable("spec.selector", spec.get("selector"), old["spec"].get("selector"))
    return causes


def _data(new: Json, old: Json | None) -> list[Cause]:
    causes = []
    for section in ("data", "binaryData"):
        for key in new.get(section) or {}:
            if (
                len(key) > 253
                or key in (".", "..")
                or not key.replace("-", "").replace("_", "").replace(".", "").isalnum()
            ):
                causes.append(
                    _bad(
                        f"{section}[{key[:80]}]",
                        key[:80],
                        "a valid config key must"
                        " consist of alphanumeric characters, '-', '_' or '.'",
                    )
                )
    size = _size(new)
    if size > DATA_BYTES_MAX:
        why = f"Too long: may not be more than {DATA_BYTES_MAX} bytes, has {size}"
        causes.append(Cause("data", why, "FieldValueTooLong"))
    if old is not None and old.get("immutable"):
        for section in ("data", "binaryData", "immutable"):
            if new.get(section) != old.get(section):
                causes.append(
                    Cause(
                        section,
                        "Forbidden: field is immutable when `immutable` is set",
                        "FieldValueForbidden",
                    )
                )
    return causes


def _size(new: Json) -> int:
    """Return how many bytes a ConfigMap or a Secret holds, as volumes show them."""
    texts = {} if new.get("kind") == "Secret" else new.get("data") or {}
    coded = [*(new.get("binaryData") or {}).values()]
    if new.get("kind") == "Secret":
        coded += (new.get("data") or {}).values()
    plain = sum(len(str(text).encode(errors="surrogatepass")) for text in texts.values())
    return plain + sum(len(str(text).rstrip("=")) * 3 // 4 for text in coded)


def _secret(new: Json, old: Json | None) -> list[Cause]:
    causes = _data(new, old)
    if old is not None:
        causes += _immutable("type", new.get("type"), old.get("type"))
    if new.get("type") == "kubernetes.io/tls":
        for key in ("tls.crt", "tls.key"):
            if key not in (new.get("data") or {}):
                causes.append(_required(f"data[{key}]"))
    return causes


def _endpoint_slice(new: Json, old: Json | None) -> list[Cause]:
    causes = _one_of("addressType", new.get("addressType"), ("FQDN", "IPv4", "IPv6"))
    if old is not None:
        causes += _immutable("addressType", new.get("addressType"), old.get("addressType"))
    return causes


def _webhooks(new: Json, old: Json | None) -> list[Cause]:
    causes: list[Cause] = []
    for index, hook in enumerate(new.get("webhooks") or []):
        path = f"webhooks[{index}]"
        client = hook.get("clientConfig") or {}
        if bool(client.get("url")) == bool(client.get("service")):
            causes.append(
                _required(f"{path}.clientConfig", "exactly one of url or service is required")
            )
        elif client.get("url") and not client["url"].startswith("https://"):
            causes.append(_bad(f"{path}.clientConfig.url", client["url"], "must be https"))
        if "v1" not in (hook.get("admissionReviewVersions") or []):
            causes.append(
                _bad(
                    f"{path}.admissionReviewVersions",
                    hook.get("admissionReviewVersions"),
                    "must include v1",
                )
            )
        causes += _one_of(f"{path}.failurePolicy", hook.get("failurePolicy"), ("Fail", "Ignore"))
        causes += _one_of(f"{path}.sideEffects", hook.get("sideEffects"), ("None", "NoneOnDryRun"))
        if not 1 <= hook["timeoutSeconds"] <= 30:
            causes.append(
                _bad(f"{path}.timeoutSeconds", hook["timeoutSeconds"], "must be from 1 to 30")
            )
    return causes


_VALIDATORS: dict[str, Callable[[Json, Json | None], list[Cause]]] = {
    "Pod": _pod,
    "Service": _service,
    "Deployment": _workload,
    "ReplicaSet": _workload,
    "StatefulSet": _workload,
    "DaemonSet": _workload,
    "Job": _job,
    "ConfigMap": _data,
    "Secret": _secret,
    "EndpointSlice": _endpoint_slice,
    "MutatingWebhookConfiguration": _webhooks,
    "ValidatingWebhookConfiguration": _webhooks,
}
