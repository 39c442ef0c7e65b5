"""The built-in certificate authority ("tresor"): a root key that signs short-lived leafs.

What comes in: the PEM texts of a root (made by ``new_root``, or provided by the user). What goes
out: leafs for workloads and servers.

Invariants: nothing that is signed outlives its issuer; a leaf is never a CA; a workload's leaf
names exactly one ServiceAccount, as SPIFFE URI and as DNS name; the time is always an argument.
Not done here: keeping the root (``store``), deciding who asks (``fsm.delivery``).
Source: RFC 5280 section 4.2; SPIFFE X.509-SVID sections 2 to 4.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fsm.ca import csr
from fsm.ca.provider import CaError, Issued, ServerCertificate

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

ROOT_NAME = "fsm-ca.flomesh.io"
ROOT_LIFETIME = timedelta(days=3650)
# Clocks of proxies may run behind ours; a certificate from "the future" would be refused.
SKEW = timedelta(minutes=5)
# RFC 5280 appendix A, ub-common-name; longer names live in the SAN only.
COMMON_NAME_CHARS_MAX = 64


def new_root(now: datetime) -> tuple[str, str]:
    """Make a self-signed ECDSA P-256 root, valid ten years.

    Returns:
        The certificate and its PKCS #8 private key, both PEM.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Flomesh Service Mesh"),
            x509.NameAttribute(NameOID.COMMON_NAME, ROOT_NAME),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + ROOT_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pem(certificate), _key_pem(key)


