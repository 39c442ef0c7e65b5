"""MeshRootCertificates: which root shall sign and which are believed besides, as declared.

What comes in: the objects, the Secrets that they name. What goes out: the next state of the
rotation where it differs from what is declared; ``status.state`` and ``status.message``.

    the roots's place in the rotation     status.state
    signs                                 active
    signs, not all hold its certificates  issuingRollout
    being learnt                          validatingRollout
    on its way out, while issuing         issuingRollback
    on its way out, while retiring        validatingRollback
    believed or not, does not sign        inactive
    cannot be used                        error

Invariants: nothing is done while a rotation runs; of several active ones the one that signs stays;
a root whose Secret cannot be read changes nothing.
Not done here: the steps (``fsm.ca.rotation``), conditions (``status``).
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from fsm.ca import CaError, Root, read_root, rotation
from fsm.ca.rotation import Phase, State
from fsm.ca.store import CERTIFICATE_KEY, PRIVATE_KEY
from fsm.controllers.world import POLICY_KINDS, World
from fsm.kube import KubeClient, NotFound
from fsm.kube.resources import SECRETS
from fsm.model.root_certificate import MeshRootCertificate
from fsm.policies import Invalid, parse
from fsm.settings import Settings

log = logging.getLogger("fsm.rotation")

KIND = "MeshRootCertificate"
RESOURCE = next(found for found in POLICY_KINDS if found.kind == KIND)


@dataclass(frozen=True, slots=True)
class _Declared:
    obj: MeshRootCertificate
    root: Root | None
    problem: str = ""


class RootCertificates:
    """What is declared about roots; ``read`` first, then the others."""

    def __init__(self, client: KubeClient, world: World, settings: Settings) -> None:
        self._client = client
        self._world = world
        self._settings = settings
        self._found: list[_Declared] = []
        self._chosen: _Declared | None = None

    @property
    def decides(self) -> str:
        """Name the object that decides which root signs; empty: none does."""
        chosen = self._chosen
        return f"{KIND} {chosen.obj.namespace}/{chosen.obj.name}" if chosen else ""

    async def read(self, state: State) -> None:
        """Read the objects and the roots that they name.

        Raises:
            ApiError: the API cannot be asked.
        """
        self._found = [
            await self._declared(obj)
            for _, obj in sorted(self._world.informers[KIND].store.items())
        ]
        active = [one for one in self._found if one.obj.intent == "active" and one.root]
        signing = [one for one in active if one.root and one.root.signer == state.current.signer]
        self._chosen = next(iter([*signing, *active]), None)

    async def _declared(self, obj: Mapping[str, Any]) -> _Declared:
        meta = obj["metadata"]
        try:
            parsed: MeshRootCertificate = parse(obj, self._settings)
        except Invalid as error:
            nobody = MeshRootCertificate(
                meta.get("namespace", ""), meta["name"], "", "passive", "tresor"
            )
            return _Declared(nobody, None, str(error))
        if parsed.provider != "tresor":
            text = f"the provider {parsed.provider} is not supported yet"
            return _Declared(parsed, None, text)
        where = f"Secret {parsed.namespace}/{parsed.secret}"
        try:
            secret = await self._client.get(SECRETS, parsed.secret, parsed.namespace)
            return _Declared(parsed, _root_in(secret, where))
        except NotFound:
            return _Declared(parsed, None, f"there is no {where}")
        except CaError as error:
            return _Declared(parsed, None, f"{where}: {error}")

    def next_state(self, state: State, now: datetime) -> State | None:
        """Return the state that follows from what is declared; ``None``: it is as declared."""
        signers = {state.current.signer}
        extra = tuple(
            pem
            for one in self._found
            if one.root and one.obj.intent == "passive" and one.root.signer not in signers
            for pem in one.root.roots
        )
        if extra != state.extra:
            return replace(state, extra=extra, since=now)
        root = self._chosen.root if self._chosen else None
        if root is None or root.signer == state.current.signer or not root.valid(now):
            return None
        return rotation.begin(state, root, now)

    async def tell(self, state: State) -> None:
        """Write into each object how far its root is, where that is news.

        Raises:
            ApiError: a status could not be written.
        """
        for one in self._found:
            found = self._world.object(RESOURCE, one.obj.namespace, one.obj.name)
            if found is None:
                continue
            said = {"state": self._state(one, state), "message": self._message(one, state)}
            status = found.get("status") or {}
            if {key: status.get(key) for key in said} == said:
                continue
            try:
                await self._client.patch_status(RESOURCE, one.obj.name, said, one.obj.namespace)
            except NotFound:
                log.debug("the object went away name=%s", one.obj.name)

    def _state(self, one: _Declared, state: State) -> str:
        if one.root is None:
            return "error"
        if one.root.signer == state.current.signer:
            return "issuingRollout" if state.phase is Phase.ISSUING else "active"
        if state.other is not None and one.root.signer == state.other.signer:
            return {
                Phase.TRUSTING: "validatingRollout",
                Phase.ISSUING: "issuingRollback",
                Phase.RETIRING: "validatingRollback",
            }[state.phase]
        return "inactive"

    def _message(self, one: _Declared, state: State) -> str:
        if one.problem:
            return one.problem
        assert one.root is not None
        if one.root.signer == state.current.signer:
            return f"signs, until {one.root.not_after:%Y-%m-%d %H:%M} UTC"
        if one.obj.intent == "active" and self._chosen is not one:
            return f"does not sign: {self.decides} is active too"
        believed = set(one.root.roots) <= set(state.bundle)
        return "is believed, does not sign" if believed else "does not sign"


def _root_in(secret: Mapping[str, Any], where: str) -> Root:
    texts = []
    for key in (CERTIFICATE_KEY, PRIVATE_KEY):
        try:
            texts.append(base64.b64decode((secret.get("data") or {})[key], validate=True).decode())
        except (KeyError, binascii.Error, UnicodeDecodeError, TypeError) as error:
            raise CaError(f"{key!r} is missing or no base64 of a text in {where}") from error
    return read_root(*texts)
