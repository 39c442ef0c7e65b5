"""Certificates that are kept in Secrets for clients outside of the mesh: read, written, judged.

What comes in: Secrets, what they should hold. What goes out: Secrets of type ``kubernetes.io/tls``;
why one is to be made anew.

    ca.crt     every root that is believed
    tls.crt    the leaf, then what stands between it and the root
    tls.key    its key

Invariants: pure; what cannot be read is made anew, never mended. A certificate is renewed after
two thirds of its life, whatever that was when it was made.
Not done here: signing (``tresor``), the API.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from fsm.ca.provider import ServerCertificate
from fsm.ca.roots import signer_of

TYPE = "kubernetes.io/tls"
ROOTS_KEY, CHAIN_KEY, PRIVATE_KEY = "ca.crt", "tls.crt", "tls.key"


@dataclass(frozen=True, slots=True)
class Kept:
    """A certificate as a Secret has it."""

    names: tuple[str, ...]
    """In the order of the certificate; DNS names, addresses and URIs."""
    signer: str
    """The key identifier of who signed it, hex."""
    begins: datetime
    ends: datetime
    roots: str

    @property
    def renew_at(self) -> datetime:
        """The moment from which it is made anew."""
        return self.begins + (self.ends - self.begins) * 2 / 3

    def outdated(
        self, names: Sequence[str], roots: Sequence[str], signer: str, now: datetime
    ) -> str:
        """Say why it is to be made anew; empty: it is not.

        Args:
            names: those that it should carry.
            roots: those that are believed.
            signer: the key identifier of who signs now.
            now: the time.
        """
        if set(self.names) != set(names):
            return "its names are others now"
        if self.signer != signer:
            return "another root signs now"
        if self.roots != "".join(roots):
            return "other roots are believed now"
        return "two thirds of its life are over" if now >= self.renew_at else ""


def read_kept(secret: Mapping[str, Any]) -> Kept | None:
    """Read the certificate of a Secret; None: there is none that its owner could use."""
    try:
        texts = {
            key: base64.b64decode((secret.get("data") or {})[key], validate=True)
            for key in (ROOTS_KEY, CHAIN_KEY, PRIVATE_KEY)
        }
        leaf = x509.load_pem_x509_certificates(texts[CHAIN_KEY])[0]
        key = load_pem_private_key(texts[PRIVATE_KEY], None)
        form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        if key.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
            return None
        return Kept(
            names=names_of(leaf),
            signer=signer_of(leaf.public_bytes(Encoding.DER)),
            begins=leaf.not_valid_before_utc,
            ends=leaf.not_valid_after_utc,
            roots=texts[ROOTS_KEY].decode(),
        )
    except (KeyError, TypeError, ValueError, binascii.Error):
        return None


def names_of(leaf: x509.Certificate) -> tuple[str, ...]:
    """Return every name that a certificate carries, the common name first if it is no other."""
    found = [str(name.value) for name in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    try:
        more = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return tuple(found)
    kinds = (x509.DNSName, x509.IPAddress, x509.UniformResourceIdentifier)
    found += [str(name.value) for name in more if isinstance(name, kinds)]
    return tuple(dict.fromkeys(found))


def secret_data(made: ServerCertificate, roots: Sequence[str]) -> dict[str, str]:
    """Return the data of the Secret that keeps a certificate."""
    texts = {
        ROOTS_KEY: "".join(roots),
        CHAIN_KEY: "".join(made.chain),
        PRIVATE_KEY: made.private_key,
    }
    return {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
