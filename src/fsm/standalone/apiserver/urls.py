"""Kubernetes URLs: from a path to what it names.

What comes in: the path of a request. What goes out: group, version, namespace, plural, name and
subresource, or ``None`` when it is no resource path.

Invariants: segments are decoded once, after splitting, so an encoded slash stays inside a name (and
is then refused as one); nothing is looked up here.
Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote


@dataclass(frozen=True, slots=True)
class ResourcePath:
    """What a resource path names; ``rest`` is what follows a subresource (proxied paths)."""

    group: str
    version: str
    namespace: str
    plural: str
    name: str
    subresource: str
    rest: str = ""


def parse(raw_path: str) -> ResourcePath | None:
    """Split a path; ``None`` for anything that is not below /api/v1 or /apis/GROUP/VERSION."""
    parts = raw_path.strip("/").split("/")
    match [unquote(part) for part in parts[:3]]:
        case ["api", version, _]:
            group, tail = "", parts[2:]
        case ["apis", group, version] if len(parts) > 3:
            tail = parts[3:]
        case _:
            return None
    names = [unquote(part) for part in tail]
    namespace = ""
    # /namespaces/NAME/status is a subresource of the namespace, not a kind inside it.
    own = len(names) >= 3 and names[2] in ("status", "finalize") and len(names) == 3
    if names[0] == "namespaces" and len(names) >= 3 and not own:
        namespace, names, tail = names[1], names[2:], tail[2:]
        if not namespace:
            return None
    if not all(names[:3]):
        return None
    if len(names) > 3 and names[2] != "proxy":
        return None
    padded = [*names, "", "", ""]
    rest = "/".join(tail[3:])
    if rest and raw_path.endswith("/"):
        rest += "/"
    return ResourcePath(group, version, namespace, padded[0], padded[1], padded[2], rest)
