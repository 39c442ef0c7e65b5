"""What Kubernetes fills in when a manifest leaves it out, for the built-in kinds.

What comes in: a checked object (its fields have the right types). What goes out: the same object,
changed in place.

Invariants: applying the defaults twice changes nothing more; a value that was given stays; nothing
here looks at other objects (addresses: ``addresses``).
Source: https://kubernetes.io/docs/reference/kubernetes-api/ (the defaults named on each page)
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from fsm.standalone.apiserver.store import KubeObject

Json = dict[str, Any]

_CONTAINER_LISTS = ("initContainers", "containers", "ephemeralContainers")


def apply_defaults(kind: str, obj: KubeObject) -> None:
    """Fill in the defaults of a built-in kind; a kind without any is left alone."""
    defaulter = _DEFAULTERS.get(kind)
    if defaulter is not None:
        defaulter(obj)


def _set(target: Json, **values: Any) -> None:
    for key, value in values.items():
        if target.get(key) is None:
            target[key] = value


def _namespace(obj: Json) -> None:
    meta = obj["metadata"]
    labels = meta.setdefault("labels", {})
    if meta.get("name"):
        labels["kubernetes.io/metadata.name"] = meta["name"]
    _set(obj.setdefault("spec", {}), finalizers=["kubernetes"])
    _set(obj.setdefault("status", {}), phase="Active")


def _pod(obj: Json) -> None:
    spec = obj.get("spec")
    if spec is not None:
        pod_spec(spec)
        account = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
        spec["serviceAccountName"] = spec["serviceAccount"] = account
        _set(spec, enableServiceLinks=True)
    status = obj.setdefault("status", {})
    _set(status, phase="Pending", qosClass=_qos(obj.get("spec") or {}))


def _qos(spec: Json) -> str:
    """Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/ ."""
    every = [c.get("resources") or {} for c in [*_containers(spec)]]
    if not any(r.get("limits") or r.get("requests") for r in every):
        return "BestEffort"
    for resources in every:
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        for name in ("cpu", "memory"):
            if name not in limits or requests.get(name, limits[name]) != limits[name]:
                return "Burstable"
    return "Guaranteed"


def _containers(spec: Json) -> list[Json]:
    return [container for key in _CONTAINER_LISTS for container in spec.get(key) or []]


def pod_spec(spec: Json) -> None:
    """Fill in a pod spec, of a Pod or of a template."""
    _set(
        spec,
        restartPolicy="Always",
        terminationGracePeriodSeconds=30,
        dnsPolicy="ClusterFirst",
        schedulerName="default-scheduler",
        securityContext={},
    )
    if spec.get("serviceAccountName") and not spec.get("serviceAccount"):
        spec["serviceAccount"] = spec["serviceAccountName"]
    for container in _containers(spec):
        _container(container)
    for volume in spec.get("volumes") or []:
        _volume(volume)


def _container(container: Json) -> None:
    image = container.get("image") or ""
    tag = image.rpartition("/")[2].partition(":")[2]
    fresh = "@" not in image and tag in ("", "latest")
    _set(
        container,
        imagePullPolicy="Always" if fresh else "IfNotPresent",
        resources={},
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
    )
    resources = container["resources"]
    for name, value in (resources.get("limits") or {}).items():
        resources.setdefault("requests", {}).setdefault(name, value)
    for port in container.get("ports") or []:
        _set(port, protocol="TCP")
    for variable in container.get("env") or []:
        if reference := (variable.get("valueFrom") or {}).get("fieldRef"):
            _set(reference, apiVersion="v1")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if probe := container.get(name):
            _set(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
            _http_get(probe)
    for name in ("postStart", "preStop"):
        _http_get((container.get("lifecycle") or {}).get(name) or {})


def _http_get(handler: Json) -> None:
    if action := handler.get("httpGet"):
        _set(action, path="/", scheme="HTTP")


def _volume(volume: Json) -> None:
    sources = [key for key in volume if key != "name"]
    if not sources:
        volume["emptyDir"] = {}
    for name in ("secret", "configMap", "projected", "downwardAPI"):
        if source := volume.get(name):
            _set(source, defaultMode=0o644)
    if (host := volume.get("hostPath")) is not None:
        _set(host, type="")
    items = list((volume.get("downwardAPI") or {}).get("items") or [])
    for source in (volume.get("projected") or {}).get("sources") or []:
        if token := source.get("serviceAccountToken"):
            _set(token, expirationSeconds=3600)
        items += (source.get("downwardAPI") or {}).get("items") or []
    for item in items:
        if reference := item.get("fieldRef"):
            _set(reference, apiVersion="v1")


def _service(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    _set(spec, type="ClusterIP", sessionAffinity="None")
    if spec["sessionAffinity"] == "ClientIP":
        _set(spec, sessionAffinityConfig={"clientIP": {"timeoutSeconds": 10800}})
    for port in spec.get("ports") or []:
        _set(port, protocol="TCP", targetPort=port.get("port"))
    if spec["type"] != "ExternalName":
        _set(spec, internalTrafficPolicy="Cluster")
    if spec["type"] in ("NodePort", "LoadBalancer"):
        _set(spec, externalTrafficPolicy="Cluster")
    if spec["type"] == "LoadBalancer":
        _set(spec, allocateLoadBalancerNodePorts=True)
    _set(obj.setdefault("status", {}), loadBalancer={})


def _secret(obj: Json) -> None:
    _set(obj, type="Opaque")
    for key, text in (obj.pop("stringData", None) or {}).items():
        obj.setdefault("data", {})[key] = base64.b64encode(text.encode()).decode()


def _template(spec: Json) -> None:
    template = spec.setdefault("template", {})
    pod_spec(template.setdefault("spec", {}))


def _deployment(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    _set(
        spec,
        replicas=1,
        revisionHistoryLimit=10,
        progressDeadlineSeconds=600,
        strategy={},
    )
    _set(spec["strategy"], type="RollingUpdate")
    if spec["strategy"]["type"] == "RollingUpdate":
        _set(spec["strategy"], rollingUpdate={})
        _set(spec["strategy"]["rollingUpdate"], maxUnavailable="25%", maxSurge="25%")
    _template(spec)


def _replicaset(obj: Json) -> None:
    _set(obj.setdefault("spec", {}), replicas=1)
    _template(obj["spec"])


def _statefulset(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    _set(
        spec,
        replicas=1,
        podManagementPolicy="OrderedReady",
        revisionHistoryLimit=10,
        updateStrategy={},
    )
    _set(spec["updateStrategy"], type="RollingUpdate")
    if spec["updateStrategy"]["type"] == "RollingUpdate":
        _set(spec["updateStrategy"], rollingUpdate={})
        _set(spec["updateStrategy"]["rollingUpdate"], partition=0)
    _template(spec)


def _daemonset(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    _set(spec, revisionHistoryLimit=10, updateStrategy={})
    _set(spec["updateStrategy"], type="RollingUpdate")
    _template(spec)


def _job(obj: Json) -> None:
    _job_spec(obj.setdefault("spec", {}))
    # The labels by which a Job finds its Pods come from its uid, so they exist once it has one.
    uid, name = obj["metadata"].get("uid"), obj["metadata"].get("name")
    spec = obj["spec"]
    if uid and not spec.get("manualSelector") and not spec.get("selector"):
        spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
        labels = spec["template"].setdefault("metadata", {}).setdefault("labels", {})
        for prefix in ("batch.kubernetes.io/", ""):
            labels[f"{prefix}controller-uid"] = uid
            labels[f"{prefix}job-name"] = name


def _job_spec(spec: Json) -> None:
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    _set(spec, parallelism=1, backoffLimit=6, completionMode="NonIndexed", suspend=False)
    _template(spec)


def _cronjob(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    _set(
        spec,
        concurrencyPolicy="Allow",
        suspend=False,
        successfulJobsHistoryLimit=3,
        failedJobsHistoryLimit=1,
    )
    _job_spec(spec.setdefault("jobTemplate", {}).setdefault("spec", {}))


def _endpoint_slice(obj: Json) -> None:
    for port in obj.get("ports") or []:
        _set(port, name="", protocol="TCP")


def _endpoints(obj: Json) -> None:
    for subset in obj.get("subsets") or []:
        for port in subset.get("ports") or []:
            _set(port, protocol="TCP")


def _webhooks(obj: Json) -> None:
    for webhook in obj.get("webhooks") or []:
        _set(
            webhook,
            failurePolicy="Fail",
            matchPolicy="Equivalent",
            namespaceSelector={},
            objectSelector={},
            timeoutSeconds=10,
        )
        if obj.get("kind") == "MutatingWebhookConfiguration":
            _set(webhook, reinvocationPolicy="Never")
        for rule in webhook.get("rules") or []:
            _set(rule, scope="*")
        if service := (webhook.get("clientConfig") or {}).get("service"):
            _set(service, port=443)


def _crd(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    names = spec.setdefault("names", {})
    kind = names.get("kind") or ""
    _set(names, singular=kind.lower(), listKind=f"{kind}List")
    _set(spec, conversion={"strategy": "None"})


def _role_binding(obj: Json) -> None:
    _set(obj.setdefault("roleRef", {}), apiGroup="rbac.authorization.k8s.io")


_DEFAULTERS: dict[str, Callable[[Json], None]] = {
    "Namespace": _namespace,
    "Pod": _pod,
    "Service": _service,
    "Secret": _secret,
    "Deployment": _deployment,
    "ReplicaSet": _replicaset,
    "StatefulSet": _statefulset,
    "DaemonSet": _daemonset,
    "Job": _job,
    "CronJob": _cronjob,
    "EndpointSlice": _endpoint_slice,
    "Endpoints": _endpoints,
    "MutatingWebhookConfiguration": _webhooks,
    "ValidatingWebhookConfiguration": _webhooks,
    "CustomResourceDefinition": _crd,
    "RoleBinding": _role_binding,
    "ClusterRoleBinding": _role_binding,
}
