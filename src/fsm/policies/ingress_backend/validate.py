"""IngressBackend and AccessControl: what is wrong with one, and what is probably not meant.

In: the object's JSON. Out: all violations, or warnings. Not here: whether the Services exist.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fsm.model.fields import JsonObject
from fsm.policies.ingress_backend.schema import Backend, Clients, is_network, read_backend
from fsm.policies.strict import Reading
from fsm.policies.violation import Violation
from fsm.settings import Settings


def validate(obj: JsonObject, settings: Settings) -> list[Violation]:
    """Return all faults."""
    reading = read_backend(obj)
    if reading.body is None:
        return list(reading.violations)
    return [
        *faults(reading, reading.body, reading.body.backends),
        *_protocol_faults(reading, reading.body.backends),
    ]


def warnings(obj: JsonObject) -> list[Violation]:
    """Return what is allowed and probably not meant."""
    reading = read_backend(obj)
    if reading.body is None or validate(obj, Settings()):
        return []
    return doubts(reading, reading.body, reading.body.backends)


def faults(reading: Reading[Any], body: Clients, backends: Sequence[Backend]) -> list[Violation]:
    """Return what the shape alone does not tell, of either kind."""
    return [
        *_source_faults(reading, body),
        *_twice(reading, backends),
        *_datagram_faults(reading, body, backends),
    ]


def _source_faults(reading: Reading[Any], body: Clients) -> Iterator[Violation]:
    for index, source in enumerate(body.sources):
        if source.kind == "Service" and source.namespace is None:
            path = reading.at("sources", index, "namespace")
            yield Violation(path, "is required", "a Service of any namespace may be a source")
        if source.kind == "IPRange" and not is_network(source.name):
            path = reading.at("sources", index, "name")
            hint = "write a range such as 10.0.0.0/8, or 10.1.2.3/32 for one address"
            yield Violation(path, f"{source.name!r} is not a range of addresses", hint)


def _protocol_faults(reading: Reading[Any], backends: Sequence[Backend]) -> Iterator[Violation]:
    for index, backend in enumerate(backends):
        if backend.port.protocol not in ("http", "https", "grpc"):
            path = reading.at("backends", index, "port", "protocol")
            text = f"{backend.port.protocol!r} is not one of 'http', 'https' or 'grpc'"
            yield Violation(path, text, "AccessControl opens ports of other protocols")


def _twice(reading: Reading[Any], backends: Sequence[Backend]) -> Iterator[Violation]:
    seen: set[tuple[str, int, bool]] = set()
    for index, backend in enumerate(backends):
        port = backend.name, backend.port.number, backend.port.protocol == "udp"
        if port in seen:
            text = f"port {backend.port.number} of {backend.name} is there already"
            yield Violation(reading.at("backends", index), text)
        seen.add(port)


def _datagram_faults(
    reading: Reading[Any], body: Clients, backends: Sequence[Backend]
) -> Iterator[Violation]:
    for index, backend in enumerate(backends):
        if backend.port.protocol == "udp" and backend.tls is not None:
            text = "is for TLS, which datagrams have not"
            yield Violation(reading.at("backends", index, "tls"), text, "leave it out")
    if body.matches and backends and all(b.port.protocol == "udp" for b in backends):
        text = "are about requests, which datagrams are not"
        yield Violation(reading.at("matches"), text, "leave them out")


def doubts(reading: Reading[Any], body: Clients, backends: Sequence[Backend]) -> list[Violation]:
    """Return the warnings of either kind."""
    kinds = {source.kind for source in body.sources}
    found = []
    for index, backend in enumerate(backends):
        tls = backend.port.protocol == "https" or backend.tls is not None
        proven = tls and not (backend.tls and backend.tls.skipClientCertValidation)
        if proven and "AuthenticatedPrincipal" not in kinds:
            found.append(
                Violation(
                    reading.at("backends", index),
                    "names no AuthenticatedPrincipal, so any certificate of the mesh will do",
                    "add a source of kind AuthenticatedPrincipal",
                )
            )
        if body.matches and not backend.port.protocol.startswith(("http", "grpc")):
            found.append(
                Violation(
                    reading.at("backends", index),
                    f"speaks {backend.port.protocol}, of which matches can say nothing, so nobody"
                    " is let in",
                    "write an AccessControl of its own for this port, without matches",
                )
            )
        if not proven and kinds == {"AuthenticatedPrincipal"}:
            found.append(
                Violation(
                    reading.at("backends", index),
                    "asks for no certificate, so a principal alone lets nobody in",
                    "add tls: {skipClientCertValidation: false}, or a Service or IPRange",
                )
            )
    return found
