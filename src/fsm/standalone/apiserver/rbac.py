"""May they: roles and bindings, evaluated as they are stored.

    user ─► bindings with a fitting subject ─► roles ─► rules ─► does one cover the request?
            (ClusterRoleBindings, and the RoleBindings of the request's namespace)

What comes in: a user and what it asks for, as ``Request`` or as a path. What goes out: yes or no;
the rules someone has in a namespace; a refusal of roles by which someone would rise.

Invariants: no rule denies, so more objects never mean less rights; a broken or dangling object
grants nothing; nobody who is not an administrator can write a role or a binding that gives
more than its writer has, unless with the verbs ``escalate`` and ``bind``; nothing is cached, so a
change counts from the next request on (the store is in memory).
Source: https://kubernetes.io/docs/reference/access-authn-authz/rbac/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fsm.standalone.apiserver.calls import Call, User
from fsm.standalone.apiserver.errors import Cause, forbidden, invalid
from fsm.standalone.apiserver.selectors import matches_label_selector, object_labels
from fsm.standalone.apiserver.store import KubeObject, Store

Rule = dict[str, Any]

GROUP = "rbac.authorization.k8s.io"
ROLES, CLUSTER_ROLES = (GROUP, "roles"), (GROUP, "clusterroles")
BINDINGS, CLUSTER_BINDINGS = (GROUP, "rolebindings"), (GROUP, "clusterrolebindings")
_BINDING_KINDS = (BINDINGS, CLUSTER_BINDINGS)
_ROLE_KINDS = (ROLES, CLUSTER_ROLES)

OPEN_PATHS = ("/healthz", "/readyz", "/livez", "/version")
#: What everyone who is known may: look around, and ask about itself (``system:discovery`` and
#: ``system:basic-user`` of Kubernetes).
_EVERYONE: tuple[Rule, ...] = (
    {
        "apiGroups": ["authentication.k8s.io", "authorization.k8s.io"],
        "resources": ["selfsubjectreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews"],
        "verbs": ["create"],
    },
    {
        "nonResourceURLs": [
            *("/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*"),
            *("/.well-known/*", "/openid/*"),
        ],
        "verbs": ["get"],
    },
)
_ALL: Rule = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
_ALL_PATHS: Rule = {"nonResourceURLs": ["*"], "verbs": ["*"]}


@dataclass(frozen=True, slots=True)
class Request:
    """What someone wants to do; the names are those of ``ResourceAttributes``."""

    verb: str
    group: str
    resource: str
    subresource: str = ""
    namespace: str = ""
    name: str = ""

    @property
    def what(self) -> str:
        """The resource as rules write it."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


