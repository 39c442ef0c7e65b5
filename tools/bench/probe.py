"""Proves that a peer does the work of a row before it is timed.

A fast proxy that lets everyone in proves nothing.

In: a running site. Out: nothing, or a ``RowError`` that names every expectation that did not hold.

The requests are sent from inside the client's namespace, by this module run as a program
(``python -m tools.bench.probe '[{…}, …]'``), which prints one outcome per request: a status with
the length of the body, or the error.

Not proved here: that proxy A refuses a server with a wrong identity; the configuration asks for it
in every peer.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

from tools.bench import addresses as at
from tools.bench.certs import Certificates, Member
from tools.bench.errors import RowError
from tools.bench.hold import connect, exchange, tls_context
from tools.bench.peers.base import Kind
from tools.bench.processes import run, wrap
from tools.bench.sites import Site


@dataclass(frozen=True, slots=True)
class Expectation:
    """A request, and the outcomes that are right."""

    what: str
    request: dict[str, Any]
    statuses: frozenset[int]
    """Statuses that are right; empty when no status but a refused connection is."""
    refusal: bool = False
    """Whether an ended connection is right."""


def check(site: Site, kind: Kind, body_bytes: int, certificates: Certificates | None) -> None:
    """Send every request of the kind and compare.

    Raises:
        RowError: something was answered that must not be, or the reverse.

    """
    expectations = _expectations(site, kind, certificates)
    command = [
        sys.executable,
        "-m",
        "tools.bench.probe",
        json.dumps([e.request for e in expectations]),
    ]
    output = run(wrap(command, core=at.LOAD_CORE, namespace_pid=site.client_namespace))
    faults = [
        fault
        for expectation, outcome in zip(expectations, json.loads(output), strict=True)
        if (fault := _fault(expectation, outcome, body_bytes))
    ]
    if faults:
        raise RowError("does not do the work: " + "; ".join(faults))


def _fault(expectation: Expectation, outcome: dict[str, Any], body_bytes: int) -> str | None:
    error = outcome.get("error")
    if error is not None:
        return None if expectation.refusal else f"{expectation.what}: {error}"
    status, length = outcome["status"], outcome["length"]
    if status not in expectation.statuses:
        return f"{expectation.what}: status {status}"
    if status == 200 and length != body_bytes:
        return f"{expectation.what}: {length} bytes of body, not {body_bytes}"
    return None


def _expectations(site: Site, kind: Kind, certificates: Certificates | None) -> list[Expectation]:
    address, port = site.target
    through = {"address": address, "port": port, "path": at.PATH, "host": at.HOST}
    works = Expectation("an allowed request", through, frozenset({200}))
    if kind is not Kind.PAIR or certificates is None:
        return [works]
    direct = {**through, "address": at.SERVER_IP, "port": at.SERVICE_PORT}

    def as_member(member: Member) -> dict[str, Any]:
        return {
            **direct,
            "roots": str(certificates.roots),
            "chain": str(member.chain),
            "key": str(member.key),
        }

    client = as_member(certificates.client)
    none = {**direct, "roots": str(certificates.roots), "chain": None, "key": None}
    return [
        works,
        Expectation(
            "another path through proxy A", {**through, "path": "/admin"}, frozenset({403, 404})
        ),
        Expectation(
            "another host through proxy A",
            {**through, "host": "elsewhere"},
            frozenset({403, 404}),
            True,
        ),
        Expectation("the allowed identity at proxy B", client, frozenset({200})),
        Expectation(
            "another path at proxy B", {**client, "path": "/admin"}, frozenset({403, 404}), True
        ),
        Expectation(
            "another identity at proxy B", as_member(certificates.stranger), frozenset({403}), True
        ),
        Expectation("no certificate at proxy B", none, frozenset({400}), True),
        Expectation("plain text at proxy B", direct, frozenset({400}), True),
    ]


def main(requests: list[dict[str, Any]]) -> int:
    """Send the requests, print their outcomes."""
    outcomes: list[dict[str, Any]] = []
    for request in requests:
        roots = request.get("roots")
        context = tls_context(roots, request["chain"], request["key"]) if roots else None
        try:
            with connect(request["address"], request["port"], context) as connection:
                status, length = exchange(connection, request["path"], request["host"])
        except OSError as error:
            outcomes.append({"error": str(error) or type(error).__name__})
        else:
            outcomes.append({"status": status, "length": length})
    print(json.dumps(outcomes))
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
