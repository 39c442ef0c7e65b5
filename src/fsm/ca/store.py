"""Where the root lives: the Secret ``fsm-ca-bundle`` of the mesh's namespace.

What comes in: a Kubernetes API client. What goes out: the texts of a root that is stored durably.

Invariants: an existing Secret is never overwritten, however broken, because certificates that it
signed are in use; of several controllers that start at once, exactly one root wins and all use it.
Not done here: checking the texts (``tresor``), replacing a root.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from fsm.ca.provider import CaError
from fsm.ca.tresor import new_root
from fsm.kube.errors import AlreadyExists, NotFound
from fsm.kube.resources import SECRETS, Resource

log = logging.getLogger("fsm.ca")

CERTIFICATE_KEY = "ca.crt"
PRIVATE_KEY = "private.key"


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


async def load_or_create_root(
    client: SecretClient, namespace: str, name: str, now: datetime
) -> tuple[str, str]:
    """Read the root, making it first if there is none.

    Args:
        client: talks to the API.
        namespace: of the mesh.
        name: of the Secret.
        now: for the validity of a new root.

    Returns:
        The certificates and the private key, PEM.

    Raises:
        CaError: the Secret exists but holds something else.
        ApiError: the API cannot be asked or refuses.
    """
    try:
        return _texts(await client.get(SECRETS, name, namespace), namespace, name)
    except NotFound:
        certificate, key = new_root(now)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": "Opaque",
        "data": {
            CERTIFICATE_KEY: base64.b64encode(certificate.encode()).decode(),
            PRIVATE_KEY: base64.b64encode(key.encode()).decode(),
        },
    }
    try:
        await client.create(SECRETS, secret, namespace)
    except AlreadyExists:
        log.info("another controller made the root first; using its one")
        return _texts(await client.get(SECRETS, name, namespace), namespace, name)
    log.info("made a new root certificate secret=%s/%s", namespace, name)
    return certificate, key


def _texts(secret: Mapping[str, Any], namespace: str, name: str) -> tuple[str, str]:
    data = secret.get("data") or {}
    hint = f"hint: delete Secret {namespace}/{name} to have a new root made, or put both keys in it"
    found = []
    for key in (CERTIFICATE_KEY, PRIVATE_KEY):
        value = data.get(key)
        if not value:
            raise CaError(f"Secret {namespace}/{name} has no key {key!r}\n{hint}")
        try:
            found.append(base64.b64decode(value, validate=True).decode())
        except (binascii.Error, UnicodeDecodeError, TypeError) as error:
            raise CaError(
                f"{key!r} in Secret {namespace}/{name} is no base64 of a text\n{hint}"
            ) from error
    return found[0], found[1]
