"""The pure compiler, as the publisher uses it.

What comes in: objects, and which proxies there are. What goes out: snapshots; which proxies may
need something else now; the bytes for one proxy.

Invariants: this is the only place where controllers meet ``fsm.compile`` to make configurations;
nothing is decided here. The compiler remembers what it made, so one engine serves one world.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fsm.compile import Assessments, Change, IncrementalCompiler, Text, difference
from fsm.controllers.world import Touched
from fsm.delivery import Compiled, ProxyKey
from fsm.model import Key, Snapshot
from fsm.settings import Settings


@dataclass(frozen=True, slots=True)
class Made(Compiled):
    """A configuration that knows what it was put together from."""

    text: Text = field(repr=False, compare=False)

    def difference(self, other: Compiled) -> bytes | None:
        """Say how to come here from another; ``None``: only by the whole."""
        return difference(other.text, self.text) if isinstance(other, Made) else None


class Engine:
    """Implements ``publisher.Compiler`` with ``fsm.compile``."""

    def __init__(
        self,
        settings: Settings,
        roots: Callable[[], tuple[str, ...]],
        noted: Callable[[str, Any], Any] = lambda kind, obj: obj,
    ) -> None:
        """Make one.

        Args:
            settings: those of the mesh.
            roots: the roots that everyone believes.
            noted: gives an object of a kind with what was found out about it.
        """
        self._noted = noted
        self._compiler = IncrementalCompiler(settings)
        self._roots = roots
        self._proxies: dict[str, ProxyKey] = {}
        self._snapshot: Snapshot | None = None
        self._moved: set[str] = set()

    @property
    def assessments(self) -> Assessments | None:
        """How the objects are doing; None: there is no snapshot yet."""
        return self._compiler.assessments if self._snapshot is not None else None

    def begin(self, objects: Mapping[str, Sequence[Mapping[str, Any]]]) -> Snapshot:
        """Index all objects; broken ones are left out, and in ``problems``."""
        self._proxies.clear()
        self._moved.clear()
        noted = {
            kind: [self._noted(kind, obj) for obj in found] if kind == "Plugin" else found
            for kind, found in objects.items()
        }
        self._snapshot = self._compiler.begin(noted, trust_roots=self._roots())
        return self._snapshot

    def update(self, touched: Iterable[Touched]) -> Snapshot:
        """Index what there is news of."""
        before = self._snapshot
        snapshot = self._compiler.update(
            [
                Change(kind, Key(namespace, name), self._noted(kind, obj))
                for kind, namespace, name, obj in touched
            ],
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
        return Made(text.version, text.parts, text)

    def forget(self, proxy: ProxyKey) -> None:
        """Compile for this proxy no more."""
        self._moved.discard(proxy.uid)
        if self._proxies.pop(proxy.uid, None) is not None:
            self._compiler.forget(proxy.uid)
