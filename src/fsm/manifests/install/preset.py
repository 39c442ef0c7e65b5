"""The MeshConfig that a fresh installation begins with, as a ConfigMap.

What comes in: the settings of a mesh. What goes out: ConfigMap ``preset-mesh-config`` whose one
key holds the whole ``spec`` as JSON. The controller makes MeshConfig from it if there is none; from
then on the object is the user's.

Source: fsm-interfaces section 1, column "helm", which is what users of this family expect to find:
permissive mode and egress are on, and are switched off by one patch each.
"""

from __future__ import annotations

import json
from typing import Any

from fsm.manifests.install.workload import labels
from fsm.settings import Settings

NAME = "preset-mesh-config"
KEY = "preset-mesh-config.json"

JsonObject = dict[str, Any]


def preset_spec() -> JsonObject:
    """Return the ``spec`` of a fresh MeshConfig."""
    return {
        "sidecar": {
            "enablePrivilegedInitContainer": False,
            "logLevel": "error",
            "maxDataPlaneConnections": 0,
            "configResyncInterval": "0s",
            "sidecarDisabledMTLS": False,
            "holdApplicationUntilProxyStarts": True,
            "gracefulExitUntilDownstreamEnds": True,
            "localProxyMode": "Localhost",
            "localDNSProxy": {"enable": False},
        },
        "traffic": {
            "interceptionMode": "PodLevel",
            "enableEgress": True,
            "enablePermissiveTrafficPolicyMode": True,
            "outboundIPRangeExclusionList": [],
            "outboundIPRangeInclusionList": [],
            "outboundPortExclusionList": [],
            "inboundPortExclusionList": [],
            "networkInterfaceExclusionList": [],
            "http1PerRequestLoadBalancing": False,
            "http2PerRequestLoadBalancing": True,
            "serviceAccessMode": "mixed",
        },
        "observability": {
            "fsmLogLevel": "info",
            "tracing": {"enable": False},
            "remoteLogging": {"enable": False},
        },
        "certificate": {"serviceCertValidityDuration": "24h", "certKeyBitSize": 2048},
        "featureFlags": {
            "enableEgressPolicy": True,
            "enableIngressBackendPolicy": True,
            "enableAccessControlPolicy": True,
            "enableAccessCertPolicy": False,
            "enableRetryPolicy": False,
            "enablePluginPolicy": False,
        },
    }


def preset_object(settings: Settings) -> JsonObject:
    """Render the ConfigMap."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": NAME,
            "namespace": settings.fsm_namespace,
            "labels": labels(settings),
        },
        "data": {KEY: json.dumps(preset_spec(), indent=2, sort_keys=True) + "\n"},
    }
