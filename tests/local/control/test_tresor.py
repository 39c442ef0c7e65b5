"""The built-in authority: what it signs, what it refuses, and that others can verify it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store
from hypothesis import given
from hypothesis import strategies as st

from fsm.ca import CaError, CsrError, Tresor, new_root
from fsm.ca.tresor import SKEW

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def make_csr(key: object, *, name: str = "ignored", names: tuple[str, ...] = ()) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(found) for found in names]), critical=False
        )
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    request = builder.sign(key, digest)
    return request.public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture(scope="module")
def tresor() -> Tresor:
    return Tresor(*new_root(NOW), trust_domain="cluster.local")


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def leaf_of(chain: tuple[str, ...]) -> x509.Certificate:
    return x509.load_pem_x509_certificate(chain[0].encode())


def sans(certificate: x509.Certificate) -> list[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return [str(name.value) for name in found.value]


def test_a_leaf_names_the_service_account_and_nothing_that_the_request_asked_for(tresor, key):
    csr = make_csr(key, name="admin", names=("bank.shop.cluster.local",))
    issued = tresor.issue(csr, "shop", "web", lifetime=DAY, now=NOW)
    leaf = leaf_of(issued.chain)
    assert sans(leaf) == ["spiffe://cluster.local/ns/shop/sa/web", "web.shop.cluster.local"]
    assert issued.identity == "spiffe://cluster.local/ns/shop/sa/web"
    assert leaf.subject.rfc4514_string() == "CN=web.shop.cluster.local"
    assert leaf.public_key() == key.public_key()
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_strict_verifier_accepts_the_leaf_as_client_and_as_server(tresor, key):
    issued = tresor.issue(make_csr(key), "shop", "web", lifetime=DAY, now=NOW)
    roots = Store([x509.load_pem_x509_certificate(root.encode()) for root in issued.roots])
    builder = PolicyBuilder().store(roots).time(NOW + timedelta(minutes=1))
    client = builder.build_client_verifier().verify(leaf_of(issued.chain), [])
    assert x509.UniformResourceIdentifier(issued.identity) in (client.subjects or [])
    name = x509.DNSName("web.shop.cluster.local")
    chain = builder.build_server_verifier(name).verify(leaf_of(issued.chain), [])
    assert len(chain) == 2


def test_validity_allows_for_skewed_clocks_and_renewal_comes_at_two_thirds(tresor, key):
    later = NOW + DAY
    issued = tresor.issue(make_csr(key), "shop", "web", lifetime=timedelta(hours=24), now=later)
    leaf = leaf_of(issued.chain)
    assert leaf.not_valid_before_utc == later - SKEW
    assert leaf.not_valid_after_utc == issued.not_after == later + timedelta(hours=24)
    assert issued.renew_after_s == 16 * 3600


def test_serial_numbers_differ(tresor, key):
    csr = make_csr(key)
    issue = lambda: tresor.issue(csr, "a", "b", lifetime=DAY, now=NOW).serial  # noqa: E731
    assert len({issue() for _ in range(20)}) == 20


def test_nothing_outlives_the_root(tresor, key):
    eve = tresor.not_after - timedelta(hours=1)
    issued = tresor.issue(make_csr(key), "shop", "web", lifetime=DAY, now=eve)
    assert issued.not_after == tresor.not_after
    assert issued.renew_after_s == 2400


@pytest.mark.parametrize("away", [-timedelta(days=1), timedelta(days=3651)])
def test_an_expired_or_future_root_signs_nothing_and_says_its_dates(tresor, key, away):
    with pytest.raises(CaError, match=r"valid from 2026-03-01 .* to 2036-02-27"):
        tresor.issue(make_csr(key), "shop", "web", lifetime=DAY, now=NOW + away)


def test_a_lifetime_of_nothing_is_refused(tresor, key):
    with pytest.raises(CaError, match="cannot live 0 s"):
        tresor.issue(make_csr(key), "shop", "web", lifetime=timedelta(0), now=NOW)


def test_names_too_long_for_a_common_name_live_in_the_san_only(tresor, key):
    account = "a" * 60
    leaf = leaf_of(tresor.issue(make_csr(key), "shop", account, lifetime=DAY, now=NOW).chain)
    assert not leaf.subject.rdns
    found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert found.critical
    assert f"{account}.shop.cluster.local" in sans(leaf)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ec.generate_private_key(ec.SECP256R1()),
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: rsa.generate_private_key(65537, 2048),
    ],
    ids=["p256", "p384", "rsa2048"],
)
def test_strong_keys_are_certified(tresor, make):
    own = make()
    issued = tresor.issue(make_csr(own), "shop", "web", lifetime=DAY, now=NOW)
    assert leaf_of(issued.chain).public_key() == own.public_key()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: rsa.generate_private_key(65537, 1024), "1024 bits"),
        (lambda: ec.generate_private_key(ec.SECP256K1()), "secp256k1"),
        (ed25519.Ed25519PrivateKey.generate, "Ed25519"),
    ],
    ids=["rsa1024", "secp256k1", "ed25519"],
)
def test_other_keys_are_refused_by_name(tresor, make, words):
    with pytest.raises(CsrError, match=words):
        tresor.issue(make_csr(make()), "shop", "web", lifetime=DAY, now=NOW)


def test_a_request_signed_by_another_key_is_refused(tresor, key):
    request = x509.load_pem_x509_csr(make_csr(key).encode())
    der = bytearray(request.public_bytes(serialization.Encoding.DER))
    other = make_csr(ec.generate_private_key(ec.SECP256R1()))
    stolen = bytes(x509.load_pem_x509_csr(other.encode()).signature)
    # Both signatures are DER and may differ in length; flip a bit of ours instead if they do.
    if len(stolen) == len(request.signature):
        der[-len(stolen) :] = stolen
    else:
        der[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(CsrError, match="not signed by the key"):
        tresor.issue(forged.decode(), "shop", "web", lifetime=DAY, now=NOW)


@given(text=st.one_of(st.text(max_size=400), st.binary(max_size=200).map(lambda b: b.hex())))
def test_any_text_is_refused_in_words(text):
    authority = Tresor(*_ROOT, trust_domain="cluster.local")
    for csr in (
        text,
        f"-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n",
    ):
        with pytest.raises(CsrError):
            authority.issue(csr, "shop", "web", lifetime=DAY, now=NOW)


_ROOT = new_root(NOW)


def test_a_huge_request_is_refused_before_it_is_parsed(tresor):
    with pytest.raises(CsrError, match="larger than"):
        tresor.issue("x" * 20_000, "shop", "web", lifetime=DAY, now=NOW)


def test_a_server_certificate_carries_all_names_and_its_own_key(tresor):
    server = tresor.issue_server(["a.svc", "a.svc.cluster.local"], lifetime=DAY, now=NOW)
    assert sans(leaf_of(server.chain)) == ["a.svc", "a.svc.cluster.local"]
    own = serialization.load_pem_private_key(server.private_key.encode(), None)
    assert own.public_key() == leaf_of(server.chain).public_key()
    assert server.renew_at == NOW + timedelta(hours=16)
    assert "PRIVATE" not in repr(server)


def _root(key: object, *, ca: bool = True, name: str = "own") -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: object) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()


def test_a_provided_rsa_root_is_used(key):
    own = rsa.generate_private_key(65537, 2048)
    tresor = Tresor(_root(own), _key_pem(own), "cluster.local")
    leaf = leaf_of(tresor.issue(make_csr(key), "a", "b", lifetime=DAY, now=NOW).chain)
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(tresor.roots[0].encode()))


def test_an_intermediate_goes_into_the_chain_and_its_root_into_the_bundle(key):
    top, middle = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
    root = _root(top, name="top")
    between = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "middle")]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "top")]))
        .public_key(middle.public_key())
        .serial_number(2)
        .not_valid_before(NOW)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(top, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )
    tresor = Tresor(between + root, _key_pem(middle), "cluster.local")
    issued = tresor.issue(make_csr(key), "a", "b", lifetime=DAY, now=NOW)
    assert issued.roots == (root,)
    assert issued.chain[1:] == (between,)
    leaf_of(issued.chain).verify_directly_issued_by(
        x509.load_pem_x509_certificate(between.encode())
    )
    with pytest.raises(CaError, match="no self-signed root"):
        Tresor(between, _key_pem(middle), "cluster.local")


def test_unusable_roots_are_refused_in_words(key):
    other = ec.generate_private_key(ec.SECP256R1())
    weak = rsa.generate_private_key(65537, 1024)
    edwards = ed25519.Ed25519PrivateKey.generate()
    edwards_pem = edwards.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    for certificate, private, words in (
        ("", _key_pem(key), "not usable PEM"),
        ("junk", _key_pem(key), "not usable PEM"),
        (_root(key), "junk", "not usable PEM"),
        (_root(other), _key_pem(key), "does not belong"),
        (_root(key, ca=False), _key_pem(key), "is not a CA"),
        (_root(weak), _key_pem(weak), "1024 bits"),
        (_root(key), edwards_pem, "Ed25519"),
    ):
        with pytest.raises(CaError, match=words):
            Tresor(certificate, private, "cluster.local")