class Tresor:
    """An ``Authority`` whose key is in this process."""

    def __init__(
        self,
        certificates_pem: str,
        private_key_pem: str,
        trust_domain: str,
        believed: Sequence[str] | None = None,
    ) -> None:
        """Take over a root.

        Args:
            certificates_pem: one root; or an intermediate that the key belongs to, followed by the
                rest of its chain up to and including the root.
            private_key_pem: unencrypted; ECDSA or RSA.
            trust_domain: of all identities.
            believed: the trust bundle, PEM, where it is more than this root, as in a rotation.

        Raises:
            CaError: the texts are broken, do not belong together, or are no authority.
        """
        try:
            certificates = x509.load_pem_x509_certificates(certificates_pem.encode())
            key = serialization.load_pem_private_key(private_key_pem.encode(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            # The library's advice, which is about its own interface, is of no use to people here.
            what = str(error).partition(" See https://")[0]
            raise CaError(f"the CA certificate or its key is not usable PEM: {what}") from error
        if not isinstance(key, PrivateKey):
            raise CaError(f"the CA key is of the kind {type(key).__name__}; use ECDSA or RSA")
        try:
            csr.accept_key(key.public_key())
        except csr.CsrError as error:
            raise CaError(f"the CA key is not acceptable: {error}") from error
        self._key: PrivateKey = key
        public = _spki(key.public_key())
        own = [found for found in certificates if _spki(found.public_key()) == public]
        if not own:
            raise CaError("the CA key does not belong to any of the CA certificates")
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
        self._signer = (identifier.key_identifier or b"").hex()
        self._issuer = own[0]
        _check_authority(self._issuer)
        roots = [found for found in certificates if found.subject == found.issuer]
        if not roots:
            raise CaError(
                "the CA certificates hold no self-signed root: add the root of the intermediate"
            )
        self._roots = tuple(believed or (_pem(root) for root in roots))
        # What a peer needs between the leaf and the root: the issuer first, unless it is a root.
        between = [self._issuer, *(found for found in certificates if found != self._issuer)]
        self._above = (
            () if self._issuer in roots else tuple(_pem(c) for c in between if c not in roots)
        )
        self._trust_domain = trust_domain

    @property
    def trust_domain(self) -> str:
        """The trust domain of every identity that it issues."""
        return self._trust_domain

    @property
    def roots(self) -> tuple[str, ...]:
        """The trust bundle: PEM blocks, one per root."""
        return self._roots

    @property
    def signer(self) -> str:
        """The key identifier that its certificates name as their issuer's, hex."""
        return self._signer

    @property
    def issuer(self) -> x509.Certificate:
        """The certificate that signs."""
        return self._issuer

    @property
    def not_after(self) -> datetime:
        """When the signing certificate ends."""
        return self._issuer.not_valid_after_utc

    def issue(
        self,
        csr_pem: str,
        namespace: str,
        service_account: str,
        *,
        lifetime: timedelta,
        now: datetime,
    ) -> Issued:
        """Certify the key of a request as that of a ServiceAccount; see ``Authority.issue``."""
        key = csr.public_key(csr_pem)
        identity = f"spiffe://{self._trust_domain}/ns/{namespace}/sa/{service_account}"
        name = f"{service_account}.{namespace}.{self._trust_domain}"
        leaf = self._sign(
            key, [x509.UniformResourceIdentifier(identity), x509.DNSName(name)], lifetime, now
        )
        left = leaf.not_valid_after_utc - now
        return Issued(
            chain=(_pem(leaf), *self._above),
            roots=self._roots,
            identity=identity,
            serial=leaf.serial_number,
            not_after=leaf.not_valid_after_utc,
            renew_after_s=max(1, int(left.total_seconds() * 2 / 3)),
        )

    def issue_server(
        self, names: Sequence[str], *, lifetime: timedelta, now: datetime
    ) -> ServerCertificate:
        """Make a key and a certificate for a server; see ``Authority.issue_server``."""
        key = ec.generate_private_key(ec.SECP256R1())
        carried = [_general_name(name) for name in names]
        leaf = self._sign(key.public_key(), carried, lifetime, now)
        return ServerCertificate(
            chain=(_pem(leaf), *self._above),
            private_key=_key_pem(key),
            not_after=leaf.not_valid_after_utc,
            renew_at=now + (leaf.not_valid_after_utc - now) * 2 / 3,
        )

    def _sign(
        self,
        key: csr.PublicKey,
        names: Sequence[x509.GeneralName],
        lifetime: timedelta,
        now: datetime,
    ) -> x509.Certificate:
        ends, begins = self._issuer.not_valid_after_utc, self._issuer.not_valid_before_utc
        if not begins <= now < ends:
            raise CaError(
                f"the CA certificate is valid from {begins:%Y-%m-%d %H:%M} to {ends:%Y-%m-%d %H:%M}"
                f" UTC, and it is {now:%Y-%m-%d %H:%M}: it cannot sign"
            )
        if lifetime <= timedelta(0):
            raise CaError(f"a certificate cannot live {lifetime.total_seconds():g} s")
        dns = (name for name in names if isinstance(name, x509.DNSName))
        called = str(next(dns, names[0]).value)
        short = len(called) <= COMMON_NAME_CHARS_MAX
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, called)] if short else []
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name(subject))
            .issuer_name(self._issuer.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(max(begins, now - SKEW))
            .not_valid_after(min(now + lifetime, ends))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                _key_usage(encipher=isinstance(key, rsa.RSAPublicKey)),
                critical=True,
            )
            .add_extension(
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
                ),
                critical=False,
            )
            # RFC 5280 section 4.1.2.6: an empty subject makes the names critical.
            .add_extension(x509.SubjectAlternativeName(names), critical=not short)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, _digest(self._key))
        )


def _general_name(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _check_authority(certificate: x509.Certificate) -> None:
    """Refuse a certificate that verifiers would not accept as an issuer.

    Raises:
        CaError: it is not a CA, or may not sign certificates.
    """
    name = certificate.subject.rfc4514_string()
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        authority = constraints.ca
    except (x509.ExtensionNotFound, ValueError):
        authority = False
    if not authority:
        raise CaError(f"the certificate {name!r} is not a CA: it lacks basicConstraints CA:TRUE")
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        usage = None
    if usage is not None and not usage.key_cert_sign:
        raise CaError(f"the certificate {name!r} may not sign certificates (keyUsage)")
    if certificate.subject == certificate.issuer:
        try:
            certificate.verify_directly_issued_by(certificate)
        except (InvalidSignature, ValueError, TypeError) as error:
            raise CaError(f"the root {name!r} is not signed by its own key") from error


def _key_usage(*, sign_certificates: bool = False, encipher: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=encipher,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _digest(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384:
    strong = isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size > 256
    return hashes.SHA384() if strong else hashes.SHA256()


def _spki(key: object) -> bytes:
    public_bytes = getattr(key, "public_bytes", None)
    if public_bytes is None:
        return b""
    encoded: bytes = public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
