"""The mesh's kinds by the names that people type: ``TrafficSplit``, ``trafficsplits``, ``split``.

What comes in: a word of the command line. What goes out: the kind's ``Resource``. Invariant: the
kinds are those of ``fsm.policies``, in the version that is stored; an unknown word is told together
with the known ones.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from fsm.cli.errors import ExitCode, Failure

if TYPE_CHECKING:
    from fsm.kube import KubeClient, Resource


def resources() -> list[Resource]:
    """Return the mesh's kinds."""
    from fsm import policies
    from fsm.kube import Resource

    return [
        Resource(p.group, p.versions[0], p.plural, p.kind, p.namespaced)
        for p in policies.POLICIES
        if p.versions
    ]


def resource_of(word: str) -> Resource:
    """Return the kind that a word means.

    Raises:
        Failure: it means none.
    """
    known = resources()
    wanted = word.lower()
    for resource in known:
        if wanted in (
            resource.kind.lower(),
            resource.plural,
            f"{resource.plural}.{resource.group}",
        ):
            return resource
    kinds = [r.kind for r in known]
    lower = {kind.lower(): kind for kind in kinds}
    near = [lower[name] for name in difflib.get_close_matches(wanted, lower, n=1, cutoff=0.5)]
    meant = f"{near[0]}? " if near else ""
    hint = f"{meant}the mesh's kinds are {', '.join(kinds)}"
    raise Failure(f"{word!r} is not a kind of the mesh", hint=hint, code=ExitCode.USAGE)


def split(words: list[str]) -> tuple[str, str]:
    """Return kind and name of ``KIND/NAME`` or ``KIND NAME``.

    Raises:
        Failure: it is neither.
    """
    parts = words[0].split("/") if len(words) == 1 else words
    if len(parts) != 2 or not all(parts):
        raise Failure(
            f"{' '.join(words)!r} does not name an object",
            hint="write KIND/NAME, such as trafficsplit/bookstore-split",
            code=ExitCode.USAGE,
        )
    return parts[0], parts[1]


async def check_served(client: KubeClient, resource: Resource) -> None:
    """Make sure that the cluster has a kind.

    Raises:
        Failure: it has not.
    """
    import json

    from fsm.kube import NotFound

    try:
        found = json.loads(await client.raw_get(f"/apis/{resource.group}/{resource.version}"))
    except NotFound:
        found = {}
    if all(entry["name"] != resource.plural for entry in found.get("resources") or []):
        raise Failure(
            f"the cluster does not know the kind {resource.kind}",
            hint="is the mesh installed? (`fsm up`, `fsm install`, `fsm mesh upgrade`)",
        )
