"""Certificates for the mTLS pair: one root, two members who may talk, one who may not.

Out: PEM files in a directory that the caller removes. All keys are ECDSA P-256, as mesh
certificates usually are; names are a SPIFFE URI (what meshes check) and, for peers that can check
nothing else, a DNS name and the same as CN.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tools.bench.addresses import TRUST_DOMAIN

_LIFETIME = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Member:
    """One workload's certificate and the names in it."""

    spiffe_id: str
    dns_name: str
    chain: Path
    key: Path
    bundle: Path
    """Chain and key in one file, as HAProxy reads them."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """Everything the pair needs."""

    roots: Path
    client: Member
    server: Member
    stranger: Member
    """Holds a valid certificate of the mesh, but no rule allows it anything."""


def issue(directory: Path) -> Certificates:
    """Make a root and three members in ``directory``."""
    root_key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench root")])
    root = (
        _builder(name, name, root_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(root_key.public_key()), False)
        .sign(root_key, hashes.SHA256())
    )
    roots = directory / "roots.pem"
    roots.write_bytes(root.public_bytes(serialization.Encoding.PEM))
    return Certificates(
        roots=roots,
        client=_member(directory, root, root_key, "bookbuyer"),
        server=_member(directory, root, root_key, "bookstore"),
        stranger=_member(directory, root, root_key, "bookthief"),
    )


def _member(
    directory: Path, root: x509.Certificate, root_key: ec.EllipticCurvePrivateKey, account: str
) -> Member:
    key = ec.generate_private_key(ec.SECP256R1())
    spiffe_id = f"spiffe://{TRUST_DOMAIN}/ns/{account}/sa/{account}"
    dns_name = f"{account}.{account}.{TRUST_DOMAIN}"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, dns_name)])
    certificate = (
        _builder(subject, root.subject, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.UniformResourceIdentifier(spiffe_id), x509.DNSName(dns_name)]
            ),
            critical=False,
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), False
        )
        .sign(root_key, hashes.SHA256())
    )
    chain_pem = certificate.public_bytes(serialization.Encoding.PEM)
    key_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    member = Member(
        spiffe_id=spiffe_id,
        dns_name=dns_name,
        chain=directory / f"{account}.pem",
        key=directory / f"{account}.key",
        bundle=directory / f"{account}.bundle.pem",
    )
    for path, content in (
        (member.chain, chain_pem),
        (member.key, key_pem),
        (member.bundle, chain_pem + key_pem),
    ):
        path.touch(mode=0o600)
        path.write_bytes(content)
    return member


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + _LIFETIME)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
