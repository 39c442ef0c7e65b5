"""The bookstore as an early article on Open Service Mesh walks through it, command by command.

The command is `osm`, the policies are the article's own, what is looked at is what it looks at:
the pages of the applications, through port-forwards. The tests run in their order.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from meshworld import article
from meshworld.shell import BIN, ROOT, Shell, documents, traffic
from meshworld.waiting import until

pytestmark = pytest.mark.box

MANIFESTS = ROOT / "examples" / "bookstore" / "manifests"
NAMESPACES = ("bookstore", "bookbuyer", "bookthief", "bookwarehouse")

Counts = Callable[[], dict[str, int]]


@pytest.fixture(scope="module")
def osm(shell: Shell) -> Shell:
    """A terminal with a box and nothing in it, where the command is called `osm`."""
    shell.fsm("up", "--port", "0", "--no-mesh")
    shell.program = (str(BIN / "osm"),)
    return shell


@pytest.fixture(scope="module")
def forwards() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def pages(osm: Shell, forwards: ExitStack) -> Callable[[str, str], Counts]:
    """Opens the page of an application, once, and reads its counters."""
    ports: dict[str, int] = {}

    def page(namespace: str, app: str) -> Counts:
        if app not in ports:
            osm.ready(namespace, app)
            opened = osm.forwarded(namespace, f"deployment/{app}", 14001)
            ports[app] = forwards.enter_context(opened)

        def counts() -> dict[str, int]:
            url = f"http://127.0.0.1:{ports[app]}/counters"
            with urllib.request.urlopen(url, timeout=5) as answer:
                found: dict[str, int] = json.load(answer)["counters"]
            return found

        return counts

    return page


def folder(name: str, without: str = "") -> list[str]:
    """The manifests of a folder, with shoppers in a hurry."""
    files = sorted(f for f in (MANIFESTS / name).glob("*.yaml") if f.name != without)
    return [f.read_text().replace('value: "1000"', 'value: "20"') for f in files]


def grow(counts: Counts, name: str, by: int = 20) -> dict[str, int]:
    """Wait until a counter has grown; returns by how much each of them grew."""
    before = counts()

    def grown() -> dict[str, int]:
        now = counts()
        return now if now.get(name, 0) >= before.get(name, 0) + by else {}

    after = until(grown, f"{name} grows by {by}")
    return {key: after[key] - before.get(key, 0) for key in after}


def in_effect(shell: Shell, kind: str, name: str, namespace: str = "bookstore") -> None:
    """Wait until the status of an object says that this version of it is in effect."""

    def look() -> bool:
        found = shell.get(kind, name, namespace)
        conditions = {c["type"]: c for c in found.get("status", {}).get("conditions", [])}
        generation = found["metadata"]["generation"]
        return all(
            conditions[t]["status"] == s and conditions[t]["observedGeneration"] == generation
            for t, s in (("Accepted", "True"), ("Programmed", "True"), ("Conflicted", "False"))
        )

    until(look, f"{kind}/{name} is accepted and programmed, and in no conflict")


def test_osm_is_installed_and_namespaces_are_added(osm: Shell) -> None:
    osm.fsm("install")
    for name in NAMESPACES:
        osm.kubectl("create", "ns", name)
    for name in NAMESPACES:
        done = osm.fsm("namespace", "add", name)
        assert f"Namespace [{name}] successfully added to mesh" in done.stdout
    listed = osm.fsm("namespace", "list").stdout
    assert all(name in listed for name in NAMESPACES)
    # In the article's day there was no permissive mode.
    traffic(osm, enablePermissiveTrafficPolicyMode=False)


def test_applications_run_and_nothing_is_allowed(
    osm: Shell, pages: Callable[[str, str], Counts]
) -> None:
    apps = [*folder("apps", without="traffic-split.yaml"), article.SPLIT_V1]
    osm.kubectl("create", "-f", "-", given=documents(*apps))
    for who, taken in (("bookbuyer", "books_bought"), ("bookthief", "books_stolen")):
        counts = pages(who, who)
        grow(counts, "requests", 10)
        assert counts()[taken] == 0
        assert counts()["succeeded"] == 0
    assert pages("bookstore", "bookstore-v1")()["books_sold"] == 0


def test_access_policy_lets_the_buyer_buy_and_not_the_thief(
    osm: Shell, pages: Callable[[str, str], Counts]
) -> None:
    policies = documents(article.TARGET_WITHOUT_THIEF, article.ROUTES)
    osm.kubectl("create", "-f", "-", given=policies)
    in_effect(osm, "traffictarget", "bookstore-v1")
    in_effect(osm, "httproutegroup", "bookstore-service-routes")
    bought = grow(pages("bookbuyer", "bookbuyer"), "books_bought")
    assert bought["failed"] <= 2, "all requests work but those from before the policy"
    grow(pages("bookstore", "bookstore-v1"), "books_sold")
    grow(pages("bookthief", "bookthief"), "failed")
    assert pages("bookthief", "bookthief")()["books_stolen"] == 0


def test_policy_with_the_thief_lets_him_steal(
    osm: Shell, pages: Callable[[str, str], Counts]
) -> None:
    osm.apply(article.TARGET_WITH_THIEF)
    in_effect(osm, "traffictarget", "bookstore-v1")
    grow(pages("bookthief", "bookthief"), "books_stolen")
    sources = osm.get("traffictarget", "bookstore-v1", "bookstore")["spec"]["sources"]
    assert [source["name"] for source in sources] == ["bookbuyer", "bookthief"]


def test_second_version_sells_nothing_before_the_split_says_so(
    osm: Shell, pages: Callable[[str, str], Counts]
) -> None:
    osm.apply(*folder("bookstore-v2"))
    second = pages("bookstore", "bookstore-v2")
    grow(pages("bookbuyer", "bookbuyer"), "books_bought.bookstore-v1")
    assert second()["books_sold"] == 0
    table = osm.kubectl("get", "trafficsplit", "bookstore-split", "-n", "bookstore").stdout
    header, row = table.splitlines()
    assert header.startswith("NAME")
    assert row.startswith("bookstore-split")
    assert "bookstore.bookstore" in row
    in_effect(osm, "trafficsplit", "bookstore-split")


def test_split_sends_everything_to_the_second_version(
    osm: Shell, pages: Callable[[str, str], Counts]
) -> None:
    osm.apply(article.SPLIT_V2)
    in_effect(osm, "trafficsplit", "bookstore-split")
    buyer = pages("bookbuyer", "bookbuyer")
    grow(buyer, "books_bought.bookstore-v2", 5)
    moved = grow(buyer, "books_bought.bookstore-v2")
    assert moved["books_bought.bookstore-v1"] == 0
    assert moved["failed"] == 0


def test_edit_splits_the_traffic_evenly(osm: Shell, pages: Callable[[str, str], Counts]) -> None:
    osm.extra["KUBE_EDITOR"] = "sed -i -E 's/weight: [0-9]+/weight: 50/'"
    osm.kubectl("edit", "trafficsplit", "bookstore-split", "-n", "bookstore")
    backends = osm.get("trafficsplit", "bookstore-split", "bookstore")["spec"]["backends"]
    assert [backend["weight"] for backend in backends] == [50, 50]
    in_effect(osm, "trafficsplit", "bookstore-split")
    buyer = pages("bookbuyer", "bookbuyer")
    grow(buyer, "books_bought.bookstore-v1", 5)
    both = grow(buyer, "books_bought", 100)
    first, second = (both[f"books_bought.bookstore-v{n}"] for n in (1, 2))
    # One after the other: exact, but for where the window begins and ends.
    assert abs(first - second) <= 4, both
    assert both["failed"] == 0


def test_patch_in_each_served_version_is_the_same_object(osm: Shell) -> None:
    for version in ("v1alpha2", "v1alpha3", "v1alpha4"):
        found = json.loads(
            osm.kubectl(
                *("get", f"trafficsplits.{version}.split.smi-spec.io", "bookstore-split"),
                *("-n", "bookstore", "-o", "json"),
            ).stdout
        )
        assert found["apiVersion"] == f"split.smi-spec.io/{version}"
        assert [b["weight"] for b in found["spec"]["backends"]] == [50, 50]
    change = [{"op": "replace", "path": "/spec/backends/0/weight", "value": 0}]
    where = ("trafficsplit", "bookstore-split", "-n", "bookstore")
    osm.kubectl("patch", *where, "--type", "json", "-p", json.dumps(change))
    in_effect(osm, "trafficsplit", "bookstore-split")
