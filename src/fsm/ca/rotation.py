"""Replacing the root while everything runs: a state machine without IO and without a clock.

What comes in: the state, what is known of the proxies and of our own servers, the time. What goes
out: the next state, or whom it waits for.

    stable ──begin──► trusting ──all believe both──► issuing ──all hold new──► retiring ──► stable
       ▲                 │ abort, rehearsed             │ abort: back to the old one,
       └──── retiring ◄──┘                              └─────► issuing (backward) ──► retiring

    phase      who signs      who is believed   what must be true of everyone before it ends
    trusting   the old root   both              believes both
    issuing    the new root   both              holds a certificate of the new root
    retiring   the new root   the new one       believes the new one only

Invariants: at every moment every certificate in use was signed by a root that everyone who has
answered believes; a state is written down before it takes effect, so a controller that is killed
goes on where it was; a phase never goes by on a timer alone, except for proxies that have been gone
for as long as their certificates could have lived: those have to come back with their token anyway.
Aborting is possible until retiring; from then on the way back is another rotation.
Not done here: keeping the state (``store``), asking the proxies (``fsm.controllers.rotation``).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from fsm.ca.roots import Root, trust_id

# A root that we made ourselves is replaced when this part of its life is over.
RENEW_ROOT_AT = 0.9


class Phase(enum.StrEnum):
    """How far a rotation is."""

    STABLE = "stable"
    TRUSTING = "trusting"
    ISSUING = "issuing"
    RETIRING = "retiring"


class RotationError(Exception):
    """What was asked for is not possible now; the message says why."""


@dataclass(frozen=True, slots=True)
class State:
    """What is written down.

    Attributes:
        current: signs.
        other: while trusting, the root to come; later, the one that goes.
        phase: how far it is.
        forward: whether it goes towards the root that was asked for, or back from it.
        rehearsal: the root to come is believed for once and never signs.
        started: when the rotation began.
        since: when the phase began.
        skipped: proxies that this phase does not wait for, because a person said so.
        extra: roots, PEM, that are believed besides, whatever happens.
        last: what became of the last rotation, in words.
    """

    current: Root
    other: Root | None = None
    phase: Phase = Phase.STABLE
    forward: bool = True
    rehearsal: bool = False
    started: datetime | None = None
    since: datetime | None = None
    skipped: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    last: str = ""

    @property
    def bundle(self) -> tuple[str, ...]:
        """Whom everyone shall believe, PEM, each once."""
        both = self.other is not None and self.phase in (Phase.TRUSTING, Phase.ISSUING)
        others = self.other.roots if both and self.other else ()
        return tuple(dict.fromkeys((*self.current.roots, *others, *self.extra)))


@dataclass(frozen=True, slots=True)
class ProxyFact:
    """One Pod with a sidecar.

    Attributes:
        name: ``namespace/pod``.
        connected: whether it polls.
        trust: ``trust_id`` of the roots that it believes; empty: it has not said.
        signer: which key signed the certificate that it shows; empty: it has shown none.
    """

    name: str
    connected: bool
    trust: str = ""
    signer: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that a step looks at.

    Attributes:
        proxies: every Pod with a sidecar that runs, whether it was heard of or not.
        unspread: what does not carry the bundle yet: ``ConfigMap shop/fsm-ca-bundle``.
        servers: our own servers, by the key that signed their certificates.
        lost_limit: certificates live no longer than this.
    """

    proxies: tuple[ProxyFact, ...]
    unspread: tuple[str, ...] = ()
    servers: tuple[tuple[str, str], ...] = ()
    lost_limit: timedelta = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Wait:
    """Somebody whom the phase waits for, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Step:
    """What a look at the facts leads to: another state, or waits; neither without a rotation."""

    state: State | None = None
    waits: tuple[Wait, ...] = ()


def begin(state: State, new: Root, now: datetime, *, rehearsal: bool = False) -> State:
    """Start to replace the root.

    Where the old one has expired there is nothing that it could overlap with: everything that it
    signed has expired with it. The new one takes over at once, and proxies come back with their
    tokens (see ``docs/how-to/rotate-the-root.md``).

    Raises:
        RotationError: one is under way, or the new root is of no use.
    """
    if not new.valid(now):
        raise RotationError(
            f"the new root is valid from {new.not_before:%Y-%m-%d %H:%M} to"
            f" {new.not_after:%Y-%m-%d %H:%M} UTC, and it is {now:%Y-%m-%d %H:%M}"
        )
    if now >= state.current.not_after and not rehearsal:
        text = f"replaced a root that had expired at {state.current.not_after:%Y-%m-%d %H:%M} UTC"
        return State(new, extra=state.extra, since=now, last=text)
    if state.phase is not Phase.STABLE:
        raise RotationError(f"a rotation is under way ({state.phase}); finish or abort it first")
    if new.signer == state.current.signer:
        raise RotationError("the new root has the key of the one that signs now")
    return replace(
        state,
        other=new,
        phase=Phase.TRUSTING,
        forward=True,
        rehearsal=rehearsal,
        started=now,
        since=now,
        skipped=(),
    )


def abort(state: State, now: datetime) -> State:
    """Go back to the root that was in use.

    Raises:
        RotationError: there is nothing to abort, or it is too late.
    """
    if state.phase is Phase.TRUSTING:
        return _phase(replace(state, forward=False), Phase.RETIRING, now)
    if state.phase is Phase.ISSUING and state.forward:
        return _swap(replace(state, forward=False), now)
    if state.phase is Phase.STABLE:
        raise RotationError("no rotation is under way")
    if state.phase is Phase.ISSUING:
        raise RotationError("the rotation is being aborted already")
    raise RotationError("too late: the old root is being retired; rotate again instead")


def skip(state: State, names: Iterable[str]) -> State:
    """Wait no longer, in this phase, for these proxies.

    Raises:
        RotationError: no rotation is under way.
    """
    if state.phase is Phase.STABLE:
        raise RotationError("no rotation is under way")
    return replace(state, skipped=tuple(sorted({*state.skipped, *names})))


def wants_new_root(state: State, now: datetime) -> bool:
    """Whether a root has to be made: the one in use has expired, or is ours and will soon."""
    if now >= state.current.not_after:
        other = state.other
        return state.phase is Phase.STABLE or other is None or now >= other.not_after
    if state.phase is not Phase.STABLE or not state.current.ours:
        return False
    life = state.current.not_after - state.current.not_before
    return now >= state.current.not_before + life * RENEW_ROOT_AT


def step(state: State, facts: Facts, now: datetime) -> Step:
    """Look whether the phase can end."""
    if state.phase is Phase.STABLE:
        return Step()
    assert state.other is not None
    expired = now >= state.current.not_after
    if state.phase is Phase.TRUSTING:
        if now >= state.other.not_after:
            return Step(abort(state, now))
        # Nothing that the expired root signed can be used by anyone: there is nobody to protect.
        waits = () if expired else _believe(state, facts, now)
        if waits:
            return Step(waits=waits)
        if state.rehearsal:
            return Step(_phase(state, Phase.RETIRING, now))
        return Step(_swap(state, now))
    if state.phase is Phase.ISSUING:
        if expired and now < state.other.not_after:
            return Step(_swap(replace(state, forward=False), now))
        waits = () if now >= state.other.not_after else _hold(state, facts, now)
        return Step(waits=waits) if waits else Step(_phase(state, Phase.RETIRING, now))
    waits = _believe(state, facts, now)
    return Step(waits=waits) if waits else Step(_done(state, now))


def _believe(state: State, facts: Facts, now: datetime) -> tuple[Wait, ...]:
    """Whoever does not believe exactly the bundle."""
    wanted = trust_id(state.bundle)
    waits = [Wait(name, "does not carry the roots yet") for name in facts.unspread]
    for proxy in _awaited(state, facts, now):
        if proxy.trust != wanted:
            waits.append(Wait(proxy.name, _why(proxy, proxy.trust, "has not confirmed the roots")))
    return tuple(waits)


def _hold(state: State, facts: Facts, now: datetime) -> tuple[Wait, ...]:
    """Whoever does not show a certificate of the root that signs."""
    wanted = state.current.signer
    # Someone who came during this phase must find both roots, as everyone before did.
    waits = [Wait(name, "does not carry the roots yet") for name in facts.unspread]
    waits += [
        Wait(name, "still has a certificate of the other root")
        for name, signer in facts.servers
        if signer != wanted
    ]
    believed = trust_id(state.bundle)
    for proxy in _awaited(state, facts, now):
        if proxy.signer != wanted:
            text = "has a certificate of the other root"
            waits.append(Wait(proxy.name, _why(proxy, proxy.signer, text)))
        elif proxy.trust != believed:
            waits.append(Wait(proxy.name, _why(proxy, proxy.trust, "has not confirmed the roots")))
    return tuple(waits)


def _awaited(state: State, facts: Facts, now: datetime) -> list[ProxyFact]:
    assert state.since is not None
    patience_over = now >= state.since + facts.lost_limit
    return [
        proxy
        for proxy in facts.proxies
        if proxy.name not in state.skipped and (proxy.connected or not patience_over)
    ]


def _why(proxy: ProxyFact, said: str, otherwise: str) -> str:
    if not proxy.connected:
        return "is not connected"
    return otherwise if said else "has not told what it believes (an older sidecar?)"


def _phase(state: State, phase: Phase, now: datetime) -> State:
    return replace(state, phase=phase, since=now, skipped=())


def _swap(state: State, now: datetime) -> State:
    assert state.other is not None
    swapped = replace(state, current=state.other, other=state.current)
    return _phase(swapped, Phase.ISSUING, now)


def _done(state: State, now: datetime) -> State:
    took = int((now - state.started).total_seconds()) if state.started else 0
    what = "rotated" if state.forward else "aborted"
    what = "rehearsed" if state.rehearsal and state.forward else what
    text = f"{what} at {now:%Y-%m-%d %H:%M:%S} UTC, in {took} s"
    return State(state.current, extra=state.extra, since=now, last=text)
