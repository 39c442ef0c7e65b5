"""From the JSON of Kubernetes' own kinds to our dataclasses.

In: objects as the API gives them. Out: ``Namespace``, ``Pod``, ``Service``, ``EndpointSlice``.
Invariants: pure; lenient (see ``fsm.model.fields``); ``Malformed`` names the field. The policies'
own kinds are parsed strictly, beside each policy.

Source: Kubernetes API reference, v1 Pod, Service, Namespace; discovery.k8s.io/v1 EndpointSlice.
"""

from __future__ import annotations

import ipaddress

from fsm.model import fields
from fsm.model.fields import JsonObject, Malformed
from fsm.model.names import POD_TEMPLATE_HASH_LABEL, SERVICE_NAME_LABEL, Key, ServiceAccount
from fsm.model.probes import probes_from
from fsm.model.service import EndpointSlice, Service, ServicePort, SliceEndpoint, port_key
from fsm.model.workload import ContainerPort, Namespace, Pod


def key_of(obj: JsonObject) -> Key:
    """Return namespace and name; the namespace is empty for kinds that have none.

    Raises:
        Malformed: there is no name.

    """
    metadata = fields.mapping(obj, "metadata")
    name = fields.text(metadata, "name", "metadata")
    if not name:
        raise Malformed("metadata.name", "is missing")
    return Key(fields.text(metadata, "namespace", "metadata"), name)


def namespace_from(obj: JsonObject) -> Namespace:
    """Parse a Namespace."""
    metadata = fields.mapping(obj, "metadata")
    return Namespace(
        name=key_of(obj).name,
        labels=fields.string_map(metadata, "labels", "metadata"),
        annotations=fields.string_map(metadata, "annotations", "metadata"),
    )


def pod_from(obj: JsonObject) -> Pod:
    """Parse a Pod."""
    key = key_of(obj)
    metadata = fields.mapping(obj, "metadata")
    spec = fields.mapping(obj, "spec")
    status = fields.mapping(obj, "status")
    labels = fields.string_map(metadata, "labels", "metadata")
    owner_kind, owner_name = _owner(metadata, labels, key.name)
    return Pod(
        namespace=key.namespace,
        name=key.name,
        uid=fields.text(metadata, "uid", "metadata"),
        service_account=ServiceAccount(
            key.namespace,
            fields.text(spec, "serviceAccountName", "spec")
            or fields.text(spec, "serviceAccount", "spec")
            or "default",
        ),
        ips=_pod_ips(status),
        labels=labels,
        annotations=fields.string_map(metadata, "annotations", "metadata"),
        owner_kind=owner_kind,
        owner_name=owner_name,
        ready=any(
            condition.get("type") == "Ready" and condition.get("status") == "True"
            for _, condition in fields.items(status, "conditions", "status")
        ),
        terminal=fields.text(status, "phase", "status") in ("Succeeded", "Failed"),
        host_network=fields.flag(spec, "hostNetwork", "spec"),
        ports=tuple(
            ContainerPort(
                name=fields.text(port, "name", path),
                number=fields.port(port, "containerPort", path),
                protocol=fields.text(port, "protocol", path, default="TCP"),
            )
            for container_list in ("initContainers", "containers")
            for container_path, container in fields.items(spec, container_list, "spec")
            for path, port in fields.items(container, "ports", container_path)
        ),
        probes=probes_from(spec),
    )


def _pod_ips(status: JsonObject) -> tuple[str, ...]:
    found: list[str] = []
    for path, entry in fields.items(status, "podIPs", "status"):
        if ip := fields.text(entry, "ip", path):
            found.append(fields.address(ip, f"{path}.ip"))
    if ip := fields.text(status, "podIP", "status"):
        found.append(fields.address(ip, "status.podIP"))
    return tuple(dict.fromkeys(found))


def _owner(metadata: JsonObject, labels: dict[str, str], pod_name: str) -> tuple[str, str]:
    for path, reference in fields.items(metadata, "ownerReferences", "metadata"):
        if not fields.flag(reference, "controller", path):
            continue
        kind = fields.text(reference, "kind", path)
        name = fields.text(reference, "name", path)
        # A Deployment names its ReplicaSets after itself and the hash of the template, and labels
        # their Pods with that hash; a ReplicaSet that stands alone has no such label.
        suffix = "-" + labels.get(POD_TEMPLATE_HASH_LABEL, "")
        if kind == "ReplicaSet" and len(suffix) > 1 and name.endswith(suffix):
            return "Deployment", name.removesuffix(suffix)
        return kind, name
    return "Pod", pod_name


