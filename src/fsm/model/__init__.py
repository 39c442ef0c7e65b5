"""Our nouns as frozen dataclasses, and the snapshot that holds them.

In: JSON of Kubernetes' kinds (``kube``) and parsed policies. Out: ``Snapshot``. Invariants: pure;
no event loop, no files, no network, no logging; imports only ``fsm.settings``.
"""

from fsm.model.fields import Malformed
from fsm.model.kube import endpoint_slice_from, key_of, namespace_from, pod_from, service_from
from fsm.model.mesh_config import AccessNames, Certificate, ChainStage, MeshConfig, Sidecar, Traffic
from fsm.model.names import Key, ServiceAccount, origin
from fsm.model.policy import (
    Backend,
    HTTPRouteGroup,
    RouteMatch,
    RouteShape,
    RuleRef,
    TCPRoute,
    TrafficSplit,
    TrafficTarget,
)
from fsm.model.service import (
    Endpoint,
    EndpointSlice,
    Protocol,
    Service,
    ServicePort,
    SliceEndpoint,
)
from fsm.model.snapshot import ObjectProblem, Parsed, Snapshot, snapshot_of, target_counts
from fsm.model.workload import ContainerPort, Namespace, Pod

__all__ = [
    "AccessNames",
    "Backend",
    "Certificate",
    "ChainStage",
    "ContainerPort",
    "Endpoint",
    "EndpointSlice",
    "HTTPRouteGroup",
    "Key",
    "Malformed",
    "MeshConfig",
    "Namespace",
    "ObjectProblem",
    "Parsed",
    "Pod",
    "Protocol",
    "RouteMatch",
    "RouteShape",
    "RuleRef",
    "Service",
    "ServiceAccount",
    "ServicePort",
    "Sidecar",
    "SliceEndpoint",
    "Snapshot",
    "TCPRoute",
    "Traffic",
    "TrafficSplit",
    "TrafficTarget",
    "endpoint_slice_from",
    "key_of",
    "namespace_from",
    "origin",
    "pod_from",
    "service_from",
    "snapshot_of",
    "target_counts",
]
