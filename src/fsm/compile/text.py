"""Puts the JSON of a configuration together from parts that many proxies share.

In: the outbound half, once for all that share it; what a proxy has of its own. Out: the bytes that
``ProxyConfig.to_json`` would write, as parts to be sent one after the other, and the version.
Invariants: exactly those bytes, exactly that version; the shared parts are not copied, so a proxy
takes the memory of its own part only.

Not here: what is in them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from weakref import WeakValueDictionary

from fsm.compile import digest
from fsm.compile.contract import (
    Cluster,
    Outbound,
    ProxyConfig,
    cluster_text,
    json_of,
    outbound_text,
)

Part = bytes | memoryview

_NO_MATCHES = b'"matches":[]'
# WHY: a small part costs more as an object of its own, and as a write, than as a copy.
_COPIED_MAX = 4096


@dataclass(frozen=True, slots=True)
class Text:
    """The configuration of one proxy, ready to be sent."""

    version: str
    parts: tuple[Part, ...] = field(repr=False)
    own: OwnText = field(repr=False, compare=False)
    shared: SharedText = field(repr=False, compare=False)
    """What it was put together from; the same bytes, not copies."""

    def to_json(self) -> bytes:
        """Return the whole."""
        return b"".join(self.parts)


@dataclass(frozen=True, slots=True)
class Written:
    """A piece of JSON and its hash."""

    text: bytes = field(repr=False)
    digest: bytes


@dataclass(frozen=True, slots=True, weakref_slot=True)
class ClustersText:
    """The clusters of an outbound half."""

    names: tuple[str, ...] = field(repr=False)
    """In order."""
    ends: tuple[int, ...] = field(repr=False)
    """Where each ends in the text of all of them."""
    text: bytes = field(repr=False)
    digest: bytes


@dataclass(frozen=True, slots=True)
class SharedText:
    """An outbound half with its clusters, for all proxies that have the same."""

    outbound: Written
    clusters: ClustersText
    rest: bytes = field(repr=False)
    """The half without its matches, or ``null``."""
    matches: tuple[Written, ...] = field(repr=False)


# WHY: in permissive mode the halves of all namespaces differ in names, and lead to the same
# clusters, which are most of the text. Who uses them keeps them.
_KNOWN_CLUSTERS: WeakValueDictionary[bytes, ClustersText] = WeakValueDictionary()


def written(text: bytes) -> Written:
    """Return a piece with its hash."""
    return Written(text, digest.digest(text))


def write_match(match: object) -> Written:
    """Write one match of the outbound half."""
    return written(json_of(match))


def write_cluster(name: str, cluster: Cluster) -> Written:
    """Write one cluster."""
    return written(cluster_text(name, cluster))


def share(
    outbound: Outbound | None, matches: Iterable[Written], clusters: Mapping[str, Written]
) -> SharedText:
    """Put an outbound half together.

    Args:
        outbound: the half; its own matches are not looked at. None: the listener is closed.
        matches: its matches.
        clusters: its clusters, by name.

    """
    matches = list(matches)
    rest = outbound_text(outbound)
    before, found, after = rest.partition(_NO_MATCHES)
    # In a string the quotation marks would be escaped: the first is the only one.
    text = before + found[:-1] + b",".join(match.text for match in matches) + found[-1:] + after
    return SharedText(
        outbound=Written(
            text,
            digest.of_outbound(rest, digest.digest(b"".join(match.digest for match in matches))),
        ),
        clusters=_share_clusters(clusters),
        rest=rest,
        matches=tuple(matches),
    )


def _share_clusters(clusters: Mapping[str, Written]) -> ClustersText:
    names = sorted(clusters)
    wanted = digest.digest(b"".join(clusters[name].digest for name in names))
    known = _KNOWN_CLUSTERS.get(wanted)
    if known is not None:
        return known
    ends, end = [], -1
    for name in names:
        end += 1 + len(clusters[name].text)
        ends.append(end)
    text = b",".join(clusters[name].text for name in names)
    made = _KNOWN_CLUSTERS[wanted] = ClustersText(tuple(names), tuple(ends), text, wanted)
    return made


@dataclass(frozen=True, slots=True)
class OwnText:
    """What a proxy has of its own, written."""

    texts: Mapping[str, bytes] = field(repr=False)
    """The top-level fields, by name."""
    local: Mapping[str, Written] = field(repr=False)
    """Its clusters, in order of name."""
    frame: tuple[bytes, ...] = field(repr=False)
    """The configuration around the values of ``_SHARED`` and the version."""
    seal: tuple[bytes, ...] = field(repr=False)
    """What the version is the hash of, around the digests of ``_SHARED``."""
    local_digest: bytes = field(repr=False)


_SHARED = ("clusters", "outbound")
"""Fields that are not, or not alone, a proxy's own."""


def write_own(own: ProxyConfig) -> OwnText:
    """Write what ``proxy.compile_own`` makes; all its clusters are local ones."""
    pieces = {name: _once(text) for name, text in own.field_texts()}
    local = {name: write_cluster(name, own.clusters[name]) for name in sorted(own.clusters)}
    frame, text, mark = [], b"", b"{"
    for name in sorted([*pieces, *_SHARED, "version"]):
        text += mark + json_of(name) + b":"
        mark = b","
        if name in pieces:
            text += pieces[name].text
        else:
            frame.append(text)
            text = b""
    return OwnText(
        {name: piece.text for name, piece in pieces.items()},
        local,
        (*frame, text + b"}"),
        digest.around({name: piece.digest for name, piece in pieces.items()}, _SHARED),
        digest.digest(b"".join(piece.digest for piece in local.values())),
    )


@lru_cache(maxsize=256)
def _once(text: bytes) -> Written:
    """Return the same piece for the same text: most fields are alike in most proxies."""
    return written(text)


def assemble(own: OwnText, shared: SharedText) -> Text:
    """Put a configuration together from what is its own and its outbound half."""
    clusters = digest.of_clusters(shared.clusters.digest, own.local_digest)
    version = digest.sealed(own.seal, (clusters, shared.outbound.digest))
    first, second, third, last = own.frame
    parts = (
        first + b"{",
        *_merge(shared, own.local),
        b"}" + second,
        shared.outbound.text,
        third + json_of(version) + last,
    )
    return Text(version, _joined(parts), own, shared)


def _merge(shared: SharedText, local: Mapping[str, Written]) -> Iterable[Part]:
    """Yield all clusters in order of name."""
    whole, begin, comma = memoryview(shared.clusters.text), 0, False
    for name, piece in local.items():
        place = bisect_left(shared.clusters.names, name)
        end = shared.clusters.ends[place - 1] if place else 0
        if end > begin:
            if comma:
                yield b","
            yield whole[begin:end]
            # The comma that follows stands before the next one of the shared.
            begin, comma = end + 1, True
        if comma:
            yield b","
        yield piece.text
        comma = True
    if begin < len(whole):
        if comma:
            yield b","
        yield shared.clusters.text if not begin else whole[begin:]


def _joined(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Join small parts that follow each other."""
    found: list[Part] = []
    small: list[Part] = []
    for part in parts:
        if len(part) <= _COPIED_MAX:
            small.append(part)
            continue
        if small:
            found.append(b"".join(small))
            small = []
        found.append(part)
    if small:
        found.append(b"".join(small))
    return tuple(found)
