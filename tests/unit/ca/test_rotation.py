"""The rotation of the root under a clock that is turned by hand: proxies come, go, lag and return,
controllers are killed between any two writes, people change their minds.

The model holds what the machine promises: whoever has answered, and was not given up by a person,
believes the signer of every certificate that somebody else shows.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from fsm.ca import CaError, new_root, read_root, read_state, rotation, trust_id
from fsm.ca.roots import Root
from fsm.ca.rotation import Facts, Phase, ProxyFact, RotationError, State
from fsm.ca.store import Request, patch_of, read_request, request_patch

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
FAR = timedelta(days=3650)
_POOL = [read_root(*new_root(NOW)) for _ in range(12)]
SIGNERS = {root.roots[0]: root.signer for root in _POOL}


def facts(*proxies: ProxyFact, unspread=(), servers=()) -> Facts:
    return Facts(proxies, unspread, servers, DAY)


def settled(state: State, name: str = "shop/web-1", connected: bool = True) -> ProxyFact:
    return ProxyFact(name, connected, trust_id(state.bundle), state.current.signer)


@pytest.fixture
def stable() -> State:
    return State(_POOL[0])


def test_three_phases_one_after_the_other_each_when_everyone_is_ready(stable):
    state = rotation.begin(stable, _POOL[1], NOW)
    old = settled(stable)
    assert (state.phase, state.current) == (Phase.TRUSTING, _POOL[0])
    assert set(state.bundle) == {*_POOL[0].roots, *_POOL[1].roots}
    look = rotation.step(state, facts(old), NOW)
    assert look.state is None
    assert [(wait.name, wait.why) for wait in look.waits] == [
        ("shop/web-1", "has not confirmed the roots")
    ]
    believes = replace(old, trust=trust_id(state.bundle))
    issuing = rotation.step(state, facts(believes), NOW).state
    assert (issuing.phase, issuing.current, issuing.other) == (Phase.ISSUING, _POOL[1], _POOL[0])
    (wait,) = rotation.step(issuing, facts(believes), NOW).waits
    assert wait.why == "has a certificate of the other root"
    holds = replace(believes, signer=_POOL[1].signer)
    retiring = rotation.step(issuing, facts(holds), NOW).state
    assert retiring.bundle == _POOL[1].roots
    assert rotation.step(retiring, facts(holds), NOW).waits
    end = rotation.step(retiring, facts(replace(holds, trust=trust_id(retiring.bundle))), NOW).state
    assert (end.phase, end.current, end.other) == (Phase.STABLE, _POOL[1], None)
    assert "rotated" in end.last


def test_it_waits_for_what_carries_the_roots_and_for_our_own_servers(stable):
    state = rotation.begin(stable, _POOL[1], NOW)
    ready = settled(state)
    look = rotation.step(state, facts(ready, unspread=("ConfigMap shop/fsm-ca-bundle",)), NOW)
    assert [wait.name for wait in look.waits] == ["ConfigMap shop/fsm-ca-bundle"]
    issuing = rotation.step(state, facts(ready), NOW).state
    moved = settled(issuing)
    look = rotation.step(issuing, facts(moved, servers=(("webhook", _POOL[0].signer),)), NOW)
    assert [wait.name for wait in look.waits] == ["webhook"]
    look = rotation.step(issuing, facts(moved, servers=(("webhook", _POOL[1].signer),)), NOW)
    assert look.state.phase is Phase.RETIRING


def test_who_is_not_connected_is_waited_for_as_long_as_its_certificate_could_live(stable):
    state = rotation.begin(stable, _POOL[1], NOW)
    gone = settled(stable, connected=False)
    (wait,) = rotation.step(state, facts(gone), NOW + DAY - timedelta(seconds=1)).waits
    assert wait.why == "is not connected"
    assert rotation.step(state, facts(gone), NOW + DAY).state.phase is Phase.ISSUING
    lagging = replace(gone, connected=True)
    assert rotation.step(state, facts(lagging), NOW + 100 * DAY).waits, "no timer passes these by"
    skipped = rotation.skip(state, ["shop/web-1"])
    assert rotation.step(skipped, facts(lagging), NOW).state.phase is Phase.ISSUING


def test_a_sidecar_that_does_not_tell_is_said_to_be_older(stable):
    state = rotation.begin(stable, _POOL[1], NOW)
    (wait,) = rotation.step(state, facts(ProxyFact("shop/old", True)), NOW).waits
    assert "an older sidecar" in wait.why


def test_abort_goes_back_the_way_it_came(stable):
    trusting = rotation.begin(stable, _POOL[1], NOW)
    back = rotation.abort(trusting, NOW)
    assert (back.phase, back.current, back.bundle) == (Phase.RETIRING, _POOL[0], _POOL[0].roots)
    issuing = rotation.step(trusting, facts(settled(trusting)), NOW).state
    back = rotation.abort(issuing, NOW)
    assert (back.phase, back.current, back.forward) == (Phase.ISSUING, _POOL[0], False)
    assert len(back.bundle) == 2, "certificates of the new root are in use"
    with pytest.raises(RotationError, match="being aborted already"):
        rotation.abort(back, NOW)
    retiring = rotation.step(issuing, facts(settled(issuing)), NOW).state
    with pytest.raises(RotationError, match="too late"):
        rotation.abort(retiring, NOW)
    with pytest.raises(RotationError, match="no rotation"):
        rotation.abort(stable, NOW)


def test_a_rehearsal_never_signs(stable):
    state = rotation.begin(stable, _POOL[1], NOW, rehearsal=True)
    after = rotation.step(state, facts(settled(state)), NOW).state
    assert (after.phase, after.current) == (Phase.RETIRING, _POOL[0])
    end = rotation.step(after, facts(settled(after)), NOW).state
    assert (end.phase, end.current) == (Phase.STABLE, _POOL[0])
    assert "rehearsed" in end.last


def test_an_expired_root_is_replaced_at_once_whatever_was_under_way(stable):
    later = NOW + FAR
    assert rotation.wants_new_root(stable, later)
    fresh = read_root(*new_root(later))
    for state in (stable, rotation.begin(stable, _POOL[1], NOW)):
        assert rotation.wants_new_root(state, later)
        after = rotation.begin(state, fresh, later)
        assert (after.phase, after.current) == (Phase.STABLE, fresh)
        assert "expired" in after.last


def test_a_root_that_expires_while_the_next_is_being_learnt_waits_for_nobody(stable):
    young = read_root(*new_root(NOW + FAR - DAY))
    state = rotation.begin(stable, young, NOW + FAR - DAY)
    assert not rotation.wants_new_root(state, NOW + FAR)
    assert rotation.step(state, facts(settled(stable)), NOW + FAR).state.current is young


def test_our_own_root_is_replaced_in_time_and_that_of_a_user_is_not(stable):
    assert not rotation.wants_new_root(stable, NOW + 0.89 * FAR)
    assert rotation.wants_new_root(stable, NOW + 0.91 * FAR)
    assert not rotation.wants_new_root(State(replace(_POOL[0], ours=False)), NOW + 0.91 * FAR)


@pytest.mark.parametrize(
    ("new", "at", "words"),
    [
        (_POOL[0], NOW, "has the key of the one that signs"),
        (_POOL[1], NOW - DAY, "is valid from 2026-03-01 11:55 to"),
    ],
)
def test_a_root_of_no_use_is_refused_in_words(stable, new, at, words):
    with pytest.raises(RotationError, match=words):
        rotation.begin(stable, new, at)


def test_two_rotations_at_once_are_refused(stable):
    with pytest.raises(RotationError, match=r"under way \(trusting\)"):
        rotation.begin(rotation.begin(stable, _POOL[1], NOW), _POOL[2], NOW)


def stored(state: State) -> State:
    """Write a state down and read it as the next controller does."""
    secret = {"metadata": {"name": "fsm-ca-bundle", "namespace": "fsm-system"}}
    patch = patch_of(state, secret)
    data = {key: value for key, value in patch["data"].items() if value is not None}
    return read_state(secret | {"data": data})


@dataclass
class Proxy:
    """What one sidecar believes and shows."""

    name: str
    trust: tuple[str, ...]
    signer: str
    connected: bool = True
    given_up: bool = False

    @property
    def fact(self) -> ProxyFact:
        return ProxyFact(self.name, self.connected, trust_id(self.trust), self.signer)


class World:
    """Proxies, a Secret, and a controller that may die after any write."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.now = NOW
        self.state = State(_POOL[0])
        self.unused = list(_POOL[1:])
        self.made = 0
        self.proxies = [self.born() for _ in range(dice.randint(0, 5))]

    def born(self) -> Proxy:
        self.made += 1
        return Proxy(f"shop/web-{self.made}", self.state.bundle, self.state.current.signer)

    def act(self) -> None:
        proxy = self.dice.choice(self.proxies) if self.proxies else None
        match self.dice.choice(("look",) * 4 + ("learn", "renew") * 4 + RARE):
            case "look":
                self.look()
            case "learn" if proxy and proxy.connected:
                proxy.trust = self.state.bundle
            case "renew" if proxy and proxy.connected:
                # A certificate is handed out together with the bundle.
                proxy.trust, proxy.signer = self.state.bundle, self.state.current.signer
            case "lose" if proxy:
                proxy.connected = False
            case "return" if proxy and not proxy.connected:
                self.comes_back(proxy)
            case "born":
                self.proxies.append(self.born())
            case "die" if proxy:
                self.proxies.remove(proxy)
            case "begin" if self.unused:
                rehearsal = self.dice.random() < 0.3
                self.person(rotation.begin, self.state, self.unused[0], self.now, rehearsal)
            case "abort":
                self.person(rotation.abort, self.state, self.now)
            case "skip" if proxy:
                if self.person(rotation.skip, self.state, [proxy.name]):
                    proxy.given_up = True
            case "wait":
                self.now += timedelta(seconds=self.dice.randint(0, 3600))
            case "crash":
                self.state = stored(self.state)
        self.check()

    def person(self, what, *args) -> bool:
        try:
            if what is rotation.begin:
                state, new, now, rehearsal = args
                self.state = rotation.begin(state, new, now, rehearsal=rehearsal)
                self.unused.pop(0)
            else:
                self.state = what(*args)
        except RotationError:
            return False
        return True

    def comes_back(self, proxy: Proxy) -> None:
        """One that nobody believes any more asks with its token, as at its birth."""
        proxy.connected = True
        if proxy.signer not in {SIGNERS[root] for root in self.state.bundle}:
            proxy.trust, proxy.signer = self.state.bundle, self.state.current.signer

    def look(self) -> None:
        found = Facts(tuple(proxy.fact for proxy in self.proxies), (), (), DAY)
        before = self.state
        after = rotation.step(self.state, found, self.now).state
        if after is None:
            return
        if before.since and self.now >= before.since + DAY:
            for proxy in self.proxies:
                proxy.given_up = proxy.given_up or not proxy.connected
        # The write may be the last thing that this controller did.
        self.state = stored(after) if self.dice.random() < 0.3 else after

    def check(self) -> None:
        answered = [proxy for proxy in self.proxies if not proxy.given_up]
        for one in answered:
            believed = {SIGNERS[root] for root in one.trust}
            assert self.state.current.signer in believed, f"{one.name} cannot meet a newcomer"
            for other in answered:
                assert other.signer in believed, f"{one.name} does not believe {other.name}"

    def calm(self) -> None:
        """From now on everyone follows: it must come to an end."""
        for _ in range(12):
            for proxy in self.proxies:
                self.comes_back(proxy)
                proxy.trust, proxy.signer = self.state.bundle, self.state.current.signer
            self.look()
        assert self.state.phase is Phase.STABLE
        assert {proxy.trust for proxy in self.proxies} <= {self.state.bundle}


