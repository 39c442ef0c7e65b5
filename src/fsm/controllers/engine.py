"""The pure compiler, as the publisher uses it.

What comes in: objects, and which proxies there are. What goes out: snapshots; which proxies may
need something else now; the bytes for one proxy.

Invariants: this is the only place where controllers meet ``fsm.compile`` to make configurations;
nothing is decided here. The compiler remembers what it made, so one engine serves one world.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fsm.compile import Change, IncrementalCompiler
from fsm.controllers.world import Touched
from fsm.delivery import Compiled, ProxyKey
from fsm.model import Key, Snapshot
from fsm.settings import Settings


class Engine:
    """Implements ``publisher.Compiler`` with ``fsm.compile``."""

    def __init__(self, settings: Settings, roots: Callable[[], tuple[str, ...]]) -> None:
        self._compiler = IncrementalCompiler(settings)
        self._roots = roots
        self._proxies: dict[str, ProxyKey] = {}
        self._snapshot: Snapshot | None = None
        self._moved: set[str] = set()

    def begin(self, objects: Mapping[str, Sequence[Mapping[str, Any]]]) -> Snapshot:
        """Index all objects; broken ones are left out, and in ``problems``."""
        self._proxies.clear()
        self._moved.clear()
        self._snapshot = self._compiler.begin(objects, trust_roots=self._roots())
        return self._snapshot

    def update(self, touched: Iterable[Touched]) -> Snapshot:
        """Index what there is news of."""
        before = self._snapshot
        snapshot = self._compiler.update(
            [Change(kind, Key(namespace, name), obj) for kind, namespace, name, obj in touched],
            trust_roots=self._roots(),
        )
        if before is not None and before.monitored != snapshot.monitored:
            moved = before.monitored ^ snapshot.monitored
            self._moved |= {uid for uid, key in self._proxies.items() if key.namespace in moved}
        self._snapshot = snapshot
        return snapshot

    def due(self) -> list[ProxyKey]:
        """Return the proxies whose configuration may be another now, in order."""
        return sorted(self._proxies[uid] for uid in {*self._compiler.due, *self._moved})

    def compile(self, proxy: ProxyKey) -> Compiled | None:
        """Compile for one proxy; ``None``: its Pod is not known (yet), or not in the mesh."""
        self._proxies[proxy.uid] = proxy
        self._moved.discard(proxy.uid)
        text = self._compiler.compile(proxy.uid)
        snapshot = self._snapshot
        if text is None or snapshot is None:
            return None
        if not snapshot.pod_in_mesh(snapshot.pods_by_uid[proxy.uid]):
            return None
        return Compiled(text.version, text.parts)

    def forget(self, proxy: ProxyKey) -> None:
        """Compile for this proxy no more."""
        self._moved.discard(proxy.uid)
        if self._proxies.pop(proxy.uid, None) is not None:
            self._compiler.forget(proxy.uid)
