"""What ``kubectl get`` shows of each built-in kind: the columns, and the cells of one object.

What comes in: an object. What goes out: one cell per column, texts and numbers as Kubernetes
prints them.

Invariants: a cell never fails: missing parts show as ``<none>`` or ``0``; pure but for the clock,
which is an argument. ``WIDE`` columns show with ``-o wide`` only.
Source: the output of kubectl 1.32 against Kubernetes 1.32
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fsm.standalone.apiserver.pod_state import pod_state

Json = dict[str, Any]
Cell = Callable[[Json, datetime], Any]
WIDE = 1


@dataclass(frozen=True, slots=True)
class TableColumn:
    """One column: its header, type, whether it is for wide output, and its cell."""

    name: str
    cell: Cell
    type: str = "string"
    priority: int = 0
    format: str = ""
    description: str = ""


def human_duration(seconds: float) -> str:
    """Say how long something lasts, roughly, the longer the rougher: ``3m5s``, ``27h``, ``12d``."""
    total = int(seconds)
    if total < 0:
        return "<invalid>" if total < -1 else "0s"
    minutes, hours, days = total // 60, total // 3600, total // 86400
    if total < 120:
        return f"{total}s"
    if minutes < 10:
        return f"{minutes}m{total % 60}s" if total % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 730:
        return f"{days}d"
    years, rest = divmod(days, 365)
    return f"{years}y{rest}d" if rest and years < 8 else f"{years}y"


def age(text: Any, now: datetime) -> str:
    """Say how long ago a time was."""
    if not isinstance(text, str) or not text:
        return "<unknown>"
    try:
        then = datetime.fromisoformat(text)
    except ValueError:
        return "<invalid>"
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return human_duration((now - then).total_seconds())


def _dig(obj: Json, path: str, default: Any = None) -> Any:
    value: Any = obj
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return default if value is None else value


def _field(name: str, path: str, default: Any = "<none>", **more: Any) -> TableColumn:
    return TableColumn(name, lambda obj, now: _dig(obj, path, default), **more)


def _count(name: str, path: str, **more: Any) -> TableColumn:
    return _field(name, path, 0, type="integer", **more)


def _cell(name: str, cell: Callable[[Json], Any], **more: Any) -> TableColumn:
    return TableColumn(name, lambda obj, now: cell(obj), **more)


NAME = _field(
    "Name", "metadata.name", "", format="name", description="Name must be unique within a namespace"
)
AGE = TableColumn("Age", lambda obj, now: age(_dig(obj, "metadata.creationTimestamp"), now))


def _selector(labels: Json | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or "<none>"


def _label_selector(selector: Json | None) -> str:
    parts = [f"{k}={v}" for k, v in sorted(((selector or {}).get("matchLabels") or {}).items())]
    for rule in (selector or {}).get("matchExpressions") or []:
        values = f" ({','.join(rule.get('values') or [])})" if rule.get("values") else ""
        parts.append(f"{rule.get('key')} {str(rule.get('operator')).lower()}{values}")
    return ",".join(parts) or "<none>"


def _restarts(obj: Json, now: datetime) -> str:
    state = pod_state(obj)
    if state.restarts and state.last_restart:
        return f"{state.restarts} ({age(state.last_restart, now)} ago)"
    return str(state.restarts)


def _containers(path: str) -> tuple[TableColumn, TableColumn]:
    def names(obj: Json) -> str:
        return ",".join(c.get("name", "") for c in _dig(obj, path, [])) or "<none>"

    def images(obj: Json) -> str:
        return ",".join(c.get("image", "") for c in _dig(obj, path, [])) or "<none>"

    return (
        _cell("Containers", names, priority=WIDE),
        _cell("Images", images, priority=WIDE),
    )


def _selector_column() -> TableColumn:
    return _cell("Selector", lambda o: _label_selector(_dig(o, "spec.selector")), priority=WIDE)


def _controller(obj: Json) -> str:
    for owner in _dig(obj, "metadata.ownerReferences", []):
        if owner.get("controller"):
            group = str(owner.get("apiVersion", "")).rpartition("/")[0]
            kind = str(owner.get("kind", "")).lower()
            return f"{kind}.{group}/{owner.get('name')}" if group else f"{kind}/{owner.get('name')}"
    return "<none>"


_MODES = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}


def _access_modes(obj: Json) -> str:
    return ",".join(_MODES.get(mode, mode) for mode in _dig(obj, "spec.accessModes", []))


def _ingress_hosts(obj: Json) -> str:
    return ",".join(rule.get("host") or "*" for rule in _dig(obj, "spec.rules", [])) or "*"


def _service_ports(obj: Json) -> str:
    shown = []
    for port in _dig(obj, "spec.ports", []):
        node = f":{port['nodePort']}" if port.get("nodePort") else ""
        shown.append(f"{port.get('port')}{node}/{port.get('protocol', 'TCP')}")
    return ",".join(shown) or "<none>"


def _external_ip(obj: Json) -> str:
    kind = _dig(obj, "spec.type", "ClusterIP")
    outside = list(_dig(obj, "spec.externalIPs", []))
    if kind == "ExternalName":
        return str(_dig(obj, "spec.externalName", "<none>"))
    if kind == "LoadBalancer":
        ingress = _dig(obj, "status.loadBalancer.ingress", [])
        outside += [item.get("ip") or item.get("hostname") or "" for item in ingress]
        return ",".join(filter(None, outside)) or "<pending>"
    return ",".join(outside) or "<none>"


def _slice_ports(obj: Json) -> str:
    ports = [str(p.get("port", "*")) for p in obj.get("ports") or []]
    return _shortened(ports) if ports else "<unset>"


def _slice_addresses(obj: Json) -> str:
    found = [a for e in obj.get("endpoints") or [] for a in e.get("addresses") or []]
    return _shortened(found) if found else "<unset>"


def _shortened(items: list[str]) -> str:
    if len(items) <= 3:
        return ",".join(items)
    return f"{','.join(items[:3])} + {len(items) - 3} more..."


def _endpoints(obj: Json) -> str:
    found = []
    for subset in obj.get("subsets") or []:
        for address in subset.get("addresses") or []:
            ports = subset.get("ports") or []
            found += [f"{address.get('ip')}:{port.get('port')}" for port in ports]
            found += [] if ports else [str(address.get("ip"))]
    return _shortened(found) if found else "<none>"


def _job_status(obj: Json) -> str:
    for condition in _dig(obj, "status.conditions", []):
        if condition.get("status") == "True" and condition.get("type") in ("Complete", "Failed"):
            return str(condition["type"])
    if _dig(obj, "metadata.deletionTimestamp"):
        return "Terminating"
    return "Suspended" if _dig(obj, "spec.suspend") else "Running"


def _job_duration(obj: Json, now: datetime) -> str:
    start, end = _dig(obj, "status.startTime"), _dig(obj, "status.completionTime")
    if not start:
        return ""
    until = datetime.fromisoformat(end) if end else now
    return age(start, until)


def _event_source(obj: Json) -> str:
    component, host = _dig(obj, "source.component", ""), _dig(obj, "source.host", "")
    component = component or _dig(obj, "reportingComponent", "")
    return f"{component}, {host}" if host else component


def _node_status(obj: Json) -> str:
    ready = "Unknown"
    for condition in _dig(obj, "status.conditions", []):
        if condition.get("type") == "Ready":
            ready = {"True": "Ready", "False": "NotReady"}.get(condition.get("status"), "Unknown")
    return f"{ready},SchedulingDisabled" if _dig(obj, "spec.unschedulable") else ready


def _node_roles(obj: Json) -> str:
    prefix = "node-role.kubernetes.io/"
    labels = _dig(obj, "metadata.labels", {})
    return ",".join(sorted(k.removeprefix(prefix) for k in labels if k.startswith(prefix))) or (
        "<none>"
    )


def _node_ip(obj: Json) -> str:
    for address in _dig(obj, "status.addresses", []):
        if address.get("type") == "InternalIP":
            return str(address.get("address"))
    return "<none>"


_READY_OF = _cell(
    "Ready",
    lambda o: f"{_dig(o, 'status.readyReplicas', 0)}/{_dig(o, 'spec.replicas', 0)}",
)
_TEMPLATE = _containers("spec.template.spec.containers")
_DATA = _cell(
    "Data",
    lambda o: len(o.get("data") or {}) + len(o.get("binaryData") or {}),
    type="integer",
)

COLUMNS: dict[tuple[str, str], tuple[TableColumn, ...]] = {
    ("", "namespaces"): (NAME, _field("Status", "status.phase", ""), AGE),
    ("", "pods"): (
        NAME,
        _cell("Ready", lambda o: pod_state(o).ready_text),
        _cell("Status", lambda o: pod_state(o).reason),
        TableColumn("Restarts", _restarts),
        AGE,
        _field("IP", "status.podIP", priority=WIDE),
        _field("Node", "spec.nodeName", priority=WIDE),
        _field("Nominated Node", "status.nominatedNodeName", priority=WIDE),
        _cell("Readiness Gates", lambda o: "<none>", priority=WIDE),
    ),
    ("", "services"): (
        NAME,
        _field("Type", "spec.type"),
        _field("Cluster-IP", "spec.clusterIP"),
        _cell("External-IP", _external_ip),
        _cell("Port(s)", _service_ports),
        AGE,
        _cell("Selector", lambda o: _selector(_dig(o, "spec.selector")), priority=WIDE),
    ),
    ("", "secrets"): (NAME, _field("Type", "type", ""), _DATA, AGE),
    ("", "configmaps"): (NAME, _DATA, AGE),
    ("", "serviceaccounts"): (
        NAME,
        _cell("Secrets", lambda o: len(o.get("secrets") or []), type="integer"),
        AGE,
    ),
    ("", "endpoints"): (NAME, _cell("Endpoints", _endpoints), AGE),
    ("", "nodes"): (
        NAME,
        _cell("Status", _node_status),
        _cell("Roles", _node_roles),
        AGE,
        _field("Version", "status.nodeInfo.kubeletVersion", ""),
        _cell("Internal-IP", _node_ip, priority=WIDE),
        _cell("External-IP", lambda o: "<none>", priority=WIDE),
        _field("OS-Image", "status.nodeInfo.osImage", "<unknown>", priority=WIDE),
        _field("Kernel-Version", "status.nodeInfo.kernelVersion", "<unknown>", priority=WIDE),
        _field(
            "Container-Runtime",
            "status.nodeInfo.containerRuntimeVersion",
            "<unknown>",
            priority=WIDE,
        ),
    ),
    ("", "events"): (
        TableColumn(
            "Last Seen",
            lambda o, now: age(
                o.get("lastTimestamp")
                or _dig(o, "series.lastObservedTime")
                or o.get("eventTime")
                or o.get("firstTimestamp"),
                now,
            ),
        ),
        _field("Type", "type", ""),
        _field("Reason", "reason", ""),
        _cell(
            "Object",
            lambda o: (
                f"{_dig(o, 'involvedObject.kind', '').lower()}/{_dig(o, 'involvedObject.name', '')}"
            ),
        ),
        _field("Subobject", "involvedObject.fieldPath", "", priority=WIDE),
        _cell("Source", _event_source, priority=WIDE),
        _cell("Message", lambda o: str(o.get("message") or "").strip()),
        TableColumn("First Seen", lambda o, now: age(o.get("firstTimestamp"), now), priority=WIDE),
        _field("Count", "count", 1, type="integer", priority=WIDE),
        _field("Name", "metadata.name", "", priority=WIDE),
    ),
    ("apps", "deployments"): (
        NAME,
        _READY_OF,
        _count("Up-to-date", "status.updatedReplicas"),
        _count("Available", "status.availableReplicas"),
        AGE,
        *_TEMPLATE,
        _selector_column(),
    ),
    ("apps", "replicasets"): (
        NAME,
        _count("Desired", "spec.replicas"),
        _count("Current", "status.replicas"),
        _count("Ready", "status.readyReplicas"),
        AGE,
        *_TEMPLATE,
        _selector_column(),
    ),
    ("apps", "statefulsets"): (NAME, _READY_OF, AGE, *_TEMPLATE),
    ("apps", "daemonsets"): (
        NAME,
        _count("Desired", "status.desiredNumberScheduled"),
        _count("Current", "status.currentNumberScheduled"),
        _count("Ready", "status.numberReady"),
        _count("Up-to-date", "status.updatedNumberScheduled"),
        _count("Available", "status.numberAvailable"),
        _cell("Node Selector", lambda o: _selector(_dig(o, "spec.template.spec.nodeSelector"))),
        AGE,
        *_TEMPLATE,
        _selector_column(),
    ),
    ("apps", "controllerrevisions"): (
        NAME,
        _cell("Controller", _controller),
        _count("Revision", "revision"),
        AGE,
    ),
    ("", "persistentvolumeclaims"): (
        NAME,
        _field("Status", "status.phase", "Pending"),
        _field("Volume", "spec.volumeName", ""),
        _field("Capacity", "status.capacity.storage", ""),
        _cell("Access Modes", _access_modes),
        _field("StorageClass", "spec.storageClassName", ""),
        AGE,
    ),
    ("batch", "cronjobs"): (
        NAME,
        _field("Schedule", "spec.schedule"),
        _field("Timezone", "spec.timeZone"),
        _cell("Suspend", lambda o: str(bool(_dig(o, "spec.suspend", False)))),
        _cell("Active", lambda o: len(_dig(o, "status.active", [])), type="integer"),
        TableColumn(
            "Last Schedule",
            lambda o, now: (
                age(found, now) if (found := _dig(o, "status.lastScheduleTime")) else "<none>"
            ),
        ),
        AGE,
    ),
    ("networking.k8s.io", "ingresses"): (
        NAME,
        _field("Class", "spec.ingressClassName"),
        _cell("Hosts", _ingress_hosts),
        _field("Address", "status.loadBalancer.ingress", ""),
        _cell("Ports", lambda o: "80, 443" if _dig(o, "spec.tls") else "80"),
        AGE,
    ),
    ("policy", "poddisruptionbudgets"): (
        NAME,
        _field("Min Available", "spec.minAvailable", "N/A"),
        _field("Max Unavailable", "spec.maxUnavailable", "N/A"),
        _count("Allowed Disruptions", "status.disruptionsAllowed"),
        AGE,
    ),
    ("batch", "jobs"): (
        NAME,
        _cell("Status", _job_status),
        _cell(
            "Completions",
            lambda o: f"{_dig(o, 'status.succeeded', 0)}/{_dig(o, 'spec.completions', 1)}",
        ),
        TableColumn("Duration", _job_duration),
        AGE,
        *_TEMPLATE,
        _selector_column(),
    ),
    ("discovery.k8s.io", "endpointslices"): (
        NAME,
        _field("AddressType", "addressType", ""),
        _cell("Ports", _slice_ports),
        _cell("Endpoints", _slice_addresses),
        AGE,
    ),
    ("coordination.k8s.io", "leases"): (NAME, _field("Holder", "spec.holderIdentity", ""), AGE),
    ("apiextensions.k8s.io", "customresourcedefinitions"): (
        NAME,
        _field("Created At", "metadata.creationTimestamp", "", type="date"),
    ),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"): (
        NAME,
        _cell("Webhooks", lambda o: len(o.get("webhooks") or []), type="integer"),
        AGE,
    ),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"): (
        NAME,
        _cell("Webhooks", lambda o: len(o.get("webhooks") or []), type="integer"),
        AGE,
    ),
}