RARE = ("lose", "return", "born", "die", "begin", "abort", "skip", "wait", "crash")


@pytest.mark.parametrize("seed", range(256))
def test_everyone_always_believes_everyone_whatever_happens(seed):
    world = World(random.Random(seed))
    for _ in range(120):
        world.act()
    world.calm()


def test_the_model_notices_a_phase_that_does_not_wait(monkeypatch):
    """The proof that the property can fail: without waiting it does."""
    monkeypatch.setattr(rotation, "_believe", lambda *_: ())

    def play() -> None:
        for seed in range(64):
            test_everyone_always_believes_everyone_whatever_happens(seed)

    with pytest.raises(AssertionError, match=r"cannot meet|does not believe"):
        play()


def test_every_state_is_read_as_it_was_written(stable):
    trusting = rotation.begin(replace(stable, extra=_POOL[5].roots), _POOL[1], NOW)
    issuing = rotation.step(trusting, facts(settled(trusting)), NOW + DAY).state
    for state in (stable, trusting, rotation.skip(issuing, ["a/b"]), rotation.abort(issuing, NOW)):
        assert stored(state) == state


def test_a_request_is_read_as_it_was_written():
    meta = {"name": "fsm-ca-bundle", "namespace": "fsm-system"}
    for request in (Request("1", "skip", ("a/b",)), Request("2", "rotate", (), "CERT", "KEY")):
        patch = request_patch(request)
        found = {
            "metadata": meta | patch["metadata"],
            "data": {key: value for key, value in patch["data"].items() if value},
        }
        assert read_request(found) == request
    broken = {"metadata": meta | {"annotations": {"flomesh.io/certs-request": "{"}}}
    with pytest.raises(CaError, match="Secret fsm-system/fsm-ca-bundle is malformed"):
        read_request(broken)


def test_a_rotation_that_does_not_parse_is_refused_with_a_way_out(stable):
    secret = {"metadata": {"name": "s", "namespace": "n"}}
    data = patch_of(stable, secret)["data"]
    data = {key: value for key, value in data.items() if value} | {"rotation.json": "e30="}
    with pytest.raises(CaError, match=r"malformed[^$]*hint: remove the key"):
        read_state(secret | {"data": data})


def test_a_bundle_has_one_name_in_any_order():
    one, two = _POOL[0].roots[0], _POOL[1].roots[0]
    assert trust_id([one, two]) == trust_id([two, one, one]) == trust_id([two + one])
    assert trust_id([one]) != trust_id([two])
    with pytest.raises(CaError, match="not usable PEM"):
        trust_id(["x"])


def test_roots_of_one_name_have_different_signers():
    assert isinstance(_POOL[0], Root)
    assert len({root.signer for root in _POOL}) == len(_POOL)
    assert "PRIVATE" not in repr(_POOL[0])
