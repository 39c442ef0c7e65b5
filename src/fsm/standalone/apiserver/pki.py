"""The certificates of the embedded API: its own authority, its server, its administrator.

What comes in: a directory. What goes out: PEM files in it, made once and renewed when needed, and
the TLS context that the server listens with.

Invariants: private keys are readable by their owner only and are written before the certificate
that needs them; the authority is made once and kept, because every Pod and kubeconfig trusts it.
Not done here: the mesh's certificates, which have an authority of their own (``fsm.ca``).
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS = 3650
LEAF_DAYS = 365
# A certificate is renewed at start when less than this is left of it.
RENEW_BEFORE_DAYS = 90
# Clocks of a laptop and a container may differ a little.
BACKDATE = timedelta(hours=1)


class PkiError(Exception):
    """The key material on disk cannot be used."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Pki:
    """All key material of one state directory."""

    ca: Pair
    server: Pair
    admin: Pair
    server_path: Path

    @property
    def ca_pem(self) -> str:
        """The certificate of the authority as text."""
        return self.ca.certificate.decode()

    def server_context(self) -> ssl.SSLContext:
        """Make the TLS context of the server; client certificates are optional."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.server_path)
        context.load_verify_locations(cadata=self.ca_pem)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.set_alpn_protocols(["http/1.1"])
        return context


def ensure(directory: Path, names: Sequence[str]) -> Pki:
    """Load the key material of a directory, making or renewing what is missing.

    Args:
        directory: created with mode 0700 if absent.
        names: DNS names and IP addresses that the server answers to.

    Raises:
        PkiError: a file exists but cannot be used.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        ca = _load(directory / "ca") or _keep(directory / "ca", _make_ca())
        server = _load(directory / "server")
        if server is None or not _serves(server, ca, names):
            server = _keep(directory / "server", _issue(ca, "kube-apiserver", (), names))
        admin = _issue(ca, "kubernetes-admin", ("system:masters",), ())
    except (OSError, ValueError, TypeError) as error:
        raise PkiError(
            f"cannot use the certificates in {directory}: {error}\nhint: remove that directory to"
            " have them made anew (clients then need the new kubeconfig)"
        ) from error
    # One file with both is what the ssl module loads without a race between two.
    both = directory / "server.pem"
    write_private(both, server.certificate + server.key)
    return Pki(ca, server, admin, both)


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make a P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Encode a private key as unencrypted PKCS#8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Decode a private key.

    Raises:
        ValueError: it is not an EC key in PEM.
    """
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not an elliptic curve key")
    return key


def _load(stem: Path) -> Pair | None:
    certificate, key = stem.with_suffix(".crt"), stem.with_suffix(".key")
    if not certificate.exists() or not key.exists():
        return None
    pair = Pair(certificate.read_bytes(), key.read_bytes())
    public = x509.load_pem_x509_certificate(pair.certificate).public_key()
    if public != load_key(pair.key).public_key():
        raise ValueError(f"{certificate.name} and {key.name} do not belong together")
    return pair


def _keep(stem: Path, pair: Pair) -> Pair:
    write_private(stem.with_suffix(".key"), pair.key)
    write_private(stem.with_suffix(".crt"), pair.certificate)
    return pair


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    days: int,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _make_ca() -> Pair:
    key = new_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fsm-standalone-kubernetes-ca")])
    certificate = (
        _builder(name, name, key.public_key(), CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), key_pem(key))


def _issue(ca: Pair, name: str, groups: Sequence[str], names: Sequence[str]) -> Pair:
    """Issue a server certificate for ``names``, or without names a client certificate."""
    authority, signer = x509.load_pem_x509_certificate(ca.certificate), load_key(ca.key)
    key = new_key()
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        + [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if names else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        _builder(subject, authority.subject, key.public_key(), LEAF_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
            critical=False,
        )
    )
    if names:
        alternatives = x509.SubjectAlternativeName([_general_name(item) for item in names])
        builder = builder.add_extension(alternatives, critical=False)
    certificate = builder.sign(signer, hashes.SHA256())
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), key_pem(key))


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _serves(pair: Pair, ca: Pair, names: Sequence[str]) -> bool:
    """Tell whether a server certificate still does: same authority, all names, not near its end."""
    certificate = x509.load_pem_x509_certificate(pair.certificate)
    authority = x509.load_pem_x509_certificate(ca.certificate)
    try:
        certificate.verify_directly_issued_by(authority)
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    wanted = {_general_name(name) for name in names}
    return left > timedelta(days=RENEW_BEFORE_DAYS) and wanted <= set(found)
