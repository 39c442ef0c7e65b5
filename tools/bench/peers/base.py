"""What a peer is: a proxy that can be found on this machine and configured for a kind of site.

A peer writes its configuration into a directory and says which commands to run; it starts nothing
itself, so that all peers are started, pinned, measured and stopped in the same way.

The work, the same for all:

- ``http``: 127.0.0.1:8000 to the backend on 9000; HTTP/1.1, keep-alive on both sides.
- ``tcp``: the same addresses, bytes only.
- ``pair``: proxy A routes by host and path, dials the server over mTLS (TLS 1.3, AES-128-GCM) and
  checks that it is the bookstore; proxy B demands a client certificate, lets only the bookbuyer use
  the path, counts requests.

Best practice for all: one worker, pools large enough for every connection, no limit that a
benchmark would meet, no access log unless the row is about it, and then in JSON, buffered where the
peer can.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from tools.bench.certs import Certificates
from tools.bench.errors import UnsupportedError
from tools.bench.peers.scripts import Script


class Kind(Enum):
    """What a site asks of a proxy."""

    HTTP = "http"
    TCP = "tcp"
    PAIR = "pair"


class Side(Enum):
    """Where a proxy stands; each side has its own network namespace in a pair."""

    CLIENT = "client"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class Http2:
    """Where HTTP/2 is spoken instead of HTTP/1.1, always by prior knowledge or ALPN."""

    client: bool = False
    between: bool = False
    """Between the two proxies of a pair, for every request."""
    never: bool = False
    """Never there, also where a proxy would choose it."""
    backend: bool = False
    grpc: bool = False
    """Requests and responses are unary calls of gRPC."""


HTTP1 = Http2()
"""Everywhere HTTP/1.1."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A peer as found on this machine."""

    binary: Path
    version: str


@dataclass(frozen=True, slots=True)
class Job:
    """What a peer is to be configured for."""

    kind: Kind
    access_log: bool
    directory: Path
    """For its configuration, logs and temporary files."""
    certificates: Certificates | None
    """Present for a pair."""
    http2: Http2 = HTTP1
    services: int = 0
    """So many services besides."""
    plugin: bool = False
    """A script sees every request at the client's side."""
    script: Script | None = None
    """What a script does, instead of what the plain site is configured for."""
    body_bytes: int = 1024
    """What a script that answers is to send."""
    workers: int = 1

    def members(self) -> Certificates:
        """Return the certificates of a pair."""
        if self.certificates is None:
            raise AssertionError("a pair needs certificates")
        return self.certificates


@dataclass(frozen=True, slots=True)
class Proxy:
    """One proxy process to start."""

    name: str
    side: Side
    command: list[str | Path]
    port: int
    """It is ready once it listens here."""
    stdout: Path | None = None
    """File for its standard output, where that is its access log."""


def refuse_services(job: Job) -> None:
    """Raise ``UnsupportedError`` where a job has services besides its own, or a plugin.

    Which of them a proxy would need, and in what form, is its control plane's affair.
    """
    if job.services:
        raise UnsupportedError(
            "services besides the one that is asked are configured for pipy only"
        )
    if job.plugin:
        raise UnsupportedError("the plugin is one of the mesh, which pipy alone runs")


class Peer(Protocol):
    """A proxy that can be measured."""

    name: str

    def find(self) -> Installed:
        """Look for it on this machine.

        Raises:
            MissingError: it is not here; the message says how to get it.

        """

    def proxies(self, installed: Installed, job: Job) -> list[Proxy]:
        """Write its configuration for a job; return what to start, servers first.

        Raises:
            MissingError: a part that the job needs is not installed.
            UnsupportedError: it cannot do this job.

        """
