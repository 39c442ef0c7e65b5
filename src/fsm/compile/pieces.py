"""The outbound half as text, put together from pieces that are remembered one by one.

In: a snapshot that tracks what is read, and for whom. Out: ``SharedText``. Invariants: the text of
what ``build_outbound`` makes, to the byte; in permissive mode a change of one Service makes its own
pieces again, and for each namespace puts together what is there.

In SMI mode a half is small and one piece. In permissive mode it has every Service of the mesh:

- ``reach``: one Service by its own addresses, with the clusters that its traffic goes to;
- ``dial``: the Pods of Services that have an address in common, because what a connection to a Pod
  means is decided among all Services that the Pod belongs to; mostly that is one Service;
- ``egress``: what policies let one ServiceAccount reach outside of the mesh.

A piece is the same for all namespaces but that of its Services, where names may be shorter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter

from fsm.compile.aliases import aliases
from fsm.compile.contract import Cluster, OutboundMatch
from fsm.compile.egress import EgressBuilder
from fsm.compile.outbound import (
    OutboundBuilder,
    dials_pods,
    match_order,
    outbound_of,
)
from fsm.compile.text import SharedText, Written, share, write_cluster, write_match
from fsm.model.names import Key, ServiceAccount
from fsm.model.snapshot import Snapshot
from fsm.policies.retry.compile import retries_of
from fsm.settings import Settings

_Order = tuple[int, tuple[str, ...]]
_About = Key | tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some matches and clusters, written."""

    matches: tuple[tuple[_Order, Written], ...]
    clusters: Mapping[str, Written]


def shared_text(snapshot: Snapshot, asker: ServiceAccount, settings: Settings) -> SharedText:
    """Return the outbound half of all proxies that share it.

    Args:
        snapshot: the world.
        asker: what ``asker_of`` says of their ServiceAccounts.
        settings: those of the mesh.

    """
    # Those with retries of their own have a half of their own, in permissive mode too.
    if snapshot.mesh.traffic.permissive and not (asker.name and retries_of(snapshot, asker)):
        return _of_pieces(snapshot, asker, settings)

    def make(snapshot: Snapshot) -> _Piece:
        builder = OutboundBuilder(snapshot, asker, settings)
        return _piece(builder.matches(), builder.clusters.clusters)

    # Whether egress is open is no part of the piece, so that switching it makes none again.
    piece = snapshot.once(("smi", asker), make)
    half = outbound_of(snapshot.mesh, piece.matches)  # type: ignore[arg-type]
    return share(half, (match for _, match in piece.matches), piece.clusters)


@dataclass(frozen=True, slots=True)
class _Abroad:
    """The pieces as those see them who are at home with none of the Services.

    Attributes:
        pieces: in order.
        about: of what each is; a Service: how it is reached; a tuple: how the Pods of these are
            dialled.
        homes: where each namespace is at home: numbers of pieces.
    """

    pieces: tuple[_Piece, ...]
    about: tuple[_About, ...]
    homes: Mapping[str, tuple[int, ...]]


def _of_pieces(snapshot: Snapshot, asker: ServiceAccount, settings: Settings) -> SharedText:
    namespace = asker.namespace
    matches: list[tuple[_Order, Written]] = []
    clusters: dict[str, Written] = {}
    # WHY: asking for each piece for each namespace costs more than all the rest of a change.
    abroad = snapshot.once(("abroad",), lambda snapshot: _abroad(snapshot, settings))
    pieces = list(abroad.pieces)
    for number in abroad.homes.get(namespace, ()):
        pieces[number] = _piece_of(snapshot, abroad.about[number], namespace, settings)
    for piece in pieces:
        matches += piece.matches
        for name, cluster in piece.clusters.items():
            clusters.setdefault(name, cluster)
    matches.sort(key=itemgetter(0))
    if asker.name:
        outside = _egress(snapshot, asker, settings)
        matches += outside.matches
        for name, cluster in outside.clusters.items():
            clusters.setdefault(name, cluster)
    # Whether the listener is open depends on there being a match, not on which.
    half = outbound_of(snapshot.mesh, matches)  # type: ignore[arg-type]
    return share(half, (match for _, match in matches), clusters)


