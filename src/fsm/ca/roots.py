"""A root with its key, and what is said about roots: who signed, how long, which bundle.

What comes in: PEM texts, DER certificates. What goes out: a ``Root`` that is known to work; short
names that a controller and a proxy compute alike.

Invariants: a ``Root`` is complete: its key belongs to it and may sign. ``signer`` is the key
identifier that every certificate signed by it carries; it differs between two roots of one name.
``trust_id`` does not depend on the order of the certificates.
Not done here: keeping roots (``store``), replacing them (``rotation``).
Source: RFC 5280 sections 4.2.1.1 and 4.2.1.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fsm.ca.provider import CaError
from fsm.ca.tresor import ROOT_NAME, Tresor

# 128 bits of a SHA-256: enough to tell bundles apart, short enough for a header.
TRUST_ID_CHARS = 32


@dataclass(frozen=True, slots=True)
class Root:
    """An authority that can sign.

    Attributes:
        certificates: PEM, as it was given: a root, or an intermediate with its chain.
        key: PEM.
        signer: key identifier of the certificate that signs, hex.
        roots: the self-signed ones among the certificates, PEM: whom others have to believe.
        not_before: the first moment at which it may sign.
        not_after: the first moment at which it may not any more.
        ours: whether ``new_root`` made it; those of users are theirs to renew.
    """

    certificates: str = field(repr=False)
    key: str = field(repr=False)
    signer: str
    roots: tuple[str, ...] = field(repr=False)
    not_before: datetime
    not_after: datetime
    ours: bool = False

    def valid(self, now: datetime) -> bool:
        """Whether it may sign now."""
        return self.not_before <= now < self.not_after


def read_root(certificates: str, key: str) -> Root:
    """Check the texts of a root and describe it.

    Raises:
        CaError: they are broken, do not belong together, or are no authority.
    """
    tresor = Tresor(certificates, key, "")
    issuer = tresor.issuer
    own_name = any(str(found.value) == ROOT_NAME for found in issuer.subject)
    return Root(
        certificates,
        key,
        tresor.signer,
        tresor.roots,
        issuer.not_valid_before_utc,
        issuer.not_valid_after_utc,
        ours=own_name and issuer.subject == issuer.issuer,
    )


def trust_id(roots: Iterable[str]) -> str:
    """Name a bundle of roots, PEM: the same name as the proxy gives it in ``fsm-trust``.

    Raises:
        CaError: one of them is no certificate.
    """
    try:
        found = {
            certificate.public_bytes(Encoding.DER)
            for root in roots
            for certificate in x509.load_pem_x509_certificates(root.encode())
        }
    except ValueError as error:
        raise CaError(f"a trusted root is not usable PEM: {error}") from error
    whole = hashlib.sha256()
    for der in sorted(found):
        whole.update(der)
    return whole.hexdigest()[:TRUST_ID_CHARS]


# LIMIT: one entry per connected proxy of the largest mesh that we measure, with room.
@lru_cache(maxsize=8192)
def signer_of(der: bytes) -> str:
    """Say which key signed a certificate, hex; empty when it does not tell."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        found = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except (ValueError, x509.ExtensionNotFound):
        return ""
    return (found.value.key_identifier or b"").hex()
