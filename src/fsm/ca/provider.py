"""What the control plane expects of a certificate authority, whichever it is.

What comes in: identities, requests, lifetimes, the time. What goes out: PEM texts.

Invariants: the trust bundle is a list because a rotation has two roots in it; the leaf is always
the first of a chain; a chain never contains a root.
Not done here: any signing (``tresor``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol


class CaError(Exception):
    """The authority cannot do its work: its key or certificate is unusable, or it has expired."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A workload's certificate.

    Attributes:
        chain: PEM blocks, the leaf first.
        roots: PEM blocks of the authorities that the workload shall believe.
        identity: the SPIFFE URI that the leaf carries.
        serial: serial number of the leaf.
        not_after: the moment from which the leaf is no longer valid.
        renew_after_s: when to ask again, in seconds from the moment of issue.
    """

    chain: tuple[str, ...]
    roots: tuple[str, ...]
    identity: str
    serial: int
    not_after: datetime
    renew_after_s: int


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """A certificate of the control plane itself, or of a client outside, with its key."""

    chain: tuple[str, ...]
    private_key: str = field(repr=False)
    not_after: datetime
    renew_at: datetime

    def pem(self) -> bytes:
        """Return key and chain as one PEM text, the form in which TLS libraries load them."""
        return (self.private_key + "".join(self.chain)).encode()


class Authority(Protocol):
    """Signs certificates of one trust domain."""

    @property
    def trust_domain(self) -> str:
        """The trust domain of every identity that it issues."""
        ...

    @property
    def roots(self) -> tuple[str, ...]:
        """The trust bundle: PEM blocks, one per root."""
        ...

    @property
    def signer(self) -> str:
        """The authority key identifier of what it issues now, hex; another one after a rotation."""
        ...

    def issue(
        self,
        csr_pem: str,
        namespace: str,
        service_account: str,
        *,
        lifetime: timedelta,
        now: datetime,
    ) -> Issued:
        """Certify the key of a request as that of a ServiceAccount.

        Raises:
            CsrError: the request is unusable.
            CaError: the authority is.
        """
        ...

    def issue_server(
        self, names: Sequence[str], *, lifetime: timedelta, now: datetime
    ) -> ServerCertificate:
        """Make a key and a certificate for what is no member: our own servers, others' clients.

        Args:
            names: DNS names, addresses, URIs; none of them an identity.
            lifetime: of the certificate.
            now: the time.

        Raises:
            CaError: the authority is unusable.
        """
        ...
