"""Who may ask for what: tokens for certificates, certificates for configurations.

What comes in: a bearer token and a claimed Pod; or a verified client certificate and a claimed Pod.
What goes out: the Pod, or a ``Denied`` with an HTTP status and a sentence.

Invariants: a claim is worth nothing; the token (reviewed by the API server) or the certificate
(verified by TLS) says who it is, and the Pod's own object says whether that fits. A token must be
bound to the very Pod that it is used for, so that a stolen ServiceAccount token from elsewhere buys
no certificate.
Source: https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/ (bound
tokens); SPIFFE ID section 2.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from fsm.delivery.registry import ProxyKey
from fsm.kube import TokenIdentity

AUDIENCE = "fsm-controller"
# RFC 1123 names, as Kubernetes has them; a uid is a UUID, but any short token will do.
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\Z")
_UID = re.compile(r"[-A-Za-z0-9]{1,64}\Z")


class Denied(Exception):
    """An answer of "no", with the HTTP status and the reason in words."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What delivery needs to know of a Pod."""

    key: ProxyKey
    service_account: str


class World(Protocol):
    """What delivery needs to know of the cluster; the controller's view implements it."""

    def pod(self, namespace: str, name: str) -> PodFacts | None:
        """Look a Pod up among those that we know of."""
        ...

    async def fetch_pod(self, namespace: str, name: str) -> PodFacts | None:
        """Ask the API for a Pod that we may not have heard of yet."""
        ...

    def monitored(self, namespace: str) -> bool:
        """Whether the namespace is in the mesh."""
        ...


def claimed_pod(claim: object) -> ProxyKey:
    """Read the Pod that a caller says to be: a JSON object, or ``namespace/name/uid``.

    Raises:
        Denied: 400, it is malformed.
    """
    if isinstance(claim, str):
        return _claimed_in_words(claim)
    if not isinstance(claim, Mapping):
        raise Denied(400, "the pod must be an object with namespace, name and uid")
    found = []
    for field, pattern in (("namespace", _NAMESPACE), ("name", _NAME), ("uid", _UID)):
        value = claim.get(field)
        if not isinstance(value, str) or not pattern.match(value):
            raise Denied(400, f"the pod's {field} is missing or malformed")
        found.append(value)
    return ProxyKey(*found)


# WHY kept: every poll of a proxy makes the same claim.
@lru_cache(maxsize=4096)
def _claimed_in_words(claim: str) -> ProxyKey:
    parts = claim.split("/")
    if len(parts) != 3:
        raise Denied(400, "the header fsm-pod must be namespace/name/uid")
    return claimed_pod(dict(zip(("namespace", "name", "uid"), parts, strict=True)))


async def pod_of_token(world: World, token: TokenIdentity, claim: ProxyKey) -> PodFacts:
    """Decide whether the bearer of a reviewed token may get the certificate of a Pod.

    Raises:
        Denied: 403, with what does not fit.
    """
    if token.pod_name is None or token.pod_uid is None:
        raise Denied(
            403,
            "the token is not bound to a Pod; use the projected token that the injector mounts",
        )
    if (token.namespace, token.pod_name, token.pod_uid) != claim:
        raise Denied(
            403, f"the token belongs to Pod {token.namespace}/{token.pod_name}, not to {claim}"
        )
    facts = world.pod(claim.namespace, claim.pod)
    if facts is None or facts.key != claim:
        # A Pod asks within milliseconds of its birth; our watch may be a moment behind.
        facts = await world.fetch_pod(claim.namespace, claim.pod)
    if facts is None or facts.key != claim:
        raise Denied(403, f"there is no Pod {claim} with the uid {claim.uid}")
    if facts.service_account != token.service_account:
        raise Denied(
            403,
            f"Pod {claim} runs as ServiceAccount {facts.service_account}, and the token is of"
            f" {token.service_account}",
        )
    if not world.monitored(claim.namespace):
        raise Denied(403, f"namespace {claim.namespace} is not in this mesh")
    return facts


@dataclass(frozen=True, slots=True)
class Member:
    """A mesh member, as its client certificate names it.

    Attributes:
        namespace: of its ServiceAccount.
        service_account: its name.
        not_after: the end of the certificate, seconds since the epoch.
        signer: which key signed it, hex; see ``fsm.ca.signer_of``.
    """

    namespace: str
    service_account: str
    not_after: float
    signer: str = ""


def identity_of_peer(peer: Mapping[str, Any] | None, trust_domain: str, wall: float) -> Member:
    """Read who it is from a client certificate that TLS has verified.

    Args:
        peer: what ``SSLSocket.getpeercert`` returned; empty or ``None`` without a certificate.
        trust_domain: ours.
        wall: the time, seconds since the epoch. A connection outlives the handshake that verified
            its certificate, so its end is looked at again on each request.

    Raises:
        Denied: 401, there is no certificate, it has expired, or it is of no mesh member.
    """
    if not peer:
        raise Denied(401, "a client certificate of the mesh is needed; get one first")
    uris = [value for kind, value in peer.get("subjectAltName", ()) if kind == "URI"]
    prefix = f"spiffe://{trust_domain}/ns/"
    # SPIFFE X.509-SVID section 2: exactly one URI, or it is no identity at all.
    if len(uris) != 1 or not uris[0].startswith(prefix):
        raise Denied(401, f"the certificate carries no identity of the trust domain {trust_domain}")
    parts = str(uris[0]).removeprefix(prefix).split("/")
    if len(parts) != 3 or parts[1] != "sa":
        raise Denied(401, f"the identity {uris[0]} names no ServiceAccount")
    not_after = ssl.cert_time_to_seconds(peer["notAfter"])
    if not_after <= wall:
        raise Denied(401, "the certificate has expired; get a new one and connect again")
    return Member(parts[0], parts[2], not_after)


def pod_of_peer(world: World, member: Member, claim: ProxyKey) -> PodFacts:
    """Decide whether a mesh member may have the configuration of a Pod.

    Raises:
        Denied: 403, it is not its own; 404, the Pod is not known (yet).
    """
    namespace, service_account = member.namespace, member.service_account
    if claim.namespace != namespace:
        raise Denied(403, f"{namespace}/{service_account} may not ask for a Pod of {claim}")
    facts = world.pod(claim.namespace, claim.pod)
    if facts is None or facts.key != claim:
        raise Denied(404, f"Pod {claim} with the uid {claim.uid} is not known here (yet)")
    if facts.service_account != service_account:
        raise Denied(
            403,
            f"Pod {claim} runs as ServiceAccount {facts.service_account}, not {service_account}",
        )
    if not world.monitored(namespace):
        raise Denied(403, f"namespace {namespace} is not in this mesh")
    return facts