def service_from(obj: JsonObject) -> Service:
    """Parse a Service."""
    key = key_of(obj)
    metadata = fields.mapping(obj, "metadata")
    spec = fields.mapping(obj, "spec")
    listed = fields.texts(spec, "clusterIPs", "spec") or (fields.text(spec, "clusterIP", "spec"),)
    return Service(
        namespace=key.namespace,
        name=key.name,
        cluster_ips=tuple(
            dict.fromkeys(
                fields.address(ip, "spec.clusterIPs") for ip in listed if ip not in ("", "None")
            )
        ),
        ports=_service_ports(spec, "TCP"),
        udp_ports=_service_ports(spec, "UDP"),
        selector=fields.string_map(spec, "selector", "spec"),
        headless="None" in listed,
        type=fields.text(spec, "type", "spec", default="ClusterIP"),
        external_name=fields.text(spec, "externalName", "spec"),
        labels=fields.string_map(metadata, "labels", "metadata"),
        annotations=fields.string_map(metadata, "annotations", "metadata"),
    )


def _service_ports(spec: JsonObject, protocol: str) -> tuple[ServicePort, ...]:
    return tuple(
        ServicePort(
            port=fields.port(port, "port", path),
            name=fields.text(port, "name", path),
            target_port=_target_port(port, path),
            protocol=protocol,
            app_protocol=fields.text(port, "appProtocol", path),
        )
        for path, port in fields.items(spec, "ports", "spec")
        if fields.text(port, "protocol", path, default="TCP") == protocol
    )


def _target_port(port: JsonObject, path: str) -> int | str:
    value = port.get("targetPort")
    if value is None or value == "" or (value == 0 and not isinstance(value, bool)):
        return 0
    if isinstance(value, str):
        if not (value.isascii() and value.isdecimal()):
            return value
        value = int(value)
    return fields.port({"targetPort": value}, "targetPort", path)


def endpoint_slice_from(obj: JsonObject) -> EndpointSlice:
    """Parse an EndpointSlice."""
    key = key_of(obj)
    metadata = fields.mapping(obj, "metadata")
    address_type = fields.text(obj, "addressType", default="IPv4")
    return EndpointSlice(
        namespace=key.namespace,
        name=key.name,
        service=fields.string_map(metadata, "labels", "metadata").get(SERVICE_NAME_LABEL, ""),
        address_type=address_type,
        ports=tuple(
            (port_key(fields.text(port, "name", path), protocol), fields.port(port, "port", path))
            for path, port in fields.items(obj, "ports")
            # A port without a number means every port; there is nothing to dial.
            if port.get("port") is not None
            and (protocol := fields.text(port, "protocol", path, default="TCP")) in ("TCP", "UDP")
        ),
        endpoints=()
        if address_type == "FQDN"
        else tuple(_endpoint(entry, path) for path, entry in fields.items(obj, "endpoints")),
    )


def _endpoint(entry: JsonObject, path: str) -> SliceEndpoint:
    conditions = fields.mapping(entry, "conditions", path)
    target = fields.mapping(entry, "targetRef", path)
    is_pod = fields.text(target, "kind", f"{path}.targetRef") == "Pod"
    return SliceEndpoint(
        addresses=tuple(
            address
            for address in (
                fields.address(value, f"{path}.addresses")
                for value in fields.texts(entry, "addresses", path)
            )
            if _reachable(address)
        ),
        # Absent means ready. Source: discovery.k8s.io/v1 EndpointConditions.
        ready=fields.flag(conditions, "ready", f"{path}.conditions", default=True),
        hostname=fields.text(entry, "hostname", path),
        pod=Key(
            fields.text(target, "namespace", f"{path}.targetRef"),
            fields.text(target, "name", f"{path}.targetRef"),
        )
        if is_pod
        else None,
    )


def _reachable(address: str) -> bool:
    # WHY: an endpoint on loopback would make each client's sidecar dial its own Pod, its
    # administration port included; Kubernetes refuses these addresses too.
    ip = ipaddress.ip_address(address)
    return not (ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified)
