"""The rows of the table, and the ratios that are to be reached.

A row is one kind of site under one kind of load; every peer runs every row that it can. Rows are
data: to measure something new, add a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tools.bench.peers.base import HTTP1, Http2, Kind
from tools.bench.peers.scripts import Script

_KIB = 1024
_MIB = 1024 * _KIB


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
    services: int = 0
    """So many services besides stand in the proxy's configuration, as in a mesh that lets everyone
    reach everything."""
    plugin: bool = False
    """A plugin of the mesh stands in the chain of the client's side and sets a header."""
    script: Script | None = None
    """Done by a script: PipyJS, njs, Lua."""
    workers: int = 1
    """Of the proxy, which has the load's core as well where there are two."""
    hold: int = 0
    """Not requests but connections: open so many, one request on each, and leave them idle. In a
    pair they are mTLS connections straight to proxy B, which alone is measured."""


ROWS: tuple[Row, ...] = (
    Row("plain", "HTTP/1.1 proxy, keep-alive, 1 KB", Kind.HTTP),
    Row(
        "plain-services",
        "the same with 1,000 services in the configuration",
        Kind.HTTP,
        services=1000,
    ),
    Row("plain-c1", "HTTP/1.1 proxy, 1 connection", Kind.HTTP, connections=1),
    Row("plain-c1000", "HTTP/1.1 proxy, 1,000 connections", Kind.HTTP, connections=1000),
    Row("tcp", "TCP proxy, keep-alive, 1 KB", Kind.TCP),
    Row("pair", "mTLS pair, redirected, routed, authorised; sum of both", Kind.PAIR),
    Row("pair-log", "the same with the access log of every request on", Kind.PAIR, access_log=True),
    Row("pair-plugin", "the same with a plugin that sets a header", Kind.PAIR, plugin=True),
    Row("pair-c1", "mTLS pair, 1 connection", Kind.PAIR, connections=1),
    Row("pair-c1000", "mTLS pair, 1,000 connections", Kind.PAIR, connections=1000),
    Row(
        "pair-h1",
        "mTLS pair, HTTP/1.1 between the proxies for every request",
        Kind.PAIR,
        http2=Http2(never=True),
    ),
    Row(
        "pair-h2",
        "mTLS pair, HTTP/2 between the proxies for every request",
        Kind.PAIR,
        http2=Http2(between=True),
    ),
    Row("plain-64k", "HTTP/1.1 proxy, keep-alive, 64 KB", Kind.HTTP, body_bytes=64 * _KIB),
    Row("pair-64k", "mTLS pair, 64 KB", Kind.PAIR, body_bytes=64 * _KIB),
    Row(
        "pair-10m",
        "mTLS pair, 10 MiB, 8 connections",
        Kind.PAIR,
        body_bytes=10 * _MIB,
        connections=8,
    ),
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
        "pair-grpc",
        "mTLS pair, gRPC unary, 10 connections of 10 streams, 1 KB",
        Kind.PAIR,
        connections=10,
        streams=10,
        http2=Http2(client=True, between=True, backend=True, grpc=True),
    ),
    Row(
        "script-answer",
        "a script answers with the path, 1 KB: PipyJS, njs, Lua",
        Kind.HTTP,
        script=Script.ANSWER,
    ),
    Row(
        "script-answer-2w",
        "the same with two workers, on the load's core as well",
        Kind.HTTP,
        script=Script.ANSWER,
        workers=2,
    ),
    Row(
        "script-proxy",
        "plain, by a script in pipy, built in in the others",
        Kind.HTTP,
        script=Script.PROXY,
    ),
    Row(
        "script-header",
        "the same, and a callback puts the path into a header: PipyJS, njs, Lua",
        Kind.HTTP,
        script=Script.HEADER,
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
    # Envoy's better half: it speaks HTTP/2 to its like where it is told to.
    Goal("pair", "Envoy", 0.4, row_of_peer="pair-h2"),
    Goal("pair-log", "pipy", 1.05, row_of_peer="pair"),
    Goal("pair-plugin", "pipy", 1.2, row_of_peer="pair"),
    Goal("pair-c1", "Envoy", 0.4),
    Goal("pair-c1000", "Envoy", 0.4),
    Goal("pair-10m", "Envoy", 0.8),
    Goal("plain-services", "pipy", 1.05, row_of_peer="plain"),
    Goal("pair-close", "Envoy", 0.4),
    Goal("mtls-hold", "Envoy", 0.9),
    Goal("script-answer", "nginx", 1.0),
    Goal("script-answer", "HAProxy", 1.0),
    # Workers share nothing: a second one makes a request cost no more than its cold caches do.
    Goal("script-answer-2w", "pipy", 1.15, row_of_peer="script-answer"),
    Goal("script-proxy", "nginx", 1.1),
    Goal("script-header", "nginx", 1.0),
    Goal("script-header", "HAProxy", 1.0),
)


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What ours may take of memory at most."""

    row: str
    figure: str
    """Name of the figure in a result."""
    bytes_max: int
    title: str


CEILINGS: tuple[Ceiling, ...] = (
    Ceiling("plain", "idle_bytes", 10 * _MIB, "one idle proxy"),
    Ceiling("plain-services", "idle_bytes", 25 * _MIB, "1,000 services"),
    Ceiling("pair-plugin", "idle_bytes", 2 * 12 * _MIB, "both proxies, one with a plugin"),
    Ceiling("script-header", "idle_bytes", 12 * _MIB, "one idle proxy with a script"),
    Ceiling("pair-10m", "load_bytes", 2 * 20 * _MIB, "eight 10 MiB responses, both proxies"),
    Ceiling("plain-hold", "idle_connection_bytes", 4 * _KIB, "an idle connection"),
    Ceiling("mtls-hold", "idle_connection_bytes", 15 * _KIB, "an idle mTLS connection"),
)


def together(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the rows in groups: rows that a goal compares are measured side by side."""
    groups = {row.name: [row.name] for row in rows}
    for goal in GOALS:
        if goal.row_of_peer in groups and goal.row in groups:
            one, other = groups[goal.row], groups[goal.row_of_peer]
            if one is not other:
                one += other
                groups |= dict.fromkeys(other, one)
    distinct = {id(names): names for names in groups.values()}
    return [[row for row in rows if row.name in names] for names in distinct.values()]
