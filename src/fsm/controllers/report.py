"""What the control plane tells about certificates: roots, rotation, who holds what.

What comes in: the state of the rotation, facts, records of proxies. What goes out: plain data for
``/certs`` on port 9091, which ``fsm certs`` shows.

Invariant: no private key, and no certificate either: names, fingerprints and times.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from fsm.ca import Root, trust_id
from fsm.ca.rotation import Facts, Phase, State, Wait
from fsm.delivery.registry import ProxyRecord


def certificates(
    state: State,
    facts: Facts,
    waits: Sequence[Wait],
    records: Iterable[ProxyRecord],
    servers: Sequence[tuple[str, str]],
    problem: str,
    now: datetime,
) -> dict[str, Any]:
    """Put the report together."""
    ends = {str(record.key): record.certificate_not_after for record in records}
    roots = [_root(state.current, "signs", now)]
    if state.other is not None:
        believed = state.phase is not Phase.RETIRING
        role = "to come" if state.phase is Phase.TRUSTING else "to go" if believed else "retired"
        roots.append(_root(state.other, role, now))
    roots += [_believed(pem, now) for pem in state.extra]
    return {
        "now": _text(now),
        "phase": state.phase.value,
        "forward": state.forward,
        "rehearsal": state.rehearsal,
        "started": _text(state.started) if state.started else None,
        "since": _text(state.since) if state.since else None,
        "last": state.last,
        "problem": problem,
        "skipped": list(state.skipped),
        "leaf_lifetime_s": facts.lost_limit.total_seconds(),
        "trust": trust_id(state.bundle),
        "roots": roots,
        "waits": [{"name": wait.name, "why": wait.why} for wait in waits],
        "servers": [{"name": name, "signer": signer} for name, signer in servers],
        "unspread": list(facts.unspread),
        "proxies": [
            {
                "name": proxy.name,
                "connected": proxy.connected,
                "trust": proxy.trust,
                "signer": proxy.signer,
                "not_after": ends.get(proxy.name),
            }
            for proxy in facts.proxies
        ],
    }


def _root(root: Root, role: str, now: datetime) -> dict[str, Any]:
    return {
        **_believed(root.roots[0], now),
        "role": role,
        "signer": root.signer,
        "not_before": _text(root.not_before),
        "not_after": _text(root.not_after),
        "expired": now >= root.not_after,
        "ours": root.ours,
    }


def _believed(pem: str, now: datetime) -> dict[str, Any]:
    certificate = x509.load_pem_x509_certificate(pem.encode())
    return {
        "role": "believed",
        "subject": certificate.subject.rfc4514_string(),
        "fingerprint": certificate.fingerprint(hashes.SHA256()).hex(),
        "signer": "",
        "not_before": _text(certificate.not_valid_before_utc),
        "not_after": _text(certificate.not_valid_after_utc),
        "expired": now >= certificate.not_valid_after_utc,
        "ours": False,
    }


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