def _abroad(snapshot: Snapshot, settings: Settings) -> _Abroad:
    # The order matters: of clusters of one name the first is meant, and matches for the same
    # address stay in the order in which they are found.
    about: tuple[_About, ...] = (
        *snapshot.mesh_services,
        *snapshot.once(("dialled",), _dialled_together),
    )
    homes: dict[str, list[int]] = {}
    for number, those in enumerate(about):
        keys = (those,) if isinstance(those, Key) else those
        for namespace in _named(snapshot, keys, settings):
            homes.setdefault(namespace, []).append(number)
    return _Abroad(
        tuple(_piece_of(snapshot, those, "", settings) for those in about),
        about,
        {namespace: tuple(numbers) for namespace, numbers in homes.items()},
    )


def _piece_of(snapshot: Snapshot, about: _About, home: str, settings: Settings) -> _Piece:
    if isinstance(about, Key):
        return _reach(snapshot, about, home, settings)
    return _dial(snapshot, about, home, settings)


def _egress(snapshot: Snapshot, account: ServiceAccount, settings: Settings) -> _Piece:
    def make(snapshot: Snapshot) -> _Piece:
        builder = EgressBuilder(snapshot, account, settings)
        matches = builder.matches()
        return _piece(matches, builder.clusters)

    return snapshot.once(("egress-text", account), make)


def _reach(snapshot: Snapshot, key: Key, home: str, settings: Settings) -> _Piece:
    def make(snapshot: Snapshot) -> _Piece:
        builder = OutboundBuilder(snapshot, ServiceAccount(home, ""), settings)
        matches = builder.by_cluster_ip(builder.reaches([key]))
        return _piece(matches, builder.clusters.clusters)

    return snapshot.once(("reach", key, home), make)


def _dial(snapshot: Snapshot, keys: tuple[Key, ...], home: str, settings: Settings) -> _Piece:
    def make(snapshot: Snapshot) -> _Piece:
        builder = OutboundBuilder(snapshot, ServiceAccount(home, ""), settings)
        reaches = builder.reaches(keys)
        known = set(builder.clusters.clusters)
        matches = builder.by_pod(reaches)
        found = builder.clusters.clusters
        return _piece(matches, {name: found[name] for name in found if name not in known})

    return snapshot.once(("dial", keys, home), make)


def _named(snapshot: Snapshot, keys: Iterable[Key], settings: Settings) -> set[str]:
    """Return the namespaces for whose Pods it makes a difference: names may be shorter at home."""
    named = {key.namespace for key in keys}
    named |= {service.namespace for key in keys for service in aliases(snapshot, key, settings)}
    return named


def _dialled_together(snapshot: Snapshot) -> tuple[tuple[Key, ...], ...]:
    """Return the Services whose Pods may be dialled, those that share an address together."""
    by_address: dict[str, list[Key]] = {}
    for key in snapshot.mesh_services:
        service = snapshot.service_in_mesh(key)
        if service is None or not dials_pods(snapshot.mesh, service):
            continue
        for endpoint in snapshot.endpoints[key]:
            by_address.setdefault(endpoint.address, []).append(key)
    groups: dict[Key, set[Key]] = {}
    for keys in by_address.values():
        joined: set[Key] = set().union(*(groups.get(key, {key}) for key in keys))
        if joined == groups.get(keys[0]):
            continue
        for key in joined:
            groups[key] = joined
    return tuple(sorted({tuple(sorted(group)) for group in groups.values()}))


def _piece(matches: Iterable[OutboundMatch], clusters: Mapping[str, Cluster]) -> _Piece:
    return _Piece(
        tuple((match_order(match), write_match(match)) for match in matches), _written(clusters)
    )


def _written(clusters: Mapping[str, Cluster]) -> dict[str, Written]:
    return {name: write_cluster(name, cluster) for name, cluster in clusters.items()}