class Authorizer:
    """Answers from the objects of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def may(self, user: User, request: Request) -> bool:
        """Tell whether someone may do something to a resource."""
        if user.is_admin:
            return True
        return any(covers(rule, request) for rule in self._rules(user, request.namespace))

    def may_path(self, user: User, path: str, verb: str = "get") -> bool:
        """Tell whether someone may use a path that is no resource."""
        if path.startswith(OPEN_PATHS) or user.is_admin:
            return True
        return any(_covers_path(rule, path, verb) for rule in self._rules(user, ""))

    def rules(self, user: User, namespace: str) -> list[Rule]:
        """List what someone may in a namespace, for ``kubectl auth can-i --list``."""
        return [_ALL, _ALL_PATHS] if user.is_admin else list(self._rules(user, namespace))

    def _rules(self, user: User, namespace: str) -> Iterator[Rule]:
        if "system:authenticated" in user.groups:
            yield from _EVERYONE
        for binding in self._store.list(CLUSTER_BINDINGS):
            if _names(binding, user):
                yield from self._granted(binding)
        if namespace:
            for binding in self._store.list(BINDINGS, namespace):
                if _names(binding, user):
                    yield from self._granted(binding)

    def _granted(self, binding: KubeObject) -> list[Rule]:
        """Look up the rules behind a binding; a role that is not there grants nothing."""
        ref = binding.get("roleRef") or {}
        name, namespace = str(ref.get("name") or ""), binding["metadata"].get("namespace", "")
        if ref.get("kind") == "ClusterRole":
            found = self._store.get(CLUSTER_ROLES, "", name)
        elif ref.get("kind") == "Role" and namespace:
            found = self._store.get(ROLES, namespace, name)
        else:
            found = None
        return self._rules_of(found) if found is not None else []

    def _rules_of(self, role: KubeObject) -> list[Rule]:
        selectors = (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or []
        if not selectors:
            return list(role.get("rules") or [])
        parts = [
            other
            for other in self._store.list(CLUSTER_ROLES)
            # One level only: a role that is itself an aggregate is not looked into.
            if not other.get("aggregationRule")
            and any(matches_label_selector(s, object_labels(other)) for s in selectors if s)
        ]
        return [rule for part in parts for rule in part.get("rules") or []]

    def guard(self, call: Call, new: KubeObject, old: KubeObject | None) -> None:
        """Refuse a role or binding that is wrong, or that raises who writes it.

        Raises:
            StatusError: 422 or 403.

        """
        kind = call.resource.gr
        if kind in _BINDING_KINDS:
            _check_binding(call, new, old)
            if _unchanged(new, old, ("roleRef", "subjects")):
                return
            self._may_give(call, new, "bind", self._granted(new), new["roleRef"].get("name", ""))
        elif kind in _ROLE_KINDS and not _unchanged(new, old, ("rules", "aggregationRule")):
            self._may_give(call, new, "escalate", self._rules_of(new), new["metadata"]["name"])

    def _may_give(
        self, call: Call, new: KubeObject, verb: str, given: Sequence[Rule], role: str
    ) -> None:
        user, namespace = call.user, call.namespace
        if user.is_admin:
            return
        ref = (new.get("roleRef") or {}).get("kind") or new["kind"]
        plural = "roles" if ref == "Role" else "clusterroles"
        if self.may(user, Request(verb, GROUP, plural, namespace=namespace, name=role)):
            return
        held = list(self._rules(user, namespace))
        missing = [atom for rule in given for atom in _atoms(rule) if not _held(atom, held)]
        if not missing:
            return
        name = new["metadata"]["name"]
        shown = ", ".join(map(str, missing[:5]))
        raise forbidden(
            GROUP,
            call.resource.plural,
            name,
            f'{call.resource.plural}.{GROUP} "{name}" is forbidden: user "{user.name}" is'
            f" attempting to grant RBAC permissions not currently held: {shown}",
        )


def covers(rule: Rule, request: Request) -> bool:
    """Tell whether one rule allows a request. Pure."""
    names = rule.get("resourceNames") or []
    return (
        _in(request.verb, rule.get("verbs"))
        and _in(request.group, rule.get("apiGroups"))
        and _is_resource(request, rule.get("resources") or [])
        and (not names or request.name in names)
    )


def _is_resource(request: Request, resources: Iterable[str]) -> bool:
    for text in resources:
        if text in ("*", request.what):
            return True
        if request.subresource and text == f"*/{request.subresource}":
            return True
    return False


def _covers_path(rule: Rule, path: str, verb: str) -> bool:
    if not _in(verb, rule.get("verbs")):
        return False
    return any(
        path.startswith(text[:-1]) if text.endswith("*") else path == text
        for text in rule.get("nonResourceURLs") or []
    )


def _in(value: str, allowed: Sequence[str] | None) -> bool:
    return allowed is not None and ("*" in allowed or value in allowed)


def _names(binding: KubeObject, user: User) -> bool:
    for subject in binding.get("subjects") or []:
        name = subject.get("name") or ""
        match subject.get("kind"):
            case "User":
                fits = name == user.name
            case "Group":
                fits = name in user.groups
            case "ServiceAccount":
                place = subject.get("namespace") or ""
                fits = bool(place) and user.name == f"system:serviceaccount:{place}:{name}"
            case _:
                fits = False
        if fits:
            return True
    return False


@dataclass(frozen=True, slots=True)
class _Atom:
    """The smallest part of a rule: one verb on one resource, or on one path."""

    verb: str
    path: str = ""
    group: str = ""
    resource: str = ""
    name: str = ""

    def __str__(self) -> str:
        where = f"{self.resource}.{self.group}" if self.group else self.resource
        return " ".join(filter(None, (self.verb, self.path or where, self.name)))


def _atoms(rule: Rule) -> Iterator[_Atom]:
    for verb in rule.get("verbs") or []:
        for path in rule.get("nonResourceURLs") or []:
            yield _Atom(verb, path=path)
        for group in rule.get("apiGroups") or []:
            for resource in rule.get("resources") or []:
                for name in rule.get("resourceNames") or [""]:
                    yield _Atom(verb, "", group, resource, name)


def _held(atom: _Atom, held: Iterable[Rule]) -> bool:
    if atom.path:
        return any(_covers_path(rule, atom.path, atom.verb) for rule in held)
    what, _, sub = atom.resource.partition("/")
    request = Request(atom.verb, atom.group, what, sub, name=atom.name)
    # A "*" is matched by rules that say "*" themselves, and by no others.
    return any(covers(rule, request) for rule in held)


def _unchanged(new: KubeObject, old: KubeObject | None, keys: tuple[str, ...]) -> bool:
    return old is not None and all(new.get(key) == old.get(key) for key in keys)


def _check_binding(call: Call, new: KubeObject, old: KubeObject | None) -> None:
    ref = new.get("roleRef") or {}
    causes = []
    kinds = ("Role", "ClusterRole") if call.resource.namespaced else ("ClusterRole",)
    if ref.get("kind") not in kinds:
        listed = ", ".join(f'"{kind}"' for kind in kinds)
        text = f'Unsupported value: "{ref.get("kind") or ""}": supported values: {listed}'
        causes.append(Cause("roleRef.kind", text, "FieldValueNotSupported"))
    if not ref.get("name"):
        causes.append(Cause("roleRef.name", "Required value", "FieldValueRequired"))
    if old is not None and ref != old.get("roleRef"):
        causes.append(Cause("roleRef", "Invalid value: cannot change roleRef"))
    for index, subject in enumerate(new.get("subjects") or []):
        path, kind = f"subjects[{index}]", subject.get("kind")
        if kind not in ("ServiceAccount", "User", "Group"):
            text = f'Unsupported value: "{kind or ""}": supported values: "ServiceAccount", "User",'
            causes.append(Cause(f"{path}.kind", f'{text} "Group"', "FieldValueNotSupported"))
        if not subject.get("name"):
            causes.append(Cause(f"{path}.name", "Required value", "FieldValueRequired"))
        if kind == "ServiceAccount" and not subject.get("namespace"):
            causes.append(Cause(f"{path}.namespace", "Required value", "FieldValueRequired"))
    if causes:
        raise invalid(GROUP, call.resource.kind, new["metadata"]["name"], causes)
