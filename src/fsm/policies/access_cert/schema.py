"""AccessCert, policy.flomesh.io v1alpha1: the shape.

In: the object's JSON. Out: pydantic models, and ``AccessCert``.

Source: fsm-interfaces section 2.10.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from fsm.model.access_cert import AccessCert
from fsm.model.fields import JsonObject
from fsm.model.names import Key
from fsm.policies.ingress_backend.schema import is_address, is_host
from fsm.policies.strict import Name, Reading, Strict, fault, read

# LIMIT: names of one certificate; each handshake carries them all.
NAMES_MAX = 100
_URI_CHARS_MAX = 2_048


def is_uri(text: str) -> bool:
    """Tell whether a name is meant as a URI."""
    return "://" in text


def _name(value: str) -> str:
    hint = "write a DNS name such as curl.curl.cluster.local, an address, or a URI"
    if is_uri(value):
        if len(value) > _URI_CHARS_MAX or not value.isascii() or not value.isprintable():
            raise fault("is too long or has characters that no URI has", hint)
        try:
            parts = urlsplit(value)
        except ValueError:
            parts = None
        if parts is None or not parts.scheme or not parts.netloc or " " in value:
            raise fault(f"{value!r} is not a URI", hint)
    elif value.startswith("*"):
        raise fault(f"{value!r} stands for many", "a certificate names its client: write it out")
    elif not is_address(value) and not is_host(value.lower()):
        raise fault(f"{value!r} is not a name that a certificate can carry", hint)
    return value


class SecretRef(Strict):
    """Where the certificate is kept."""

    name: Name
    namespace: Name


class Body(Strict):
    """The policy."""

    subjectAltNames: Annotated[
        list[Annotated[str, AfterValidator(_name)]], Field(min_length=1, max_length=NAMES_MAX)
    ]
    secret: SecretRef


def read_cert(obj: JsonObject) -> Reading[Body]:
    """Read the object."""
    return read(obj, Body)


def plain(name: str) -> str:
    """Return a name in the form in which it is compared: DNS has no case, URIs have."""
    return name if is_uri(name) else name.lower()


def model(obj: JsonObject) -> AccessCert:
    """Return the dataclass of a valid object."""
    reading = read_cert(obj)
    assert reading.body is not None, "the object was validated"
    body = reading.body
    return AccessCert(
        namespace=reading.key.namespace,
        name=reading.key.name,
        names=tuple(dict.fromkeys(map(plain, body.subjectAltNames))),
        secret=Key(body.secret.namespace, body.secret.name),
        generation=reading.generation,
    )
