"""The objects, durable in SQLite, current in memory, with the changes that watches follow.

What comes in: transactions that put and delete objects. What goes out: objects, lists, and the
events of one resource after a version.

    transaction ──commit──► SQLite (WAL) ──then──► memory ──► event log ──► wakes watchers

Invariants:
- One writer: the process that holds the database (``locking_mode=EXCLUSIVE``); all methods are
  called from one thread and never await, so a transaction sees no other.
- What was returned is committed and on the disk: neither a killed process nor a power cut loses
  what was acknowledged. Without ``sync_every_write`` a power cut may lose the last moments, and
  corrupts nothing.
- ``resourceVersion`` grows by one with each change of any object and never goes back.
- Memory changes only after the commit; a failed write changes nothing and consumes no version.
- Stored objects are shared, never changed in place: copy before editing (``copy_object``).
Not done here: what objects mean (``lifecycle``), HTTP (``handlers``).
Source: https://www.sqlite.org/wal.html and https://www.sqlite.org/pragma.html#pragma_synchronous
"""

from __future__ import annotations

import asyncio
import builtins
import sqlite3
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from fsm.standalone.apiserver.errors import expired, storage_failed

KubeObject = dict[str, Any]
GroupResource = tuple[str, str]
"""API group (empty for core) and plural name."""
Key = tuple[str, str]
"""Namespace (empty for cluster-scoped kinds) and name."""
EventType = Literal["ADDED", "MODIFIED", "DELETED"]

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE objects (
  grp TEXT NOT NULL, plural TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
  rv INTEGER NOT NULL, object BLOB NOT NULL, PRIMARY KEY (grp, plural, namespace, name)
) WITHOUT ROWID;
CREATE TABLE events (
  rv INTEGER PRIMARY KEY, grp TEXT NOT NULL, plural TEXT NOT NULL, type TEXT NOT NULL,
  object BLOB NOT NULL
);
CREATE INDEX events_by_resource ON events (grp, plural, rv);
"""


class StoreError(Exception):
    """The database cannot be opened; the message says why and what to do."""


class UnusableStoreError(StoreError):
    """Nor will it ever be: it is damaged, or of a newer version."""


@dataclass(frozen=True, slots=True)
class Event:
    """One change; ``before`` is the state it replaced, unknown after a restart."""

    rv: int
    type: EventType
    object: KubeObject
    before: KubeObject | None


@dataclass(slots=True)
class _Resource:
    """What memory holds of one resource; ``floor`` is the newest version already forgotten."""

    objects: dict[Key, KubeObject]
    log: list[Event]
    floor: int
    watchers: set[asyncio.Event]


@dataclass(frozen=True, slots=True)
class _Change:
    gr: GroupResource
    key: Key
    event: Event


def copy_object(obj: KubeObject) -> KubeObject:
    """Copy an object deeply (JSON values only); far faster than ``copy.deepcopy``."""
    copied: KubeObject = orjson.loads(orjson.dumps(obj))
    return copied


def object_key(obj: KubeObject) -> Key:
    """Return the key of an object that has a name."""
    meta = obj["metadata"]
    return (meta.get("namespace") or "", meta["name"])


class Transaction:
    """Changes that become true together, or not at all."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.changes: list[_Change] = []
        self.meta: dict[str, bytes] = {}

    def get(self, gr: GroupResource, namespace: str, name: str) -> KubeObject | None:
        """Read an object as this transaction sees it."""
        for change in reversed(self.changes):
            if change.gr == gr and change.key == (namespace, name):
                return None if change.event.type == "DELETED" else change.event.object
        return self._store.get(gr, namespace, name)

    def put(self, gr: GroupResource, obj: KubeObject) -> KubeObject:
        """Create or replace an object; the transaction owns ``obj`` from now on.

        Returns:
            The object with its new ``resourceVersion``.
        """
        key = object_key(obj)
        before = self.get(gr, *key)
        rv = self._next()
        obj["metadata"]["resourceVersion"] = str(rv)
        kind: EventType = "ADDED" if before is None else "MODIFIED"
        self.changes.append(_Change(gr, key, Event(rv, kind, obj, before)))
        return obj

    def delete(self, gr: GroupResource, namespace: str, name: str) -> KubeObject | None:
        """Remove an object; returns its last state, versioned by the deletion."""
        before = self.get(gr, namespace, name)
        if before is None:
            return None
        rv = self._next()
        last = before | {"metadata": before["metadata"] | {"resourceVersion": str(rv)}}
        self.changes.append(_Change(gr, (namespace, name), Event(rv, "DELETED", last, before)))
        return last

    def set_meta(self, key: str, value: bytes) -> None:
        """Keep a value that belongs to no object, such as a signing key."""
        self.meta[key] = value

    def _next(self) -> int:
        return self._store.rv + len(self.changes) + 1


