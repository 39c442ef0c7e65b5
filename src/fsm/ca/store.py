"""Where the roots live: the Secret ``fsm-ca-bundle`` of the mesh's namespace.

What comes in: a Kubernetes API client. What goes out: a ``State`` that is stored durably; what a
person asked for.

    ca.crt, private.key    the root that signs; a user may bring them along
    next.crt, next.key     while a rotation runs: the other one
    rotation.json          how far it is
    asked.crt, asked.key   the root that a person wants next, with the annotation of a request
    annotation flomesh.io/certs-request: {"id", "action": rotate | rehearse | abort | skip}

Invariants: a root that exists is never overwritten but by a step of a rotation, however broken,
because certificates that it signed are in use; every step is one write, which fails if somebody
else wrote meanwhile; of several controllers that start at once, exactly one root wins.
Not done here: checking roots (``roots``), deciding steps (``rotation``).
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from fsm.ca.provider import CaError
from fsm.ca.roots import Root, read_root
from fsm.ca.rotation import Phase, State
from fsm.ca.tresor import new_root
from fsm.kube.errors import AlreadyExists, NotFound
from fsm.kube.resources import SECRETS, Resource

log = logging.getLogger("fsm.ca")

CERTIFICATE_KEY = "ca.crt"
PRIVATE_KEY = "private.key"
NEXT_CERTIFICATE_KEY = "next.crt"
NEXT_PRIVATE_KEY = "next.key"
ASKED_CERTIFICATE_KEY = "asked.crt"
ASKED_PRIVATE_KEY = "asked.key"
ROTATION_KEY = "rotation.json"
REQUEST_ANNOTATION = "flomesh.io/certs-request"
ANSWER_ANNOTATION = "flomesh.io/certs-answer"


class SecretClient(Protocol):
    """What this module needs of a ``fsm.kube.KubeClient``."""

    async def get(self, res: Resource, name: str, namespace: str | None = None) -> dict[str, Any]:
        """Read one object."""
        ...

    async def create(
        self, res: Resource, obj: dict[str, Any], namespace: str | None = None
    ) -> dict[str, Any]:
        """Create one object."""
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asked for with the CLI; ``id`` ties the answer to it."""

    id: str
    action: str
    names: tuple[str, ...] = ()
    certificate: str = ""
    key: str = ""


async def load_or_create_root(
    client: SecretClient, namespace: str, name: str, now: datetime
) -> dict[str, Any]:
    """Read the Secret with the root, making it first if there is none.

    Args:
        client: talks to the API.
        namespace: of the mesh.
        name: of the Secret.
        now: for the validity of a new root.

    Returns:
        The Secret, as ``read_state`` takes it.

    Raises:
        ApiError: the API cannot be asked or refuses.
    """
    try:
        return await client.get(SECRETS, name, namespace)
    except NotFound:
        certificate, key = new_root(now)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": "Opaque",
        "data": {CERTIFICATE_KEY: _encoded(certificate), PRIVATE_KEY: _encoded(key)},
    }
    try:
        made = await client.create(SECRETS, secret, namespace)
    except AlreadyExists:
        log.info("another controller made the root first; using its one")
        return await client.get(SECRETS, name, namespace)
    log.info("made a new root certificate secret=%s/%s", namespace, name)
    return made


