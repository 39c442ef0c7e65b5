"""The pure compiler, as the publisher uses it.

What comes in: all objects, and which proxy. What goes out: a snapshot; the bytes for one proxy.

Invariants: this is the only place where controllers meet ``fsm.compile`` to make configurations;
nothing is decided here. The builder remembers what it parsed, so one engine serves one world.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fsm.compile import SnapshotBuilder, compile_proxy
from fsm.delivery import Compiled, ProxyKey
from fsm.model import Snapshot
from fsm.settings import Settings


class Engine:
    """Implements ``publisher.Compiler`` with ``fsm.compile``."""

    def __init__(self, settings: Settings, roots: Callable[[], tuple[str, ...]]) -> None:
        self._settings = settings
        self._roots = roots
        self._builder = SnapshotBuilder(settings)

    def snapshot(self, objects: Mapping[str, Sequence[Mapping[str, Any]]]) -> Snapshot:
        """Index all objects; broken ones are left out, and in ``problems``."""
        return self._builder.build(objects, trust_roots=self._roots())[0]

    def compile(self, snapshot: Snapshot, proxy: ProxyKey) -> Compiled | None:
        """Compile for one proxy; ``None``: the snapshot does not know its Pod (yet)."""
        pod = snapshot.pods_by_uid.get(proxy.uid)
        if pod is None:
            return None
        config = compile_proxy(snapshot, pod, self._settings)
        return Compiled(config.version, config.to_json())
