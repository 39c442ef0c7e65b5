"""Keeps the configurations of many proxies true, at the cost of what changed.

In: changes of objects; which proxies there are. Out: which configurations may be others now, and
each configuration as text. Invariants: whatever happened before, a configuration is byte for byte
the one that ``compile_proxy`` makes of a snapshot made from nothing; an object that changed costs
the configurations that depend on it, and no others.

    objects ──► SnapshotBuilder ──► cells ──► Tracker ──► due ──► text of a proxy
                                                                   ├─ its own part
                                                                   └─ outbound half (``pieces``)

How the objects are doing (``assessing``) follows the same snapshots.

Not here: which proxies there are, who is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fsm.compile.assessing import Assessments
from fsm.compile.build import Change, SnapshotBuilder
from fsm.compile.outbound import asker_of
from fsm.compile.pieces import shared_text
from fsm.compile.proxy import compile_own
from fsm.compile.text import OwnText, Text, assemble, write_own
from fsm.compile.tracking import Tracker
from fsm.model.fields import JsonObject
from fsm.model.snapshot import Snapshot
from fsm.settings import Settings


class IncrementalCompiler:
    """Follows one world."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._builder = SnapshotBuilder(settings)
        self._tracker = Tracker()
        self.assessments = Assessments(settings)
        """How the objects of the world are doing; another one after ``begin``."""

    @property
    def due(self) -> list[str]:
        """Uids of the Pods whose configuration may not be what ``compile`` returned last."""
        return [uid for root in self._tracker.due if isinstance(root, tuple) for uid in root[1:]]

    @property
    def runs(self) -> int:
        """How many parts were made so far: the measure of the work done."""
        return self._tracker.runs

    def begin(
        self, objects: Mapping[str, Iterable[JsonObject]], *, trust_roots: Iterable[str] = ()
    ) -> Snapshot:
        """Take the world as it is, whatever was made of it before.

        Of that only the last MeshConfig that was right is kept, see ``SnapshotBuilder``.
        """
        self._builder = self._builder.anew()
        snapshot, _ = self._builder.build(objects, trust_roots=trust_roots)
        self._tracker = Tracker()
        self._tracker.move(snapshot, ())
        self.assessments = Assessments(self._settings)
        self.assessments.start(snapshot)
        return snapshot

    def update(self, changes: Iterable[Change], *, trust_roots: Iterable[str] = ()) -> Snapshot:
        """Go on to the next snapshot; see ``SnapshotBuilder.update``."""
        snapshot, cells = self._builder.update(changes, trust_roots=trust_roots)
        self._tracker.move(snapshot, cells)
        self.assessments.move(snapshot, cells)
        return snapshot

    def compile(self, uid: str) -> Text | None:
        """Return the configuration of the proxy of a Pod; None: there is no such Pod (yet).

        From now on the Pod may come to be ``due``, until ``forget``.

        Raises:
            Exception: a fault of ours; the Pod stays due.

        """
        return self._tracker.root(("proxy", uid), lambda snapshot: self._text(snapshot, uid))

    def forget(self, uid: str) -> None:
        """Compile for this Pod no more."""
        self._tracker.forget(("proxy", uid))

    def _text(self, snapshot: Snapshot, uid: str) -> Text | None:
        pod = snapshot.pods_by_uid.get(uid)
        if pod is None:
            return None
        asker = asker_of(snapshot, pod.service_account)
        shared = snapshot.once(
            ("shared", asker), lambda snapshot: shared_text(snapshot, asker, self._settings)
        )
        own = snapshot.once(("own", uid), lambda snapshot: self._own(snapshot, uid))
        return assemble(own, shared)

    def _own(self, snapshot: Snapshot, uid: str) -> OwnText:
        return write_own(compile_own(snapshot, snapshot.pods_by_uid[uid], self._settings))
