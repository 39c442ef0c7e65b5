"""The public key in a certificate signing request, and nothing else of it.

What comes in: PEM text from a stranger. What goes out: a public key of a kind that we certify.

Invariants: the request is signed by the key that it names (proof of possession); its subject and
extensions are never looked at, because the token says who is asking and not the request.
Source: RFC 2986 section 4.2; NIST SP 800-57 part 1 table 2 for the least key sizes.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

# LIMIT: an RSA 8192 request with a long subject is below 4 KiB; more is not a request.
CSR_BYTES_MAX = 16 * 1024
RSA_BITS_MIN = 2048
# LIMIT: verifying costs grow with the square of the size, and the asker chooses it.
RSA_BITS_MAX = 8192
_CURVES = (ec.SECP256R1, ec.SECP384R1)


class CsrError(Exception):
    """A signing request that we cannot or will not honour; the message says why."""


def public_key(csr_pem: str) -> PublicKey:
    """Verify a request and take its key.

    Raises:
        CsrError: not PEM, not a request, a wrong signature, or a key that is too weak or unknown.
    """
    if len(csr_pem) > CSR_BYTES_MAX:
        raise CsrError(f"the signing request is larger than {CSR_BYTES_MAX} bytes")
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode())
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CsrError("this is not a PKCS #10 signing request in PEM") from error
    accept_key(key)
    assert isinstance(key, PublicKey)
    try:
        valid = request.is_signature_valid
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError) as error:
        raise CsrError("the signature of the signing request cannot be verified") from error
    if not valid:
        raise CsrError("the signing request is not signed by the key that it names")
    return key


def accept_key(key: object) -> None:
    """Refuse keys that are too weak, too costly, or of a kind that our TLS does not speak.

    Raises:
        CsrError: naming what was found and what is accepted.
    """
    accepted = "accepted are ECDSA P-256 and P-384, and RSA of 2048 to 8192 bits"
    if isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, _CURVES):
            raise CsrError(f"the key is on the curve {key.curve.name}; {accepted}")
    elif isinstance(key, rsa.RSAPublicKey):
        if not RSA_BITS_MIN <= key.key_size <= RSA_BITS_MAX:
            raise CsrError(f"the RSA key has {key.key_size} bits; {accepted}")
    else:
        raise CsrError(f"the key is of the kind {type(key).__name__}; {accepted}")
