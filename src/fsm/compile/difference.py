"""What differs between two configurations of one proxy, as text to be sent instead of the second.

In: two ``Text``s. Out: a JSON document, or None where the whole is about as short. Invariants: who
carries it out on the first comes to the second, field by field; what many proxies share is compared
once for all of them.

    {"base": version of the first,
     "fields": {top-level fields that differ, each whole, "version" among them},
     "clusters": {"changed": {name: cluster}, "removed": [name]},
     "outbound": null, or {"fields": {what it has beside its matches},
                           "matches": [[first, count] of the base's, or a match, in order]}}

``clusters`` and ``outbound`` are absent where nothing in them differs. Not here: who holds what.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from fsm.compile.contract import json_of
from fsm.compile.text import ClustersText, SharedText, Text, Written

# WHY: a short configuration costs less to send than to compare.
WHOLE_BYTES_MAX = 32 * 1024
# LIMIT: pairs of shared halves whose difference is kept. In a change of everything there is one for
# each namespace; whoever comes later has it made again.
_KEPT_MAX = 256

_Pair = tuple[bytes, bytes, bytes, bytes]
_KEPT: OrderedDict[_Pair, _Shared] = OrderedDict()


class _Shared:
    """The difference of two outbound halves."""

    __slots__ = ("changed", "outbound", "removed")

    def __init__(self, old: SharedText, new: SharedText) -> None:
        self.changed, self.removed = _clusters(_by_name(old.clusters), _by_name(new.clusters))
        self.outbound = b"" if old.outbound.digest == new.outbound.digest else _outbound(old, new)


def difference(old: Text, new: Text) -> bytes | None:
    """Return how to come from one configuration to another; None: send the whole."""
    size = sum(map(len, new.parts))
    if size <= WHOLE_BYTES_MAX:
        return None
    fields = [
        json_of(name) + b":" + text
        for name, text in new.own.texts.items()
        if old.own.texts.get(name) != text
    ]
    fields.append(b'"version":' + json_of(new.version))
    parts = [b'"base":' + json_of(old.version), b'"fields":{' + b",".join(fields) + b"}"]
    shared = _shared(old.shared, new.shared)
    local = {name: piece.text for name, piece in old.own.local.items()}
    changed, removed = _clusters(local, {n: p.text for n, p in new.own.local.items()})
    changed, removed = [*shared.changed, *changed], [*shared.removed, *removed]
    if changed or removed:
        text = b'{"changed":{' + b",".join(changed) + b'},"removed":' + json_of(removed) + b"}"
        parts.append(b'"clusters":' + text)
    if shared.outbound:
        parts.append(b'"outbound":' + shared.outbound)
    found = b"{" + b",".join(parts) + b"}"
    return found if len(found) < size // 2 else None


def _shared(old: SharedText, new: SharedText) -> _Shared:
    pair = (old.outbound.digest, old.clusters.digest, new.outbound.digest, new.clusters.digest)
    known = _KEPT.get(pair)
    if known is None:
        known = _KEPT[pair] = _Shared(old, new)
        if len(_KEPT) > _KEPT_MAX:
            _KEPT.popitem(last=False)
    else:
        _KEPT.move_to_end(pair)
    return known


def _clusters(old: Mapping[str, bytes], new: Mapping[str, bytes]) -> tuple[list[bytes], list[str]]:
    changed = [text for name, text in new.items() if old.get(name) != text]
    return changed, [name for name in old if name not in new]


def _by_name(clusters: ClustersText) -> Mapping[str, bytes]:
    """Return clusters as they stand among others, by name."""
    found, begin = {}, 0
    for name, end in zip(clusters.names, clusters.ends, strict=True):
        found[name] = clusters.text[begin:end]
        begin = end + 1
    return found


def _outbound(old: SharedText, new: SharedText) -> bytes:
    if new.rest == b"null":
        return b"null"
    before = old.matches if old.rest != b"null" else ()
    matches = b",".join(_matches(before, new.matches))
    return b'{"fields":' + new.rest + b',"matches":[' + matches + b"]}"


def _matches(old: Sequence[Written], new: Sequence[Written]) -> Iterator[bytes]:
    places = {match.digest: place for place, match in enumerate(old)}
    for first, run in _runs(places.get(match.digest) for match in new):
        if first is None:
            yield new[run].text
        else:
            yield b"[%d,%d]" % (first, run)


def _runs(places: Iterable[int | None]) -> Iterator[tuple[int | None, int]]:
    """Join places that follow each other: first and count; with None, which of the new it is."""
    first, count = 0, 0
    for number, place in enumerate(places):
        if place is not None and count and place == first + count:
            count += 1
            continue
        if count:
            yield first, count
            count = 0
        if place is None:
            yield None, number
        else:
            first, count = place, 1
    if count:
        yield first, count
