"""The only code that talks to a Kubernetes API: any server's, a cluster's or the embedded one.

``KubeClient`` reads and writes, ``Informer`` keeps a current copy of one kind, ``resources`` names
the kinds. What a caller needs is re-exported here.
"""

from fsm.kube.client import (
    KubeClient,
    ObjectList,
    TokenIdentity,
    WatchEvent,
)
from fsm.kube.connection import Connection
from fsm.kube.errors import (
    AlreadyExists,
    ApiError,
    ConfigError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    Unauthenticated,
    Unauthorized,
    Unavailable,
)
from fsm.kube.informer import Backoff, Informer, Source
from fsm.kube.resources import Resource
from fsm.kube.session import ClientSettings, KubeObject

__all__ = [
    "AlreadyExists",
    "ApiError",
    "Backoff",
    "ClientSettings",
    "ConfigError",
    "Conflict",
    "Connection",
    "Forbidden",
    "Gone",
    "Informer",
    "Invalid",
    "KubeClient",
    "KubeObject",
    "NotFound",
    "ObjectList",
    "Resource",
    "Source",
    "TokenIdentity",
    "Unauthenticated",
    "Unauthorized",
    "Unavailable",
    "WatchEvent",
]
