"""Certificates for tests: an authority, and members whose one name is a SPIFFE URI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


def spiffe(account: str, namespace: str | None = None) -> str:
    """Give the identity of a service account; its namespace is called as it is unless named."""
    return f"spiffe://cluster.local/ns/{namespace or account}/sa/{account}"


@dataclass(frozen=True)
class Member:
    """A certificate with its key, and the root that signed it; PEM."""

    chain: str
    key: str
    root: str

    def write(self, directory: Path, roots: str | None = None) -> list[str]:
        """Write the files; give the flags that name them."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in (
            ("cert", self.chain),
            ("key", self.key),
            ("roots", roots or self.root),
        ):
            (directory / f"{name}.pem").write_text(text)
        return [f"--{name}={directory / f'{name}.pem'}" for name in ("cert", "key", "roots")]


class Authority:
    """A root that signs members."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=30))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        )
        certificate = builder.sign(self._key, hashes.SHA256())
        self.root = certificate.public_bytes(serialization.Encoding.PEM).decode()

    def member(
        self,
        *uris: str,
        begins: timedelta = timedelta(hours=-1),
        ends: timedelta = timedelta(hours=1),
    ) -> Member:
        """Sign a certificate for these URIs, valid from and until these distances from now."""
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        return self.named(names, begins=begins, ends=ends)

    def dns_member(self, *names: str) -> Member:
        """Sign a certificate for these DNS names."""
        return self.named([x509.DNSName(name) for name in names])

    def named(
        self,
        names: Sequence[x509.GeneralName],
        common_name: str | None = None,
        begins: timedelta = timedelta(hours=-1),
        ends: timedelta = timedelta(hours=1),
    ) -> Member:
        """Sign a certificate for any names, also such as no honest authority would sign."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        common = [] if common_name is None else [common_name]
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, name) for name in common]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(subject))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
        certificate = builder.sign(self._key, hashes.SHA256())
        chain = certificate.public_bytes(serialization.Encoding.PEM).decode()
        secret = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()
        return Member(chain, secret, self.root)
