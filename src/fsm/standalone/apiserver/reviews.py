"""Questions instead of objects: whose token is this, may they, give me a token.

What comes in: TokenReview, SelfSubjectReview, SubjectAccessReview and its kin, TokenRequest. What
goes out: the same object with its status filled in; nothing is stored.

Invariants: a TokenReview of a bad token is a successful answer that says so; a token is bound to a
Pod only if that Pod exists and runs as that ServiceAccount.
Source: https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/ and
https://kubernetes.io/docs/reference/kubernetes-api/authorization-resources/
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fsm.standalone.apiserver import registry, shapes
from fsm.standalone.apiserver.auth import (
    TOKEN_SECONDS_DEFAULT,
    TOKEN_SECONDS_MAX,
    TOKEN_SECONDS_MIN,
    BadToken,
    Tokens,
)
from fsm.standalone.apiserver.calls import Call, User
from fsm.standalone.apiserver.errors import (
    Cause,
    bad_request,
    conflict,
    invalid,
    not_found,
)
from fsm.standalone.apiserver.rbac import Authorizer, Request
from fsm.standalone.apiserver.store import KubeObject, Store

Json = dict[str, Any]


class Reviews:
    """Answers the kinds that can only be created."""

    def __init__(self, store: Store, tokens: Tokens, authorizer: Authorizer) -> None:
        self._store = store
        self._tokens = tokens
        self._authorizer = authorizer

    def answer(self, call: Call, raw: Any) -> KubeObject:
        """Fill in the status of a review.

        Raises:
            StatusError: 400, it cannot be read.
        """
        kind = call.resource.kind
        obj = _checked(kind, raw)
        spec = obj.get("spec") or {}
        match kind:
            case "TokenReview":
                obj["status"] = self._token_review(spec)
            case "SelfSubjectReview":
                obj["status"] = {"userInfo": _user_info(call.user)}
            case "SelfSubjectRulesReview":
                obj["status"] = self._rules(call.user, str(spec.get("namespace") or ""))
            case "SelfSubjectAccessReview":
                obj["status"] = self._access(call.user, spec)
            case _:
                user = User(str(spec.get("user") or ""), tuple(spec.get("groups") or ()))
                obj["status"] = self._access(user, spec)
        return {"apiVersion": call.api_version, "kind": kind, "metadata": {}} | obj

    def _token_review(self, spec: Json) -> Json:
        try:
            user, audiences = self._tokens.check(
                spec.get("token") or "", spec.get("audiences") or ()
            )
        except BadToken as error:
            return {"authenticated": False, "user": {}, "error": str(error)}
        return {"authenticated": True, "user": _user_info(user), "audiences": audiences}

    def _access(self, user: User, spec: Json) -> Json:
        if attributes := spec.get("resourceAttributes"):
            asked = Request(
                verb=attributes.get("verb") or "",
                group=attributes.get("group") or "",
                resource=attributes.get("resource") or "",
                subresource=attributes.get("subresource") or "",
                namespace=attributes.get("namespace") or "",
                name=attributes.get("name") or "",
            )
            allowed = self._authorizer.may(user, asked)
        else:
            attributes = spec.get("nonResourceAttributes") or {}
            path, verb = attributes.get("path") or "", attributes.get("verb") or "get"
            allowed = self._authorizer.may_path(user, path, verb)
        return {"allowed": allowed}

    def _rules(self, user: User, namespace: str) -> Json:
        rules = self._authorizer.rules(user, namespace)
        return {
            "resourceRules": [rule for rule in rules if rule.get("resources")],
            "nonResourceRules": [rule for rule in rules if rule.get("nonResourceURLs")],
            "incomplete": False,
        }

    def issue_token(self, call: Call, raw: Any) -> KubeObject:
        """Answer a TokenRequest for the ServiceAccount that the call names.

        Raises:
            StatusError: the account or the Pod does not exist, or do not belong together.
        """
        account = self._store.get(registry.SERVICEACCOUNTS, call.namespace, call.name)
        if account is None:
            raise not_found("", "serviceaccounts", call.name)
        obj = _checked("TokenRequest", raw)
        spec = obj.get("spec") or {}
        seconds = spec.get("expirationSeconds") or TOKEN_SECONDS_DEFAULT
        if seconds < TOKEN_SECONDS_MIN:
            cause = Cause(
                "spec.expirationSeconds",
                f"Invalid value: {seconds}: may not specify a duration less than 10 minutes",
            )
            raise invalid("authentication.k8s.io", "TokenRequest", call.name, [cause])
        seconds = min(seconds, TOKEN_SECONDS_MAX)
        pod = self._bound_pod(call, spec.get("boundObjectRef"))
        token, until = self._tokens.issue(account, spec.get("audiences") or (), seconds, pod)
        ends = datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {"name": call.name, "namespace": call.namespace},
            "spec": spec | {"expirationSeconds": seconds},
            "status": {"token": token, "expirationTimestamp": ends},
        }

    def _bound_pod(self, call: Call, reference: Json | None) -> KubeObject | None:
        if not reference:
            return None
        if reference.get("kind") != "Pod":
            raise bad_request(f"a token can be bound to a Pod, not to a {reference.get('kind')}")
        name = reference.get("name") or ""
        pod = self._store.get(registry.PODS, call.namespace, name)
        if pod is None:
            raise not_found("", "pods", name)
        if reference.get("uid") and reference["uid"] != pod["metadata"]["uid"]:
            raise conflict("", "pods", name, "it has another uid than the bound object reference")
        if pod["spec"].get("serviceAccountName") != call.name:
            raise bad_request(
                f"cannot bind a token of ServiceAccount {call.name} to Pod {name}, which runs as"
                f" {pod['spec'].get('serviceAccountName')}"
            )
        return pod


def _checked(kind: str, raw: Any) -> KubeObject:
    if not isinstance(raw, dict):
        raise bad_request(f"the body must be a {kind} object")
    obj, problems = shapes.check(kind, raw)
    if problems.wrong or problems.missing:
        told = problems.wrong + [f"{path}: required" for path in problems.missing]
        raise bad_request(f"{kind}: {'; '.join(told)}")
    return obj


def _user_info(user: User) -> Json:
    info: Json = {"username": user.name, "groups": list(user.groups)}
    if user.uid:
        info["uid"] = user.uid
    if user.extra:
        info["extra"] = user.extra
    return info
