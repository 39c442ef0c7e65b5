"""TLS of the control plane's own servers: a certificate that renews itself while they run.

What comes in: an authority and the names of a server. What goes out: an ``SSLContext`` that hands
each new connection to one with a fresh certificate and the roots of the moment.

Invariants: TLS 1.3 only where our own proxies connect; the private key never touches a disk; no
session is ever resumed, because a resumed one would let an expired client certificate live on.
Not done here: deciding what a client certificate may do (``credentials``).
"""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import contextlib
import logging
import os
import ssl
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from fsm.ca import Authority, CaError, ServerCertificate

log = logging.getLogger("fsm.tls")

# WHY: asyncio gives each TLS connection a read buffer of 256 KiB, and a controller has one for each
# kind that it watches, and those of its webhooks. A record is at most 16 KiB.
READ_BUFFER_BYTES = 20 * 1024
RETRY_S = 30.0


def shrink_read_buffers() -> None:
    """Make the buffers of TLS connections of this process small; see ``READ_BUFFER_BYTES``."""
    protocol = asyncio.sslproto.SSLProtocol
    if getattr(protocol, "max_size", 0) > READ_BUFFER_BYTES:
        protocol.max_size = READ_BUFFER_BYTES


class ServerTls:
    """The TLS side of one server."""

    def __init__(
        self,
        authority: Authority,
        names: Sequence[str],
        *,
        lifetime: timedelta,
        now: Callable[[], datetime],
        client_certificates: bool,
    ) -> None:
        """Issue the first certificate.

        Args:
            authority: issues it; its roots also verify clients.
            names: DNS names of the server.
            lifetime: of each certificate; a new one comes after two thirds of it.
            now: the wall clock.
            client_certificates: whether clients may (not must) present one; if so, TLS 1.3 only.

        Raises:
            CaError: the authority cannot issue.
        """
        self._authority = authority
        self._names = tuple(names)
        self._lifetime = lifetime
        self._now = now
        self._clients = client_certificates
        self._due = asyncio.Event()
        self.name = self._names[0]
        self.signer = ""
        self.context = self._context()
        self._renew()
        # WHY: a context's list of roots can only grow, and a server keeps the context that it was
        # started with; so each connection is handed over to the context of the moment.
        self.context.sni_callback = self._hand_over

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = (
            ssl.TLSVersion.TLSv1_3 if self._clients else ssl.TLSVersion.TLSv1_2
        )
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
        if self._clients:
            context.verify_mode = ssl.CERT_OPTIONAL
            context.load_verify_locations(cadata="".join(self._authority.roots))
        return context

    def _renew(self) -> None:
        issued = self._authority.issue_server(self._names, lifetime=self._lifetime, now=self._now())
        context = self._context()
        load_certificate(context, issued)
        if not self.signer:
            load_certificate(self.context, issued)
        self.certificate, self._current = issued, context
        self.signer, self._roots = self._authority.signer, self._authority.roots

    def _hand_over(
        self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext
    ) -> None:
        connection.context = self._current

    def refresh(self) -> None:
        """Look at once whether the authority signs or believes otherwise; fits as its listener."""
        self._due.set()

    async def keep_fresh(self) -> None:
        """Renew the certificate after two thirds of its life, or with the root; for ever."""
        while True:
            left = (self.certificate.renew_at - self._now()).total_seconds()
            with contextlib.suppress(TimeoutError):
                # LIMIT one hour: the wall clock may jump, a sleep does not notice.
                async with asyncio.timeout(min(max(left, 0.0), 3600.0)):
                    await self._due.wait()
            self._due.clear()
            same = (self.signer, self._roots) == (self._authority.signer, self._authority.roots)
            if same and self._now() < self.certificate.renew_at:
                continue
            try:
                self._renew()
                log.info(
                    "renewed the server certificate name=%s not_after=%s",
                    self._names[0],
                    self.certificate.not_after.isoformat(),
                )
            except CaError as error:
                log.error("cannot renew the certificate name=%s: %s", self._names[0], error)
                await asyncio.sleep(RETRY_S)
                self._due.set()


def load_certificate(context: ssl.SSLContext, certificate: ServerCertificate) -> None:
    """Load key and chain into a context; the ``ssl`` module takes them from files only.

    The file is anonymous memory: it has no name, and is gone when this returns.
    """
    descriptor = os.memfd_create("fsm-server-key", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, certificate.pem())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
