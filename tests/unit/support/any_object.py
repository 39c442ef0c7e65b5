"""Objects of our kinds as nobody would write them, and what holds for each of them all the same.

In: a source of choices (hypothesis, atheris). Out: an object: one of the policies' own cases, with
a few places of it replaced, dropped, doubled or added. ``examine`` asserts what every validator
promises: it never raises, it answers faults in order, each with a path and words, and what it lets
pass can be parsed and judged.

Invariant: nothing here knows a particular kind, so that a new one is examined as soon as it has
cases.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import yaml
from world import World

import fsm.policies
from fsm.model.snapshot import Snapshot
from fsm.policies import BY_KIND, Violation, parse, shut, validate, warnings
from fsm.policies.violation import TEXT_CHARS_MAX

Object = dict[str, Any]
Spot = tuple[str | int, ...]


class Choices(Protocol):
    """Where chance comes from."""

    def below(self, limit: int) -> int:
        """Return a number from 0 to below the limit."""
        ...

    def text(self) -> str:
        """Return any text."""
        ...


@cache
def case_objects() -> tuple[Object, ...]:
    """Return the objects of all cases of all policies, right ones and wrong ones."""
    folder = Path(fsm.policies.__file__).parent
    files = sorted(folder.glob("*/cases/*.yaml"))
    return tuple(yaml.safe_load(file.read_text())["object"] for file in files)


def spots(value: Any, path: Spot = ()) -> Iterator[Spot]:
    """Yield where something stands in an object, from the outside in."""
    inner = value.items() if isinstance(value, dict) else ()
    inner = enumerate(value) if isinstance(value, list) else inner
    for key, part in inner:
        yield (*path, key)
        yield from spots(part, (*path, key))


def holder(obj: Any, spot: Spot) -> Any:
    """Return the map or list in which a spot is."""
    for part in spot[:-1]:
        obj = obj[part]
    return obj


WORDS = (
    *("", "*", "**", "/", "..", "0", "-1", "null", "true", "a", "A", "default", "ServiceAccount"),
    *("a" * 300, "é", "\x00", "\n", "\ud800", "\u202e", "a.b", "a..b", "-a", "a-", "a/b", "a:80"),
    *("10.0.0.0/8", "10.0.0.0/33", "10.0.0.1", "::/0", "fe80::1%eth0", "0x0a.1", "1.2.3.4/0.0.0.0"),
    *("(", "[", "(a+)+$", "a{1000000}", "(?P<x>a)", "\\", "[[:alpha:]]", "(?i)x", "x" * 5_000),
    *("1s", "1h30m", "-1s", "1e9h", "9" * 40, "1.5", "0", "1ns", "s", "24h"),
    *("http", "https", "tcp", "udp", "GET", "get", "*.example", "spiffe://a/b", "https://[", "://"),
    *("${jndi:x}", "{{x}}", "%s", "{0}", '"', "'; drop", "<x>"),
)
NUMBERS = (0, 1, -1, 80, 65_535, 65_536, 2**31, 2**63, 2**64, 10**400, 0.5, 1e308, -0.0)
ODD = (None, True, False, [], {}, [[]], [None], {"": None}, {"a": {"b": []}}, float("nan"))


def value(choices: Choices, depth: int = 3) -> Any:
    """Return anything that JSON can say."""
    kind = choices.below(8 if depth else 5)
    if kind == 0:
        return copy.deepcopy(ODD[choices.below(len(ODD))])
    if kind == 1:
        return NUMBERS[choices.below(len(NUMBERS))]
    if kind == 2:
        return choices.text()
    if kind in (3, 4):
        return WORDS[choices.below(len(WORDS))]
    if kind == 5:
        return [value(choices, depth - 1) for _ in range(choices.below(4))]
    if kind == 6:
        names = [WORDS[choices.below(len(WORDS))] for _ in range(choices.below(4))]
        return {name: value(choices, depth - 1) for name in names}
    found = case_objects()[choices.below(len(case_objects()))]
    places = list(spots(found))
    spot = places[choices.below(len(places))]
    return copy.deepcopy(holder(found, spot)[spot[-1]])


def disturbed(choices: Choices) -> Object:
    """Return an object of one of our kinds with up to five places changed."""
    obj = copy.deepcopy(case_objects()[choices.below(len(case_objects()))])
    for _ in range(choices.below(6)):
        places = [spot for spot in spots(obj) if spot != ("kind",)]
        if not places:
            break
        spot = places[choices.below(len(places))]
        inside = holder(obj, spot)
        what = choices.below(4)
        if what == 0:
            del inside[spot[-1]]
        elif what == 1 and isinstance(inside, list):
            inside.append(copy.deepcopy(inside[int(spot[-1])]))
        elif what == 2 and isinstance(inside, dict):
            inside[WORDS[choices.below(len(WORDS))]] = value(choices)
        else:
            inside[spot[-1]] = value(choices)
    return obj


@cache
def some_world() -> Snapshot:
    """Return a small mesh in which every feature is switched on."""
    flags = ("IngressBackend", "AccessControl", "AccessCert", "Egress", "Retry", "Plugin")
    world = World().namespace("shop").namespace("httpbin").namespace("bookstore")
    world.mesh(permissive=False, featureFlags={f"enable{name}Policy": True for name in flags})
    world.workload("shop", "till")
    return world.workload("httpbin", "httpbin").snapshot()


def examine(obj: Object) -> list[Violation]:
    """Assert what holds for every object; returns its faults."""
    before = repr(obj)
    found = validate(obj)
    assert repr(obj) == before, "looking at an object does not change it"
    assert found == validate(obj), "the same object has the same faults"
    assert found == sorted(found)
    for violation in (*found, *warnings(obj)):
        assert violation.message, violation
        for text in (violation.path, violation.message, violation.hint):
            assert len(text) <= TEXT_CHARS_MAX + 3, violation
            assert text.isprintable(), ascii(text)
    for flags in ({}, {"enablePluginPolicy": "yes", "enableAccessCertPolicy": None}):
        assert isinstance(shut(obj, flags), list)
    if found:
        faulty = {violation.path for violation in found}
        assert not faulty & {doubt.path for doubt in warnings(obj)}, "what is wrong is no doubt"
        return found
    model = parse(obj)
    assert model == parse(obj)
    policy = BY_KIND[obj["kind"]]
    if policy.judge is not None:
        snapshot = some_world()
        known = {**snapshot.policies, (policy.kind, model.key): model}
        judgement = policy.judge(_with(snapshot, known), model, World().settings)
        assert all(text.isprintable() for text in (*judgement.messages, judgement.conflict))
    return found


def _with(snapshot: Snapshot, policies: dict[tuple[str, Any], Any]) -> Snapshot:
    from dataclasses import replace

    from fsm.model.snapshot import Memo

    return replace(snapshot, policies=policies, memo=Memo())
