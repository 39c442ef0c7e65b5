"""Follows the Secrets that Egresses name, and no others, and reads the certificates in them.

What comes in: the Egresses, the Secrets that they name. What goes out: for each such Secret an
object of the kind ``Credentials``: chain, key and roots, or the fault that keeps it from use. It
looks like an ``fsm.kube.Informer``, so that the world treats it as one.

Invariants: only Secrets that an Egress may name (its own namespace's or the mesh's, never the
mesh's root) are asked for, each by its name; one that cannot be read, has ended, or whose key is
another's has a fault and no key.
Not done here: who shows which (``fsm.policies.egress``).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from fsm.ca.kept import names_of
from fsm.kube import Informer, KubeClient, KubeObject
from fsm.kube.resources import SECRETS
from fsm.model import Key
from fsm.model.credentials import KIND
from fsm.model.egress import Egress
from fsm.policies import Invalid, parse
from fsm.settings import Settings

log = logging.getLogger("fsm.egress_secrets")

# How often certificates are looked at for whether they have ended, seconds.
LOOK_S = 30.0


def _utc_now() -> datetime:
    return datetime.now(UTC)


class EgressSecrets:
    """The Secrets by name; see the module."""

    def __init__(
        self,
        client: KubeClient,
        settings: Settings,
        egresses: Callable[[], list[KubeObject]],
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        """Make one.

        Args:
            client: reads.
            settings: those of the mesh.
            egresses: returns the Egresses as the API has them.
            now: the wall clock.
        """
        self._client = client
        self._settings = settings
        self._egresses = egresses
        self._now = now
        self._followed: dict[Key, tuple[Informer, asyncio.Task[None]]] = {}
        self._callbacks: list[Callable[..., None]] = []
        self._look = asyncio.Event()
        self.store: dict[tuple[str, str], KubeObject] = {}
        self.synced = asyncio.Event()
        # Others are waited for before anything is made; a Secret that cannot be read must not
        # keep the mesh from starting.
        self.synced.set()

    def get(self, namespace: str, name: str) -> KubeObject | None:
        """Look one up."""
        return self.store.get((namespace, name))

    def subscribe(self, callback: Callable[..., None]) -> None:
        """Call ``callback(type, old, new)`` on each change from now on; it must not block."""
        self._callbacks.append(callback)

    def poke(self, *change: Any) -> None:
        """Look again: an Egress has changed."""
        self._look.set()

    async def run(self) -> None:
        """Follow until cancelled."""
        try:
            while True:
                self._look.clear()
                self._follow()
                for key in [Key(*place) for place in self.store]:
                    self._read(key)
                try:
                    async with asyncio.timeout(LOOK_S):
                        await self._look.wait()
                except TimeoutError:
                    pass
        finally:
            for _, task in self._followed.values():
                task.cancel()

    def _follow(self) -> None:
        wanted = self._wanted()
        for key in wanted - set(self._followed):
            informer = Informer(
                self._client, SECRETS, key.namespace, fields=f"metadata.name={key.name}"
            )
            informer.subscribe(lambda *_, key=key: self._read(key))
            self._followed[key] = informer, asyncio.create_task(informer.run())
        for key in set(self._followed) - wanted:
            self._followed.pop(key)[1].cancel()
            self._put(key, None)

    def _wanted(self) -> set[Key]:
        found: set[Key] = set()
        for obj in self._egresses():
            try:
                egress = cast(Egress, parse(obj, self._settings))
            except Invalid:
                continue
            found |= {tls.secret for _, tls in egress.tls if tls.secret is not None}
        return found

    def _read(self, key: Key) -> None:
        followed = self._followed.get(key)
        secret = followed[0].get(*key) if followed else None
        self._put(key, credentials_of(secret, self._now()) if secret is not None else None)

    def _put(self, key: Key, new: KubeObject | None) -> None:
        old = self.store.get(key)
        if old == new:
            return
        if new is None:
            del self.store[key]
        else:
            self.store[key] = new
        change = "DELETED" if new is None else "MODIFIED" if old else "ADDED"
        log.debug("a certificate for the way out changed secret=%s", key)
        for callback in self._callbacks:
            callback(change, old, new)


def credentials_of(secret: Mapping[str, Any], now: datetime) -> KubeObject:
    """Return what a Secret holds, as an object of the kind ``Credentials``."""
    meta = secret["metadata"]
    held: dict[str, Any]
    try:
        held = _held(secret.get("data") or {}, now)
    except (ValueError, TypeError, binascii.Error) as error:
        held = {"fault": str(error)}
    return {
        "apiVersion": "v1",
        "kind": KIND,
        # Without its version: what it holds may become another by the clock alone.
        "metadata": {"namespace": meta["namespace"], "name": meta["name"]},
        "credentials": held,
    }


def _held(data: Mapping[str, str], now: datetime) -> dict[str, Any]:
    texts = {}
    for name in ("ca.crt", "tls.crt", "tls.key"):
        if name not in data:
            raise ValueError(f"it has no {name}")
        texts[name] = base64.b64decode(data[name], validate=True).decode()
    try:
        leaf = x509.load_pem_x509_certificates(texts["tls.crt"].encode())[0]
        x509.load_pem_x509_certificates(texts["ca.crt"].encode())
    except ValueError:
        raise ValueError("ca.crt or tls.crt holds no certificate in PEM") from None
    try:
        key = load_pem_private_key(texts["tls.key"].encode(), None)
    except (ValueError, TypeError):
        raise ValueError("tls.key holds no key in PEM, or one with a password") from None
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise ValueError("tls.key is not the key of tls.crt")
    ends = leaf.not_valid_after_utc
    if ends <= now:
        raise ValueError(f"its certificate has ended at {ends:%Y-%m-%d %H:%M} UTC")
    return {
        "chain": texts["tls.crt"],
        "key": texts["tls.key"],
        "roots": texts["ca.crt"],
        "names": list(names_of(leaf)),
        "ends": f"{ends:%Y-%m-%d %H:%M} UTC",
    }
