"""Other names of Services: ExternalName Services that point at one of the mesh.

In: the snapshot and a Service. Out: the Services that are names for it, in order. Invariants: an
alias counts in a monitored namespace only, and when it is not hidden; what it points at is a
Service's DNS name, short of the cluster's domain or not; an alias of an alias is none, as DNS would
answer with a name that the client's resolver follows but no Host header shows.

WHY: the cluster's DNS answers with the address of the Service that is meant, so that the connection
is known, while the Host header carries the name that the client was told.
"""

from __future__ import annotations

from collections.abc import Mapping

from fsm.model.names import Key
from fsm.model.service import Service
from fsm.model.snapshot import Snapshot
from fsm.settings import Settings


def aliases(snapshot: Snapshot, key: Key, settings: Settings) -> tuple[Service, ...]:
    """Return the Services that are names for a Service of the mesh."""

    def every(snapshot: Snapshot) -> Mapping[Key, tuple[Service, ...]]:
        return _by_target(snapshot, settings)

    def those(snapshot: Snapshot) -> tuple[Service, ...]:
        return snapshot.once(("aliases",), every).get(key, ())

    return snapshot.once(("aliases", key), those)


def _by_target(snapshot: Snapshot, settings: Settings) -> Mapping[Key, tuple[Service, ...]]:
    found: dict[Key, tuple[Service, ...]] = {}
    for service in snapshot.services.values():
        if service.type != "ExternalName" or service.hidden:
            continue
        home = snapshot.namespaces.get(service.namespace)
        if home is None or service.namespace not in snapshot.monitored:
            continue
        if service.name in home.excluded_services():
            continue
        target = _service_of(service.external_name, settings.cluster_domain)
        if target is not None and target != service.key:
            found[target] = (*found.get(target, ()), service)
    return found


def _service_of(name: str, domain: str) -> Key | None:
    """Return which Service a DNS name is of: ``svc.ns.svc`` or ``svc.ns.svc.<domain>``."""
    labels = name.lower().rstrip(".").removesuffix(f".{domain}").split(".")
    if len(labels) == 3 and labels[2] == "svc" and all(labels):
        return Key(labels[1], labels[0])
    return None