class Store:
    """All objects of the standalone world; open it with ``Store.open``."""

    # LIMIT events kept per resource: a client that was away for more changes than this lists
    # again. etcd keeps five minutes; a count bounds memory whatever the rate.
    EVENTS_MAX = 8192

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._resources: dict[GroupResource, _Resource] = {}
        self.rv = 0

    @classmethod
    def open(cls, path: Path, *, sync_every_write: bool = True) -> Store:
        """Open or create the database and load what it holds.

        Args:
            path: the database file; its directory exists.
            sync_every_write: survive power cuts, at the price of a disk flush per write.

        Raises:
            StoreError: in use by another process, unreadable, corrupt, or of a newer version.
        """
        try:
            db = sqlite3.connect(path, isolation_level=None, timeout=2.0)
            db.execute("PRAGMA locking_mode=EXCLUSIVE")
            db.execute("PRAGMA journal_mode=WAL")
            db.execute(f"PRAGMA synchronous={'FULL' if sync_every_write else 'NORMAL'}")
            found = db.execute("PRAGMA user_version").fetchone()[0]
            if found > SCHEMA_VERSION:
                raise UnusableStoreError(
                    f"{path} was written by a newer version (format {found}, we know"
                    f" {SCHEMA_VERSION})\nhint: use that version, or remove the file"
                )
            if found == 0:
                db.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version={SCHEMA_VERSION};COMMIT;")
            store = cls(db)
            store._load()
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise StoreError(f"{path} is in use by another API server") from error
            raise StoreError(f"cannot open {path}: {error}") from error
        except (sqlite3.DatabaseError, orjson.JSONDecodeError) as error:
            raise UnusableStoreError(
                f"{path} is damaged: {error}\nhint: restore it from a copy, or remove it and apply"
                " your manifests again"
            ) from error
        return store

    def close(self) -> None:
        """Close the database; what is in memory stays readable."""
        self._db.close()

    def _load(self) -> None:
        for grp, plural, raw in self._db.execute("SELECT grp, plural, object FROM objects"):
            obj = orjson.loads(raw)
            self._resource((grp, plural)).objects[object_key(obj)] = obj
        rows = self._db.execute("SELECT rv, grp, plural, type, object FROM events ORDER BY rv")
        for rv, grp, plural, kind, raw in rows:
            self._resource((grp, plural)).log.append(Event(rv, kind, orjson.loads(raw), None))
        for key, value in self._db.execute("SELECT key, value FROM meta"):
            if key == "rv":
                self.rv = int(value)
            elif key.startswith("floor:"):
                grp, _, plural = key.removeprefix("floor:").partition("/")
                self._resource((grp, plural)).floor = int(value)

    def _resource(self, gr: GroupResource) -> _Resource:
        found = self._resources.get(gr)
        if found is None:
            found = self._resources[gr] = _Resource({}, [], 0, set())
        return found

    def get(self, gr: GroupResource, namespace: str, name: str) -> KubeObject | None:
        """Return one object, shared: do not change it."""
        return self._resource(gr).objects.get((namespace, name))

    def list(self, gr: GroupResource, namespace: str | None = None) -> list[KubeObject]:
        """Return the objects of a resource in order of namespace and name, shared."""
        objects = self._resource(gr).objects
        if namespace is None:
            return [objects[key] for key in sorted(objects)]
        return [objects[key] for key in sorted(key for key in objects if key[0] == namespace)]

    def resources(self) -> Iterator[GroupResource]:
        """Iterate over the resources that have objects."""
        return (gr for gr, held in list(self._resources.items()) if held.objects)

    def meta(self, key: str) -> bytes | None:
        """Read a value kept by ``Transaction.set_meta``."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (f"user:{key}",)).fetchone()
        return None if row is None else bytes(row[0])

    def events(self, gr: GroupResource, after: int) -> builtins.list[Event]:
        """Return the changes of a resource after a version.

        Raises:
            StatusError: 410, the version is too old or from another store's future.
        """
        held = self._resource(gr)
        if after < held.floor or after > self.rv:
            raise expired(f"too old resource version: {after} ({max(held.floor, self.rv)})")
        return held.log[bisect_right(held.log, after, key=lambda event: event.rv) :]

    @contextmanager
    def listen(self, gr: GroupResource) -> Iterator[asyncio.Event]:
        """Give an ``asyncio.Event`` that is set whenever the resource changes."""
        held, event = self._resource(gr), asyncio.Event()
        held.watchers.add(event)
        try:
            yield event
        finally:
            held.watchers.discard(event)

    def wake_all(self) -> None:
        """Wake every watcher, so that it notices that the server closes."""
        for held in self._resources.values():
            for watcher in held.watchers:
                watcher.set()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Collect changes; commit them when the block ends, drop them when it raises.

        Raises:
            StatusError: 507 or 500, the disk refused; nothing was changed.
        """
        txn = Transaction(self)
        yield txn
        if not txn.changes and not txn.meta:
            return
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._write(txn)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except (sqlite3.Error, OSError) as error:
            full = "full" in str(error)
            raise storage_failed(f"cannot write to the store: {error}", full=full) from error
        self._publish(txn)

    def _write(self, txn: Transaction) -> None:
        # An object may change twice in one transaction: the log has both, the table the last.
        for change in txn.changes:
            (grp, plural), event = change.gr, change.event
            raw = orjson.dumps(event.object)
            if event.type == "DELETED":
                self._db.execute(
                    "DELETE FROM objects WHERE grp=? AND plural=? AND namespace=? AND name=?",
                    (grp, plural, *change.key),
                )
            else:
                self._db.execute(
                    "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?)",
                    (grp, plural, *change.key, event.rv, raw),
                )
            self._db.execute(
                "INSERT INTO events VALUES (?, ?, ?, ?, ?)",
                (event.rv, grp, plural, event.type, raw),
            )
        for key, value in txn.meta.items():
            self._set_meta(f"user:{key}", value)
        self._set_meta("rv", str(self.rv + len(txn.changes)).encode())
        for gr in {change.gr for change in txn.changes}:
            self._forget(gr)

    def _set_meta(self, key: str, value: bytes) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def _forget(self, gr: GroupResource) -> None:
        """Drop the oldest events on disk, a quarter at a time, so that it is seldom done."""
        log = self._resource(gr).log
        if len(log) >= self.EVENTS_MAX:
            floor = log[len(log) // 4].rv
            self._db.execute(
                "DELETE FROM events WHERE grp=? AND plural=? AND rv<=?", (gr[0], gr[1], floor)
            )
            self._set_meta(f"floor:{gr[0]}/{gr[1]}", str(floor).encode())

    def _publish(self, txn: Transaction) -> None:
        for gr in {change.gr for change in txn.changes}:
            held = self._resource(gr)
            if len(held.log) >= self.EVENTS_MAX:
                held.floor = held.log[len(held.log) // 4].rv
                del held.log[: len(held.log) // 4 + 1]
        for change in txn.changes:
            held, event = self._resource(change.gr), change.event
            if event.type == "DELETED":
                held.objects.pop(change.key, None)
            else:
                held.objects[change.key] = event.object
            held.log.append(event)
            for watcher in held.watchers:
                watcher.set()
        self.rv += len(txn.changes)
