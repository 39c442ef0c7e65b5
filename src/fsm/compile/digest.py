"""The version of a configuration: a hash of hashes, so that shared parts are hashed once.

In: canonical JSON of the parts. Out: digests, and the version. Invariants: a version is a function
of the content alone, however the content was put together; the parts are the top-level fields,
within ``outbound`` the matches, within ``clusters`` the local ones and the others.

Not here: which JSON is canonical (``contract``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

VERSION_LENGTH = 16
_LOCAL = "|local"
"""Ends the names of clusters that are the application itself; no two Pods share those."""


def digest(text: bytes) -> bytes:
    """Return the hash of one part."""
    return hashlib.sha256(text).digest()


def of_list(texts: Iterable[bytes]) -> bytes:
    """Return the hash of parts in their order."""
    return digest(b"".join(map(digest, texts)))


def of_outbound(rest: bytes, matches: bytes) -> bytes:
    """Return the hash of the outbound half.

    Args:
        rest: the half without its matches, or ``null``.
        matches: the hash of the matches, ``of_list``.

    """
    return digest(digest(rest) + matches)


def of_clusters(others: bytes, local: bytes) -> bytes:
    """Return the hash of the clusters from those of both groups, each ``of_list`` by name."""
    return digest(others + local)


def is_local(cluster: str) -> bool:
    """Tell which group a cluster is of."""
    return cluster.endswith(_LOCAL)


def version_of(digests: Mapping[str, bytes]) -> str:
    """Return the version from the hashes of all top-level fields but the version itself."""
    return sealed(around(digests, ()), ())


def around(digests: Mapping[str, bytes], others: Iterable[str]) -> tuple[bytes, ...]:
    """Return what a version is the hash of, without the hashes of some fields.

    Args:
        digests: those of the fields that are known.
        others: the fields that are not.

    Returns:
        what stands before, between and after the hashes of the others, in order of their names.

    """
    found, text = [], b""
    for name in sorted([*digests, *others]):
        text += name.encode() + b"\0"
        if name in digests:
            text += digests[name]
        else:
            found.append(text)
            text = b""
    return (*found, text)


def sealed(seal: tuple[bytes, ...], hashes: Iterable[bytes]) -> str:
    """Return the version from what ``around`` returned and the hashes that were left out."""
    known = hashlib.sha256(seal[0])
    for text, missing in zip(seal[1:], hashes, strict=True):
        known.update(missing + text)
    return known.hexdigest()[:VERSION_LENGTH]
