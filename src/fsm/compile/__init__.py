"""Compiling: from the objects of the API to the configuration of each proxy.

In: objects as JSON. Out: ``Snapshot``, ``ProxyConfig``, status texts. Invariants: pure (no event
loop, no files, no network, no logging, no clock); the same input gives the same bytes.

``build_snapshot`` → ``compile_proxy`` for each Pod → ``ProxyConfig.to_json``. From change to change
``IncrementalCompiler`` comes to the same bytes at the cost of what changed. ``assess`` says how
each object of ours is doing.
"""

from fsm.compile.assess import Condition, ObjectStatus, assess
from fsm.compile.assessing import Assessments
from fsm.compile.build import KINDS, Change, SnapshotBuilder, build_snapshot, read_object
from fsm.compile.check import check
from fsm.compile.contract import ProxyConfig
from fsm.compile.difference import difference
from fsm.compile.incremental import IncrementalCompiler
from fsm.compile.proxy import compile_proxy
from fsm.compile.reading import ContractError, config_from_json
from fsm.compile.text import Text

__all__ = [
    "KINDS",
    "Assessments",
    "Change",
    "Condition",
    "ContractError",
    "IncrementalCompiler",
    "ObjectStatus",
    "ProxyConfig",
    "SnapshotBuilder",
    "Text",
    "assess",
    "build_snapshot",
    "check",
    "compile_proxy",
    "config_from_json",
    "difference",
    "read_object",
]
