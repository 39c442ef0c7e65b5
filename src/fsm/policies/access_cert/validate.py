"""AccessCert: what is wrong with one, and what is probably not meant.

In: the object's JSON. Out: all violations, or warnings. Invariant: a name by which the mesh knows
its own is never given away: with a SPIFFE identity the client would be taken for a member, with a
name of the control plane it could stand in for it. Not here: whether the Secret is free.
"""

from __future__ import annotations

from collections.abc import Iterator

from fsm.model.fields import JsonObject
from fsm.policies.access_cert.schema import Body, plain, read_cert
from fsm.policies.strict import Reading, doubts_in, faults_in
from fsm.policies.violation import Violation
from fsm.settings import Settings

CONTROL_PLANE = "fsm-controller"


def validate(obj: JsonObject, settings: Settings) -> list[Violation]:
    """Return all faults."""
    return faults_in(read_cert(obj), settings, _faults)


def warnings(obj: JsonObject) -> list[Violation]:
    """Return what is allowed and probably not meant."""
    return doubts_in(read_cert(obj), _faults, _doubts)


def _faults(reading: Reading[Body], body: Body, settings: Settings) -> Iterator[Violation]:
    own = f"{CONTROL_PLANE}.{settings.fsm_namespace}"
    for index, name in enumerate(body.subjectAltNames):
        where, compared = reading.at("subjectAltNames", index), plain(name)
        if compared.lower().startswith("spiffe:"):
            text = f"{name!r} is an identity, which members of the mesh alone have"
            yield Violation(where, text, "write a DNS name such as curl.curl.cluster.local")
        if compared == own or compared.startswith(f"{own}."):
            yield Violation(where, f"{name!r} is the control plane's own name", "choose another")


def _doubts(reading: Reading[Body], body: Body) -> Iterator[Violation]:
    seen: set[str] = set()
    for index, name in enumerate(body.subjectAltNames):
        if plain(name) in seen:
            yield Violation(reading.at("subjectAltNames", index), f"{name!r} stands twice")
        seen.add(plain(name))