def read_state(secret: Mapping[str, Any]) -> State:
    """Read how far it is.

    Raises:
        CaError: the Secret holds something else, or a root that cannot sign.
    """
    current = read_root(_text(secret, CERTIFICATE_KEY), _text(secret, PRIVATE_KEY))
    data = secret.get("data") or {}
    if ROTATION_KEY not in data:
        return State(current)
    where = _where(secret)
    try:
        said = json.loads(_text(secret, ROTATION_KEY))
        phase = Phase(said["phase"])
        other: Root | None = None
        if phase is not Phase.STABLE:
            other = read_root(_text(secret, NEXT_CERTIFICATE_KEY), _text(secret, NEXT_PRIVATE_KEY))
        if said["signer"] != current.signer:
            # Written by hand; what was under way was about another root.
            log.warning("%s holds another root than its %s tells of", where, ROTATION_KEY)
            return State(current)
        return State(
            current,
            other,
            phase,
            forward=bool(said["forward"]),
            rehearsal=bool(said["rehearsal"]),
            started=_moment(said.get("started")),
            since=_moment(said.get("since")),
            skipped=tuple(said.get("skipped") or ()),
            extra=tuple(said.get("extra") or ()),
            last=str(said.get("last") or ""),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CaError(
            f"{ROTATION_KEY!r} in {where} is malformed: {error}\n"
            f"hint: remove the key {ROTATION_KEY!r} from the Secret; the root in"
            f" {CERTIFICATE_KEY!r} goes on signing"
        ) from error


def patch_of(state: State, before: Mapping[str, Any], answer: str | None = None) -> dict[str, Any]:
    """Build the merge patch that writes a state, provided that nobody wrote since ``before``.

    Args:
        state: what shall be.
        before: the Secret as it was read.
        answer: in words, to the request that the Secret carries; ``None`` leaves that where it is.
    """
    said = {
        "phase": state.phase.value,
        "signer": state.current.signer,
        "forward": state.forward,
        "rehearsal": state.rehearsal,
        "started": _written(state.started),
        "since": _written(state.since),
        "skipped": state.skipped,
        "extra": state.extra,
        "last": state.last,
    }
    other = state.other
    data: dict[str, str | None] = {
        CERTIFICATE_KEY: _encoded(state.current.certificates),
        PRIVATE_KEY: _encoded(state.current.key),
        NEXT_CERTIFICATE_KEY: _encoded(other.certificates) if other else None,
        NEXT_PRIVATE_KEY: _encoded(other.key) if other else None,
        ROTATION_KEY: _encoded(json.dumps(said)),
    }
    meta: dict[str, Any] = {}
    if version := (before.get("metadata") or {}).get("resourceVersion"):
        meta["resourceVersion"] = version
    if answer is not None:
        meta["annotations"] = {REQUEST_ANNOTATION: None, ANSWER_ANNOTATION: answer}
        data |= {ASKED_CERTIFICATE_KEY: None, ASKED_PRIVATE_KEY: None}
    return {"metadata": meta, "data": data}


def read_request(secret: Mapping[str, Any]) -> Request | None:
    """Read what a person asks for; ``None``: nothing.

    Raises:
        CaError: it is malformed.
    """
    text = ((secret.get("metadata") or {}).get("annotations") or {}).get(REQUEST_ANNOTATION)
    if not text:
        return None
    try:
        said = json.loads(text)
        found = Request(
            str(said["id"]), str(said["action"]), tuple(map(str, said.get("names", ())))
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CaError(f"the request in {_where(secret)} is malformed: {error}") from error
    if ASKED_CERTIFICATE_KEY not in (secret.get("data") or {}):
        return found
    certificate, key = _text(secret, ASKED_CERTIFICATE_KEY), _text(secret, ASKED_PRIVATE_KEY)
    return Request(found.id, found.action, found.names, certificate, key)


def request_patch(request: Request) -> dict[str, Any]:
    """Build the merge patch with which a person asks."""
    said = {"id": request.id, "action": request.action, "names": request.names}
    brings = bool(request.certificate)
    return {
        "metadata": {
            "annotations": {REQUEST_ANNOTATION: json.dumps(said), ANSWER_ANNOTATION: None}
        },
        "data": {
            ASKED_CERTIFICATE_KEY: _encoded(request.certificate) if brings else None,
            ASKED_PRIVATE_KEY: _encoded(request.key) if brings else None,
        },
    }


def _text(secret: Mapping[str, Any], key: str) -> str:
    where = _where(secret)
    hint = f"hint: delete {where} to have a new root made, or put both keys in it"
    value = (secret.get("data") or {}).get(key)
    if not value:
        raise CaError(f"{where} has no key {key!r}\n{hint}")
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, TypeError) as error:
        raise CaError(f"{key!r} in {where} is no base64 of a text\n{hint}") from error


def _where(secret: Mapping[str, Any]) -> str:
    meta = secret.get("metadata") or {}
    return f"Secret {meta.get('namespace')}/{meta.get('name')}"


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _moment(text: object) -> datetime | None:
    return datetime.fromisoformat(str(text)) if text else None


def _written(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
