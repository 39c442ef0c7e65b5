"""What happens to nonsense: it is named in words, all of it at once, and everybody else goes on.

While all of this is thrown at the API, a buyer buys without a pause; at the end not one request of
his failed, and not one sidecar refused what it got.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from meshworld import actors
from meshworld.actors import Object
from meshworld.ledger import Ledger
from meshworld.shell import Shell, namespace, traffic
from meshworld.waiting import until

pytestmark = pytest.mark.box

SHOP, LAB = "shop", "lab"
SPLIT = "split.smi-spec.io/v1alpha4"


@pytest.fixture(scope="module")
def town(mesh: Shell) -> Shell:
    traffic(mesh, enablePermissiveTrafficPolicyMode=False)
    mesh.apply(*map(namespace, (SHOP, LAB)))
    mesh.fsm("namespace", "add", SHOP, LAB)
    rules = [{"kind": "HTTPRouteGroup", "name": "sales", "matches": ["buy"]}]
    mesh.apply(
        actors.routes("sales", SHOP, buy="/buy"),
        actors.target("web", SHOP, "web", rules, (LAB, "buyer")),
        *actors.server("web", SHOP),
        *actors.caller("buyer", LAB, {"web": f"http://web.{SHOP}/buy"}),
        *actors.caller("thief", LAB, {"web": f"http://web.{SHOP}/buy"}),
    )
    mesh.ready(LAB, "thief")
    return mesh


@pytest.fixture(scope="module")
def ledgers(town: Shell) -> tuple[Ledger, Ledger]:
    """What the buyer and the thief note."""
    buyer, thief = (Ledger.of(town, LAB, name) for name in ("buyer", "thief"))
    buyer.flows("web", 0.0)
    return buyer, thief


@pytest.fixture(autouse=True)
def everybody_else_goes_on(ledgers: tuple[Ledger, Ledger]) -> Iterator[None]:
    buyer, thief = ledgers
    began = time.time()
    yield
    buyer.many("web", time.time(), 3)
    assert set(buyer.summary("web", began)) == {"200"}
    assert "200" not in thief.summary("web", began)


@pytest.fixture(autouse=True, scope="module")
def no_sidecar_refuses_what_it_gets(town: Shell) -> Iterator[None]:
    yield
    assert not [p for p in town.status()["problems"] if p.startswith("the proxy")]


def condition(shell: Shell, kind: str, name: str, type_: str) -> str:
    """Status and message of a condition, as in `False: ...`, once it speaks of the object as is."""

    def look() -> str:
        found = shell.get(kind, name, SHOP)
        for c in found.get("status", {}).get("conditions", []):
            if c["type"] == type_ and c["observedGeneration"] == found["metadata"]["generation"]:
                return f"{c['status']}: {c['message']}"
        return ""

    return until(look, f"{kind}/{name} has condition {type_}")


def split(name: str, *backends: tuple[str, int]) -> Object:
    return {
        "apiVersion": SPLIT,
        "kind": "TrafficSplit",
        "metadata": {"name": name, "namespace": SHOP},
        "spec": {
            "service": "web",
            "backends": [{"service": s, "weight": w} for s, w in backends],
        },
    }


def test_all_faults_of_a_manifest_are_named_at_once(town: Shell) -> None:
    broken = actors.target("broken", SHOP, "web", [], (LAB, "buyer"))
    broken["spec"]["destination"]["kind"] = "Pod"
    broken["spec"]["sources"].append({"kind": "ServiceAccount", "name": ""})
    broken["spec"]["rules"] = [{"kind": "HTTPRouteGroup"}]
    told = town.apply(broken, fails=True).stderr
    assert "TrafficTarget" in told or "traffictarget" in told
    for path in ("destination.kind", "sources[1]", "rules[0].name"):
        assert path in told, told
    town.kubectl("get", "traffictarget", "broken", "-n", SHOP, fails=True)


def test_all_patterns_that_cannot_be_are_named_at_once(town: Shell) -> None:
    told = town.apply(actors.routes("bad", SHOP, one="/(", two="[z-a]"), fails=True).stderr
    assert "matches[0].pathRegex" in told, told
    assert "matches[1].pathRegex" in told, told


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("/buy(", "unterminated|never closed|missing|unbalanced"),
        ("(?=/buy).*", "look-ahead|look-around|lookahead"),
        (r"/(a)\1", "back-reference|backreference"),
        ("(?:a{1000}){1000}", "large|long|size|big"),
        ("x" * 5000, "long|1024|1,024"),
    ],
    ids=["does-not-compile", "look-ahead", "back-reference", "explodes", "too-long"],
)
def test_a_regex_that_no_sidecar_can_carry_out_is_refused_with_the_reason(
    town: Shell, pattern: str, words: str
) -> None:
    told = town.apply(actors.routes("bad", SHOP, bad=pattern), fails=True).stderr
    assert "pathRegex" in told, told
    assert any(word in told.lower() for word in words.split("|")), told
    town.kubectl("get", "httproutegroup", "bad", "-n", SHOP, fails=True)


def test_a_target_that_names_a_missing_route_group_says_so_and_opens_nothing(town: Shell) -> None:
    rules = [{"kind": "HTTPRouteGroup", "name": "nosuch", "matches": ["all"]}]
    town.apply(actors.target("loose", SHOP, "web", rules, (LAB, "thief")))
    told = condition(town, "traffictarget", "loose", "Programmed")
    assert told.startswith("False"), told
    assert "nosuch" in told
    table = town.fsm("status").stdout
    assert "nosuch" in table
    # As soon as it is there, the policy means something.
    town.apply(actors.routes("nosuch", SHOP, all="/nothing-that-is-asked-for"))
    until(
        lambda: condition(town, "traffictarget", "loose", "Programmed").startswith("True"),
        "it is in effect",
    )
    town.kubectl("delete", "traffictarget/loose", "httproutegroup/nosuch", "-n", SHOP)


def test_a_split_to_a_missing_service_says_so(town: Shell) -> None:
    town.apply(split("halves", ("web", 100), ("ghost", 0)))
    told = condition(town, "trafficsplit", "halves", "Programmed")
    assert "ghost" in told, told
    town.kubectl("delete", "trafficsplit/halves", "-n", SHOP)


def test_two_splits_of_one_service_are_a_conflict_that_is_told(town: Shell) -> None:
    town.apply(split("older", ("web", 100)))
    assert condition(town, "trafficsplit", "older", "Conflicted").startswith("False")
    town.apply(split("younger", ("web", 1)))
    told = condition(town, "trafficsplit", "younger", "Conflicted")
    assert told.startswith("True"), told
    assert "older" in told
    town.kubectl("delete", "trafficsplit/older", "trafficsplit/younger", "-n", SHOP)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"spec": {"service": "web", "backends": []}}, "backends"),
        ({"spec": {"service": "web", "backends": [{"service": "web", "weight": -1}]}}, "weight"),
        ({"spec": {"service": "web", "backends": "all"}}, "backends"),
        (
            {"spec": {"service": "a/../b", "backends": [{"service": "web", "weight": 1}]}},
            "spec.service",
        ),
        ({"spec": None}, "spec"),
        ({"metadata": {"name": "../etc", "namespace": SHOP}}, "name"),
        ({"metadata": {"name": "ümlaut\x1b[31m", "namespace": SHOP}}, "name"),
        ({"metadata": {"name": "n" * 400, "namespace": SHOP}}, "name"),
        ({"apiVersion": "split.smi-spec.io/v9"}, "v9"),
        ({"kind": "TrafficSplitt"}, "TrafficSplitt"),
    ],
)
def test_a_split_with_one_fault_is_refused_by_its_name(
    town: Shell, change: Object, words: str
) -> None:
    told = town.apply({**split("odd", ("web", 1)), **change}, fails=True).stderr
    assert words in told, told
    # What was sent is quoted, and does nothing to the terminal.
    assert "\x1b" not in told


def test_an_unknown_field_is_refused_or_named(town: Shell) -> None:
    odd = split("odd", ("web", 1))
    odd["spec"]["wieght"] = 3
    done = town.apply(odd, fails=True)
    assert "wieght" in done.stderr


def test_a_huge_object_is_refused_and_a_merely_big_one_is_not(town: Shell) -> None:
    huge = actors.routes("huge", SHOP, **{f"m{n}": "/" + "x" * 900 for n in range(6000)})
    told = town.kubectl("create", "-f", "-", given=json.dumps(huge), fails=True).stderr
    assert "large" in told.lower() or "too many" in told.lower(), told[:500]
    told = town.apply(
        actors.routes("big", SHOP, **{f"m{n}": f"/x{n}" for n in range(300)}), fails=True
    ).stderr
    assert "300" in told
    assert "256" in told
    assert len(told) < 1000, "the message does not recite the object"
    town.apply(actors.routes("fits", SHOP, **{f"m{n}": f"/x{n}" for n in range(256)}))
    assert condition(town, "httproutegroup", "fits", "Accepted").startswith("True")
    town.kubectl("delete", "httproutegroup/fits", "-n", SHOP)


def test_text_that_is_no_manifest_is_refused(town: Shell) -> None:
    for text in ("{", "kind: [", "- a\n- b\n", "\x00"):
        assert town.kubectl("apply", "-f", "-", given=text, fails=True).stderr


def test_a_pod_that_cannot_run_says_why_and_waits(town: Shell) -> None:
    town.apply(*actors.deployment("odd", LAB, {"image": "registry.example/no/such:1"}))

    def waits() -> str:
        (pod,) = town.pods(LAB, "odd")
        (main,) = pod["status"]["containerStatuses"]
        return str(main["state"].get("waiting", {}).get("message", ""))

    assert "no command is known for image" in until(waits, "it says why it waits")
    town.kubectl("delete", "deployment/odd", "-n", LAB)
