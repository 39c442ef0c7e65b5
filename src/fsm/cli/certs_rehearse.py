"""A rotation played on paper: the state machine that runs, the real sidecars, a stopped clock.

What comes in: the report of ``/certs``. What goes out: per play a timeline, and what would happen
to whom; first for a rotation that begins now, then for the day on which the root expires.

Every connected sidecar is taken to follow after a moment, as connected sidecars do; one that is not
connected, or does not tell what it believes, is taken to stay as it is. Certificates and keys are
stand-ins. Invariant: the decisions are those of ``fsm.ca.rotation``, not a second opinion.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from fsm.ca import new_root, read_root, rotation, trust_id
from fsm.ca.rotation import Facts, Phase, ProxyFact, State

Report = dict[str, Any]

# What a sidecar is taken to need for a step: to believe a bundle, to have a certificate renewed.
FOLLOWS_AFTER = timedelta(seconds=2)
# LIMIT: a play ends, whatever the machine does: three phases, each at most a leaf's lifetime.
STEPS_MAX = 64
# A kubelet writes a changed ConfigMap into running Pods within about this time.
CONFIG_MAP_DELAY = timedelta(seconds=90)


@dataclass
class _Sidecar:
    fact: ProxyFact
    follows: bool


def rehearse(report: Report) -> Report:
    """Play both, on the sidecars that the report names."""
    now = datetime.fromisoformat(report["now"])
    plays = [_rotation(report, now), _expiry(report, now)]
    return {"plays": plays, "ok": all(play["ok"] for play in plays)}


def _rotation(report: Report, now: datetime) -> Report:
    name = "a rotation that begins now"
    if report["phase"] != "stable":
        text = f"a rotation is under way ({report['phase']}); rehearse when it is over"
        return _play(name, text, [], [], ok=False)
    state, sidecars = State(read_root(*new_root(now))), _sidecars(report)
    limit = timedelta(seconds=float(report["leaf_lifetime_s"]))
    state = rotation.begin(state, read_root(*new_root(now)), now)
    timeline, clock, held_up = [_line(now, now, state)], now, False
    for _ in range(STEPS_MAX):
        facts = Facts(tuple(one.fact for one in sidecars), (), (), limit)
        look = rotation.step(state, facts, clock)
        if look.state is not None:
            state = look.state
            timeline.append(_line(clock, now, state))
            if state.phase is Phase.STABLE:
                break
        elif any(one.fact.connected and one.follows for one in sidecars) and _follow(
            state, sidecars
        ):
            clock += FOLLOWS_AFTER
        else:
            assert state.since is not None
            waits = ", ".join(wait.name for wait in look.waits)
            held_up = True
            timeline.append({"at_s": (clock - now).total_seconds(), "what": f"waits for {waits}"})
            if clock >= state.since + limit:
                break
            clock = state.since + limit
    concerns = [_concern(one, limit) for one in sidecars if not one.follows]
    done = state.phase is Phase.STABLE
    took = span((clock - now).total_seconds())
    verdict = f"{len(sidecars) - len(concerns)} of {len(sidecars)} sidecars would follow at once"
    verdict += f"; over after {took}" if done else "; it would not end by itself"
    return _play(name, verdict, timeline, concerns, ok=done and not held_up)


def _expiry(report: Report, now: datetime) -> Report:
    signing = next(root for root in report["roots"] if root["role"] == "signs")
    ends = datetime.fromisoformat(signing["not_after"])
    begins = datetime.fromisoformat(signing["not_before"])
    sooner = begins + (ends - begins) * rotation.RENEW_ROOT_AT
    at = max(now, ends)
    timeline = []
    if signing["ours"] and sooner > now:
        text = f"a rotation starts by itself, {span((ends - sooner).total_seconds())} before"
        timeline.append({"at_s": (sooner - now).total_seconds(), "what": text})
    elif not signing["ours"]:
        text = "nobody renews this root: it is yours (`fsm certs rotate --cert … --key …`)"
        timeline.append({"at_s": 0.0, "what": text})
    begin = (at - now).total_seconds()
    timeline += [
        {
            "at_s": begin,
            "what": "if the root expires all the same: every certificate ends with it, calls fail",
        },
        {"at_s": begin, "what": "the control plane makes a new root and spreads it in ConfigMaps"},
        {
            "at_s": begin + CONFIG_MAP_DELAY.total_seconds(),
            "what": "running sidecars have read it, and come back with their tokens",
        },
    ]
    down = span(CONFIG_MAP_DELAY.total_seconds())
    verdict = f"the root ends at {signing['not_after']}"
    verdict += "" if signing["ours"] else "; calls between sidecars fail from then"
    concerns = [
        {"name": one["name"], "what": f"calls fail for up to {down}, then it is back"}
        for one in report["proxies"]
    ]
    expired = bool(signing["expired"])
    return _play("the day on which the root expires", verdict, timeline, concerns, ok=not expired)


def _sidecars(report: Report) -> list[_Sidecar]:
    found = []
    for one in report["proxies"]:
        tells = bool(one["trust"])
        fact = ProxyFact(one["name"], bool(one["connected"]), "old" if tells else "", "old")
        found.append(_Sidecar(fact, fact.connected and tells))
    return found


def _follow(state: State, sidecars: list[_Sidecar]) -> bool:
    """Let those who can do what the phase is about; return whether anything moved."""
    trust, signer = trust_id(state.bundle), state.current.signer
    moved = False
    for one in sidecars:
        if not one.follows:
            continue
        after = replace(one.fact, trust=trust, signer=signer)
        moved = moved or after != one.fact
        one.fact = after
    return moved


def _concern(one: _Sidecar, limit: timedelta) -> Report:
    if not one.fact.connected:
        text = (
            f"is not connected: each phase waits for it up to {span(limit.total_seconds())} (or"
            " until `fsm certs skip`); it comes back with its token"
        )
    else:
        text = "does not tell whom it believes (an older sidecar): restart it first, or skip it"
    return {"name": one.fact.name, "what": text}


def _line(clock: datetime, start: datetime, state: State) -> Report:
    what = {
        Phase.TRUSTING: "trusting: everyone learns to believe the new root too",
        Phase.ISSUING: "issuing: everyone gets a certificate of the new root",
        Phase.RETIRING: "retiring: everyone forgets the old root",
        Phase.STABLE: "done",
    }[state.phase]
    return {"at_s": (clock - start).total_seconds(), "what": what}


def _play(
    name: str, verdict: str, timeline: list[Report], concerns: list[Report], *, ok: bool
) -> Report:
    return {
        "name": name,
        "verdict": verdict,
        "ok": ok,
        "timeline": timeline,
        "concerns": concerns,
    }


def span(seconds: float) -> str:
    """Write a length of time for people, in its largest unit."""
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)}{unit}"
    return f"{int(seconds)}s"
