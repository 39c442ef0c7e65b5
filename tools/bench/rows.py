"""The rows of the table, and the ratios that are to be reached.

A row is one kind of site under one kind of load; every peer runs every row that it can. Rows are
data: to measure something new, add a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tools.bench.peers.base import HTTP1, Http2, Kind

_KIB = 1024


@dataclass(frozen=True, slots=True)
class Row:
    """One row: what is asked of every peer."""

    name: str
    title: str
    kind: Kind
    body_bytes: int = _KIB
    connections: int = 32
    close: bool = False
    """A new client connection per request."""
    access_log: bool = False
    http2: Http2 = HTTP1
    streams: int = 1
    """Requests at once on each connection of clients that speak HTTP/2."""
    hold: int = 0
    """Not requests but connections: open so many, one request on each, and leave them idle. In a
    pair they are mTLS connections straight to proxy B, which alone is measured."""


ROWS: tuple[Row, ...] = (
    Row("plain", "HTTP/1.1 proxy, keep-alive, 1 KB", Kind.HTTP),
    Row("tcp", "TCP proxy, keep-alive, 1 KB", Kind.TCP),
    Row("pair", "mTLS pair, redirected, routed, authorised; sum of both", Kind.PAIR),
    Row("pair-log", "the same with the access log of every request on", Kind.PAIR, access_log=True),
    Row("plain-64k", "HTTP/1.1 proxy, keep-alive, 64 KB", Kind.HTTP, body_bytes=64 * _KIB),
    Row("pair-64k", "mTLS pair, 64 KB", Kind.PAIR, body_bytes=64 * _KIB),
    Row("plain-close", "HTTP/1.1 proxy, new client connection per request", Kind.HTTP, close=True),
    Row("pair-close", "mTLS pair, new client connection per request", Kind.PAIR, close=True),
    Row(
        "h2-h1",
        "HTTP/2 to HTTP/1.1, 10 connections of 10 streams, 1 KB",
        Kind.HTTP,
        connections=10,
        streams=10,
        http2=Http2(client=True),
    ),
    Row(
        "h2-h2",
        "HTTP/2 to HTTP/2, 10 connections of 10 streams, 1 KB",
        Kind.HTTP,
        connections=10,
        streams=10,
        http2=Http2(client=True, backend=True),
    ),
    Row(
        "grpc",
        "gRPC unary, 10 connections of 10 streams, 1 KB",
        Kind.HTTP,
        connections=10,
        streams=10,
        http2=Http2(client=True, backend=True, grpc=True),
    ),
    Row(
        "pair-h2",
        "mTLS pair, clients of HTTP/1.1, HTTP/2 between the proxies",
        Kind.PAIR,
        http2=Http2(between=True),
    ),
    Row(
        "pair-grpc",
        "mTLS pair, gRPC unary, 10 connections of 10 streams, 1 KB",
        Kind.PAIR,
        connections=10,
        streams=10,
        http2=Http2(client=True, between=True, backend=True, grpc=True),
    ),
    Row("plain-hold", "connection with one request, then idle", Kind.HTTP, hold=1000),
    Row("mtls-hold", "mTLS connection to proxy B with one request, then idle", Kind.PAIR, hold=500),
)


@dataclass(frozen=True, slots=True)
class Goal:
    """What ours may cost at most, as a multiple of another figure of the same run."""

    row: str
    peer: str
    ratio_max: float
    row_of_peer: str = ""
    """The other figure's row, where it is not the same."""


GOALS: tuple[Goal, ...] = (
    Goal("plain", "nginx", 1.3),
    Goal("plain", "nginx", 1.0),
    Goal("tcp", "HAProxy", 1.0),
    Goal("pair", "Envoy", 0.4),
    Goal("pair", "Envoy", 0.25),
    Goal("pair-log", "pipy", 1.05, row_of_peer="pair"),
    Goal("pair-close", "Envoy", 0.4),
    Goal("mtls-hold", "Envoy", 0.9),
)


def together(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the rows in groups: rows that a goal compares are measured side by side."""
    partners = {goal.row: goal.row_of_peer for goal in GOALS if goal.row_of_peer}
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(partners.get(row.name, row.name), []).append(row)
    return list(groups.values())
