"""TLS of the control plane's own servers: a certificate that renews itself while they run.

What comes in: an authority and the names of a server. What goes out: an ``SSLContext`` whose
certificate is replaced in place, so that new connections always see a fresh one.

Invariants: TLS 1.3 only where our own proxies connect; the private key never touches a disk; no
session is ever resumed, because a resumed one would let an expired client certificate live on.
Not done here: deciding what a client certificate may do (``credentials``).
"""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import logging
import os
import ssl
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from fsm.ca import Authority, CaError, ServerCertificate

log = logging.getLogger("fsm.tls")

# WHY: asyncio gives each TLS connection a read buffer of 256 KiB; two thousand waiting proxies
# would hold 512 MB of it. Requests here are below 16 KiB, and a record is at most that.
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
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = (
            ssl.TLSVersion.TLSv1_3 if client_certificates else ssl.TLSVersion.TLSv1_2
        )
        self.context.num_tickets = 0
        self.context.options |= ssl.OP_NO_TICKET
        if client_certificates:
            self.context.verify_mode = ssl.CERT_OPTIONAL
            self.context.load_verify_locations(cadata="".join(authority.roots))
        self.certificate = self._renew()

    def _renew(self) -> ServerCertificate:
        issued = self._authority.issue_server(self._names, lifetime=self._lifetime, now=self._now())
        load_certificate(self.context, issued)
        return issued

    async def keep_fresh(self) -> None:
        """Renew the certificate whenever two thirds of its life are over, until cancelled."""
        while True:
            left = (self.certificate.renew_at - self._now()).total_seconds()
            # LIMIT one hour: the wall clock may jump, a sleep does not notice.
            await asyncio.sleep(min(max(left, 0.0), 3600.0))
            if self._now() < self.certificate.renew_at:
                continue
            try:
                self.certificate = self._renew()
                log.info(
                    "renewed the server certificate name=%s not_after=%s",
                    self._names[0],
                    self.certificate.not_after.isoformat(),
                )
            except CaError as error:
                log.error("cannot renew the certificate name=%s: %s", self._names[0], error)
                await asyncio.sleep(RETRY_S)


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
