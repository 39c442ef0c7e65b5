"""Compiling: from the objects of the API to the configuration of each proxy.

In: objects as JSON. Out: ``Snapshot``, ``ProxyConfig``, status texts. Invariants: pure (no event
loop, no files, no network, no logging, no clock); the same input gives the same bytes.

``build_snapshot`` (or, from change to change, ``SnapshotBuilder``) → ``compile_proxy`` for each
Pod → ``ProxyConfig.to_json``; ``assess`` says how each object of ours is doing.
"""

from fsm.compile.assess import Condition, ObjectStatus, assess
from fsm.compile.build import KINDS, Change, SnapshotBuilder, build_snapshot
from fsm.compile.check import check
from fsm.compile.contract import ProxyConfig
from fsm.compile.proxy import compile_proxy
from fsm.compile.reading import ContractError, config_from_json

__all__ = [
    "KINDS",
    "Change",
    "Condition",
    "ContractError",
    "ObjectStatus",
    "ProxyConfig",
    "SnapshotBuilder",
    "assess",
    "build_snapshot",
    "check",
    "compile_proxy",
    "config_from_json",
]
