"""MeshRootCertificate, config.flomesh.io v1alpha2 and v1alpha3: the shape.

In: the object's JSON. Out: pydantic models, and ``MeshRootCertificate``.

Source: fsm-interfaces section 6.3.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from fsm.model.fields import JsonObject
from fsm.model.root_certificate import MeshRootCertificate
from fsm.policies.strict import Name, PortNumber, Reading, Strict, read

Text = Annotated[str, Field(min_length=1)]


class SecretRef(Strict):
    """A Secret."""

    name: Name
    namespace: Name


class SecretKeyRef(SecretRef):
    """A key of a Secret."""

    key: Text


class Ca(Strict):
    """Where the built-in authority has its root."""

    secretRef: SecretRef


class Tresor(Strict):
    """The built-in authority."""

    ca: Ca


class Token(Strict):
    """What Vault is asked with."""

    secretKeyRef: SecretKeyRef


class Vault(Strict):
    """Hashicorp Vault."""

    host: Text
    port: PortNumber
    protocol: Literal["http", "https"]
    role: Text
    token: Token


class CertManager(Strict):
    """cert-manager."""

    issuerName: Text
    issuerKind: Text
    issuerGroup: Text


class Provider(Strict):
    """Who has the root; one of them."""

    tresor: Tresor | None = None
    vault: Vault | None = None
    certManager: CertManager | None = None

    @property
    def named(self) -> list[Any]:
        """The names of those that are given."""
        return [name for name in ("tresor", "vault", "certManager") if getattr(self, name)]


class Body(Strict):
    """The root."""

    trustDomain: Text
    provider: Provider
    intent: Literal["active", "passive"] = "active"
    spiffeEnabled: bool | None = None


def read_root_certificate(obj: JsonObject) -> Reading[Body]:
    """Read the object."""
    return read(obj, Body)


def model(obj: JsonObject) -> MeshRootCertificate:
    """Return the dataclass of a valid object."""
    reading = read_root_certificate(obj)
    assert reading.body is not None, "the object was validated"
    body = reading.body
    tresor = body.provider.tresor
    return MeshRootCertificate(
        namespace=reading.key.namespace,
        name=reading.key.name,
        trust_domain=body.trustDomain,
        intent=body.intent,
        provider=body.provider.named[0],
        secret=tresor.ca.secretRef.name if tresor else "",
        generation=reading.generation,
    )
