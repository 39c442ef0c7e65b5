"""The authority that everything signs with, while the root behind it may change.

What comes in: states of a rotation. What goes out: an ``Authority`` whose signer and bundle are
those of the last state; a call to everyone who has to know when one of them changes.

Invariants: signer and bundle change together, between two turns of the event loop; whoever is
called back sees the new ones.
Not done here: deciding (``rotation``), keeping (``store``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from fsm.ca.provider import Issued, ServerCertificate
from fsm.ca.rotation import State
from fsm.ca.tresor import Tresor


class LiveAuthority:
    """Implements ``Authority`` by the root of the moment."""

    def __init__(self, state: State, trust_domain: str) -> None:
        """Begin with a state.

        Raises:
            CaError: its root cannot be used.
        """
        self._trust_domain = trust_domain
        self._listeners: list[Callable[[], None]] = []
        self._use(state)

    def _use(self, state: State) -> None:
        current = state.current
        self._signs = Tresor(
            current.certificates, current.key, self._trust_domain, believed=state.bundle
        )
        self.state = state

    def adopt(self, state: State) -> None:
        """Go over to another state, and tell everyone if that changes what they use."""
        before = (self._signs.signer, self._signs.roots)
        self._use(state)
        if before != (self._signs.signer, self._signs.roots):
            for listener in self._listeners:
                listener()

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call back when the signer or the bundle has changed; it must not block."""
        self._listeners.append(listener)

    @property
    def trust_domain(self) -> str:
        """The trust domain of every identity that it issues."""
        return self._trust_domain

    @property
    def roots(self) -> tuple[str, ...]:
        """The trust bundle of the moment, PEM."""
        return self._signs.roots

    @property
    def signer(self) -> str:
        """The key identifier of whoever signs now, hex."""
        return self._signs.signer

    def issue(
        self,
        csr_pem: str,
        namespace: str,
        service_account: str,
        *,
        lifetime: timedelta,
        now: datetime,
    ) -> Issued:
        """Certify the key of a request; see ``Authority.issue``."""
        return self._signs.issue(csr_pem, namespace, service_account, lifetime=lifetime, now=now)

    def issue_server(
        self, names: Sequence[str], *, lifetime: timedelta, now: datetime
    ) -> ServerCertificate:
        """Make a key and a certificate for a server; see ``Authority.issue_server``."""
        return self._signs.issue_server(names, lifetime=lifetime, now=now)
