"""Who asks: certificates, ServiceAccount tokens, impersonation.

What comes in: the TLS peer and the ``Authorization`` header of a request. What goes out: a
``User``.

Invariants: a token is as good as what it is bound to: when its ServiceAccount or Pod is gone or
another object of the same name took its place, it is refused; the signing key never leaves the
store.
Not done here: what someone may do (``rbac``).
Source: https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/ and
https://kubernetes.io/docs/reference/access-authn-authz/authentication/
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Sequence
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization

from fsm.standalone.apiserver import pki, registry
from fsm.standalone.apiserver.calls import ANONYMOUS, User
from fsm.standalone.apiserver.errors import forbidden, unauthorized
from fsm.standalone.apiserver.store import KubeObject, Store

ISSUER = "https://kubernetes.default.svc.cluster.local"
TOKEN_SECONDS_MIN = 600
TOKEN_SECONDS_DEFAULT = 3600
TOKEN_SECONDS_MAX = 365 * 24 * 3600
_KEY = "serviceaccount-signing-key"
_ALGORITHM = "ES256"
_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"


class BadToken(Exception):
    """A token is not accepted; the message says why."""


class Tokens:
    """Issues and checks the tokens of ServiceAccounts."""

    def __init__(self, store: Store) -> None:
        self._store = store
        pem = store.meta(_KEY)
        if pem is None:
            pem = pki.key_pem(pki.new_key())
            with store.transaction() as txn:
                txn.set_meta(_KEY, pem)
        self._key = pki.load_key(pem)
        self._public = self._key.public_key()
        der = self._public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self._key_id = hashlib.sha256(der).hexdigest()[:32]

    def issue(
        self,
        account: KubeObject,
        audiences: Sequence[str],
        seconds: int,
        pod: KubeObject | None,
    ) -> tuple[str, int]:
        """Issue a token.

        Args:
            account: the ServiceAccount it speaks for.
            audiences: whom it is for; empty means this API server.
            seconds: how long it is valid.
            pod: the Pod it is bound to, if any.

        Returns:
            The token, and when it ends in seconds since the epoch.
        """
        meta, now = account["metadata"], int(time.time())
        bound: dict[str, Any] = {
            "namespace": meta["namespace"],
            "serviceaccount": {"name": meta["name"], "uid": meta["uid"]},
        }
        if pod is not None:
            bound["pod"] = {"name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
        claims = {
            "iss": ISSUER,
            "sub": f"system:serviceaccount:{meta['namespace']}:{meta['name']}",
            "aud": list(audiences) or [ISSUER],
            "iat": now,
            "nbf": now,
            "exp": now + seconds,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": bound,
        }
        headers = {"kid": self._key_id}
        return jwt.encode(claims, self._key, _ALGORITHM, headers), now + seconds

    def check(self, token: str, audiences: Sequence[str]) -> tuple[User, list[str]]:
        """Check a token.

        Returns:
            Whose it is, and which of ``audiences`` (empty: this API server) it is for.

        Raises:
            BadToken: it is malformed, expired, for others, or what it is bound to is gone.
        """
        try:
            claims = jwt.decode(
                token,
                self._public,
                algorithms=[_ALGORITHM],
                issuer=ISSUER,
                options={"verify_aud": False, "require": ["exp", "iat", "sub", "aud"]},
            )
            bound = claims["kubernetes.io"]
            namespace, account = bound["namespace"], bound["serviceaccount"]
            meant = [claims["aud"]] if isinstance(claims["aud"], str) else claims["aud"]
        except jwt.ExpiredSignatureError as error:
            raise BadToken("the token has expired") from error
        except (jwt.InvalidTokenError, KeyError, TypeError) as error:
            raise BadToken(f"the token is not valid: {error}") from error
        fits = [audience for audience in (audiences or [ISSUER]) if audience in meant]
        if not fits:
            raise BadToken(f"the token is for {meant}, not for {list(audiences or [ISSUER])}")
        self._alive(registry.SERVICEACCOUNTS, namespace, account, "ServiceAccount")
        extra: dict[str, list[str]] = {}
        if pod := bound.get("pod"):
            self._alive(registry.PODS, namespace, pod, "Pod")
            extra = {_POD_NAME: [pod["name"]], _POD_UID: [pod["uid"]]}
        groups = (
            "system:serviceaccounts",
            f"system:serviceaccounts:{namespace}",
            "system:authenticated",
        )
        return User(claims["sub"], groups, account["uid"], extra), fits

    def _alive(
        self, gr: tuple[str, str], namespace: str, reference: dict[str, str], kind: str
    ) -> None:
        found = self._store.get(gr, namespace, reference["name"])
        if found is None or found["metadata"]["uid"] != reference["uid"]:
            raise BadToken(
                f"the token is bound to {kind} {namespace}/{reference['name']}, which is gone"
            )

    def key_set(self) -> dict[str, Any]:
        """Return the public key as a JSON Web Key Set, for verifiers elsewhere."""
        key = jwt.algorithms.ECAlgorithm.to_jwk(self._public, as_dict=True)
        return {"keys": [key | {"use": "sig", "alg": _ALGORITHM, "kid": self._key_id}]}


def authenticate(
    tokens: Tokens, authorization: str | None, certificate: dict[str, Any] | None
) -> User:
    """Find out who asks.

    Args:
        tokens: checks bearer tokens.
        authorization: the header, if any; it counts before the certificate.
        certificate: the verified TLS peer certificate as the ssl module gives it, if any.

    Raises:
        StatusError: 401, credentials were given and are not valid.
    """
    if authorization:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise unauthorized()
        try:
            return tokens.check(token.strip(), ())[0]
        except BadToken as error:
            raise unauthorized() from error
    if certificate:
        pairs = [pair for entry in certificate.get("subject", ()) for pair in entry]
        names = [value for key, value in pairs if key == "commonName"]
        groups = [value for key, value in pairs if key == "organizationName"]
        if names:
            return User(names[0], (*groups, "system:authenticated"))
    return ANONYMOUS


def impersonate(user: User, name: str, groups: Sequence[str]) -> User:
    """Act as someone else (``kubectl --as``), which administrators may.

    Raises:
        StatusError: 403, for everyone else.
    """
    if not user.is_admin:
        raise forbidden(
            "", "users", name, f'users "{name}" is forbidden: User "{user.name}" cannot impersonate'
        )
    if name.startswith("system:serviceaccount:") and not groups:
        namespace = name.split(":")[2]
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
    return User(name, (*groups, "system:authenticated"))
