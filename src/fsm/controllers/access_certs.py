"""Keeps the certificates that AccessCerts ask for in their Secrets, fit for use.

What comes in: the AccessCerts that are followed, the Secrets that were made for them, the
authority. What goes out: Secrets made, renewed, deleted; what became of each, for its status.

    followed, Secret not there ───────────────► made
    followed, made for it, but outdated ──────► made anew (names, roots, signer, age)
    followed, there, but not made for it ─────► left alone: SecretInTheWay
    made for an AccessCert that is gone,
    or keeps its certificate elsewhere now ───► deleted

Invariants: a Secret that was not made here is never written nor deleted; one that was made for an
AccessCert which is switched off, or judged to have no effect, stays as it is. A certificate is
made anew at the latest when a third of its life is left, so that an API that is away for a while
costs nobody anything. One Secret that cannot be written stops no other.
Not done here: which are followed (``fsm.policies.access_cert``), what is in a Secret
(``fsm.ca.kept``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from fsm.ca import Authority, CaError
from fsm.ca.kept import TYPE, Kept, read_kept, secret_data
from fsm.compile import Condition
from fsm.controllers.world import World
from fsm.kube import AlreadyExists, ApiError, Conflict, Informer, KubeClient, NotFound
from fsm.kube.resources import SECRETS
from fsm.model import Key, Snapshot
from fsm.model.access_cert import AccessCert
from fsm.policies.access_cert.compile import KIND, followed
from fsm.settings import Settings

log = logging.getLogger("fsm.access_certs")

LABEL = "flomesh.io/access-cert"
"""On the Secrets that are made here; its value says of which mesh."""
OWNER = "flomesh.io/access-cert-of"
"""Annotation: the AccessCert that a Secret was made for."""
# LIMIT: how long the loop sleeps until the next renewal at most, seconds; clocks are set.
SLEEP_S_MAX = 600.0


class AccessCerts:
    """The Secrets of a mesh; ``reconcile`` is one look at them."""

    def __init__(
        self,
        client: KubeClient,
        world: World,
        authority: Authority,
        settings: Settings,
        *,
        snapshot: Callable[[], Snapshot | None],
        lifetime: Callable[[], timedelta],
        now: Callable[[], datetime],
    ) -> None:
        """Put it together.

        Args:
            client: reads and writes the Secrets.
            world: tells whether an AccessCert is there at all.
            authority: signs.
            settings: those of the mesh.
            snapshot: returns the newest one.
            lifetime: of certificates that are made now.
            now: the wall clock.
        """
        self._client = client
        self._world = world
        self._authority = authority
        self._settings = settings
        self._snapshot = snapshot
        self._lifetime = lifetime
        self._now = now
        self._told: dict[Key, Condition] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.informer = Informer(client, SECRETS, labels=f"{LABEL}={settings.mesh_name}")
        self.again: Callable[[], None] = lambda: None
        self.on_news: Callable[[], None] = lambda: None

    def condition(self, policy: Key) -> Condition:
        """Say whether an AccessCert that is followed has its certificate."""
        text = "its certificate has not been made yet"
        if not self.informer.synced.is_set():
            text += ": the Secrets of the mesh could not be listed so far"
        return self._told.get(policy) or Condition("Programmed", False, "Pending", text)

    def signers(self) -> list[tuple[str, str]]:
        """Name the Secrets that are kept, with the keys that signed what they hold."""
        return [
            (f"Secret {place}", kept.signer)
            for policy, place, kept in self._kept()
            if kept is not None and policy is not None
        ]

    def lacking(self) -> list[str]:
        """Name the Secrets that do not carry the roots of the moment (yet)."""
        roots = "".join(self._authority.roots)
        return [
            f"Secret {place}"
            for policy, place, kept in self._kept()
            if kept is not None and policy is not None and kept.roots != roots
        ]

    def _kept(self) -> Iterator[tuple[AccessCert | None, Key, Kept | None]]:
        """Yield the Secrets that were made here, with whom they are kept for, if for anyone."""
        snapshot = self._snapshot()
        wanted = followed(snapshot, self._settings) if snapshot is not None else {}
        for (namespace, name), secret in sorted(self.informer.store.items()):
            place = Key(namespace, name)
            policy = wanted.get(place)
            told = self._told.get(policy.key) if policy is not None else None
            # WHY: what cannot be written must not hold up the root of everyone else.
            if self._owner(secret) != str(policy and policy.key) or (told and not told.status):
                policy = None
            yield policy, place, read_kept(secret)

    async def reconcile(self) -> None:
        """Look at every AccessCert and every Secret, and write what is missing or different.

        Raises:
            ApiError: it did not work for at least one of them; the others are as they should be.
        """
        snapshot = self._snapshot()
        if snapshot is None or not self.informer.synced.is_set():
            return
        wanted = followed(snapshot, self._settings)
        before, self._told = self._told, {}
        failure: ApiError | None = None
        next_look = self._now() + timedelta(seconds=SLEEP_S_MAX)
        for place, policy in sorted(wanted.items()):
            try:
                renew_at = await self._keep(place, policy)
                next_look = min(next_look, renew_at)
            except (ApiError, CaError) as error:
                text = f"Secret {place}: {error}"
                self._told[policy.key] = Condition("Programmed", False, "NotKept", text)
                failure = error if isinstance(error, ApiError) else failure
        try:
            await self._clear(set(wanted))
        except ApiError as error:
            failure = error
        if self._told != before:
            self.on_news()
        self._sleep((next_look - self._now()).total_seconds())
        if failure is not None:
            raise failure

    def _sleep(self, wait_s: float) -> None:
        """Have the next look when a certificate is due, though nobody gives a sign."""
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(1.0, wait_s), lambda: self.again())

    async def _keep(self, place: Key, policy: AccessCert) -> datetime:
        """Have one certificate be there; returns when it is to be made anew."""
        now, roots = self._now(), self._authority.roots
        secret = self.informer.get(place.namespace, place.name)
        if secret is not None and self._owner(secret) != str(policy.key):
            # Of an AccessCert that is gone: nobody else has a claim on it.
            if self._exists(self._owner(secret)):
                return self._in_the_way(place, policy, f"made for {KIND} {self._owner(secret)}")
            secret = None
        kept = read_kept(secret) if secret is not None else None
        why = "it is not there"
        if secret is not None:
            why = "it cannot be used"
            if kept is not None:
                why = kept.outdated(policy.names, roots, self._authority.signer, now)
        if why or kept is None:
            made = self._authority.issue_server(policy.names, lifetime=self._lifetime(), now=now)
            written = await self._write(place, policy, secret_data(made, roots))
            if written is None:
                return self._in_the_way(place, policy, "not made by the mesh")
            kept = read_kept(written)
            assert kept is not None, "what was written a moment ago can be read"
            log.info("made a certificate secret=%s for=%s: %s", place, policy.key, why)
        text = f"in effect; Secret {place} is good until {kept.ends:%Y-%m-%d %H:%M} UTC"
        self._told[policy.key] = Condition("Programmed", True, "Programmed", text)
        return kept.renew_at

    async def _write(
        self, place: Key, policy: AccessCert, data: dict[str, str]
    ) -> dict[str, Any] | None:
        """Create the Secret, or change ours; returns None where another one has its name."""
        body: dict[str, Any] = {
            "metadata": {
                "name": place.name,
                "namespace": place.namespace,
                "labels": {"app.kubernetes.io/name": "flomesh.io", LABEL: self._settings.mesh_name},
                "annotations": {OWNER: str(policy.key)},
            },
            "type": TYPE,
            "data": data,
        }
        try:
            return await self._client.create(SECRETS, body, place.namespace)
        except AlreadyExists:
            # Asked anew: what the watch has told may be old, and nothing of others is written over.
            found = await self._client.get(SECRETS, place.name, place.namespace)
        owner = self._owner(found)
        if not owner or (owner != str(policy.key) and self._exists(owner)):
            return None
        body["metadata"]["resourceVersion"] = found["metadata"].get("resourceVersion")
        return await self._client.patch(SECRETS, place.name, body, place.namespace)

    def _in_the_way(self, place: Key, policy: AccessCert, what: str) -> datetime:
        text = (
            f"Secret {place} is there already and was {what}; delete it, or name another in"
            " spec.secret"
        )
        self._told[policy.key] = Condition("Programmed", False, "SecretInTheWay", text)
        return self._now() + timedelta(seconds=SLEEP_S_MAX)

    def _exists(self, owner: str) -> bool:
        """Tell whether the AccessCert that a Secret was made for is there, in effect or not."""
        namespace, _, name = owner.partition("/")
        return self._world.find(KIND, namespace, name) is not None

    async def _clear(self, wanted: set[Key]) -> None:
        """Delete what was made for AccessCerts that keep nothing there any more."""
        for (namespace, name), secret in sorted(self.informer.store.items()):
            owner, place = self._owner(secret), Key(namespace, name)
            if not owner or place in wanted or self._keeps(owner, place):
                continue
            try:
                await self._client.delete(
                    SECRETS, name, namespace, uid=secret["metadata"].get("uid")
                )
                log.info("deleted secret=%s/%s, made for=%s", namespace, name, owner)
            except (NotFound, Conflict) as error:
                log.debug("the Secret changed meanwhile: %s", error)

    def _owner(self, secret: dict[str, Any]) -> str:
        """Return the AccessCert that a Secret was made for; empty: none, it is not ours."""
        meta = secret.get("metadata") or {}
        if (meta.get("labels") or {}).get(LABEL) != self._settings.mesh_name:
            return ""
        return str((meta.get("annotations") or {}).get(OWNER, ""))

    def _keeps(self, owner: str, place: Key) -> bool:
        """Tell whether an AccessCert, in effect or not, names a Secret."""
        namespace, _, name = owner.partition("/")
        found = self._world.find(KIND, namespace, name)
        named = ((found or {}).get("spec") or {}).get("secret") or {}
        return (named.get("namespace"), named.get("name")) == (place.namespace, place.name)
