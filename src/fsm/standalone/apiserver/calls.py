"""One request as the layers below HTTP see it: who asks, for what, and how.

What comes in: nothing; these are values made by ``handlers``. What goes out: the same values, read
by ``lifecycle``, ``admission`` and ``auth``.

Invariants: a ``Call`` lives as long as its request; ``warnings`` is the only part that grows (each
becomes a ``Warning`` header, which kubectl prints).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from fsm.standalone.apiserver.registry import ApiResource

FieldValidation = Literal["Strict", "Warn", "Ignore"]


@dataclass(frozen=True, slots=True)
class User:
    """Who asks; ``extra`` carries, for Pod-bound tokens, the Pod."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: dict[str, list[str]] = field(default_factory=dict)

    @property
    def is_admin(self) -> bool:
        """Whether everything is allowed, as for the group of the same meaning in Kubernetes."""
        return "system:masters" in self.groups


ADMIN = User("kubernetes-admin", ("system:masters", "system:authenticated"))
ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


@dataclass(slots=True)
class Call:
    """What a request is about.

    Attributes:
        user: who asks.
        resource: the kind.
        version: the version of the kind that the URL names.
        namespace: empty for all namespaces and for cluster-scoped kinds.
        name: empty for a collection.
        subresource: empty for the object itself.
        dry_run: go through everything and store nothing.
        manager: who writes, for server-side apply.
        validation: what to do about fields that do not exist.
        force: for apply: take over fields of other managers.
        warnings: sentences for the person who asked.
    """

    user: User
    resource: ApiResource
    version: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    dry_run: bool = False
    manager: str = ""
    validation: FieldValidation = "Warn"
    force: bool = False
    warnings: list[str] = field(default_factory=list)

    @property
    def api_version(self) -> str:
        """The apiVersion that objects of this call have."""
        return self.resource.api_version(self.version)
