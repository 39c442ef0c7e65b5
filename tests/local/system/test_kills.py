"""Everything that runs is killed, twice, while four callers call without a pause.

What must hold throughout: a request that policy forbids is never answered, not even while parts are
missing; one that it allows is answered again within a bound, and, where only those who decide were
killed and not those who carry bytes, is answered all the time. Nothing is left over, and
`fsm status` tells what is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from meshworld import actors, victims
from meshworld.ledger import Ledger
from meshworld.shell import Shell, namespace, traffic
from meshworld.waiting import until

pytestmark = pytest.mark.box

SHOP, LAB, OUTSIDE = "shop", "lab", "outside"
MESHED = [(SHOP, "web"), (SHOP, "other"), (LAB, "buyer"), (LAB, "thief")]

BACK_AT_ONCE_S = 15.0
"""Bound for what is started again at once: a process, a certificate, a configuration."""
BACK_LATER_S = 30.0
"""Bound for what ended twice: Kubernetes waits 10 s before the second restart of a container."""


@pytest.fixture(scope="module")
def town(mesh: Shell) -> Shell:
    """Two servers; a buyer who may, a thief who may not, a stranger without a sidecar."""
    traffic(mesh, enablePermissiveTrafficPolicyMode=False)
    mesh.apply(*map(namespace, (SHOP, LAB, OUTSIDE)))
    mesh.fsm("namespace", "add", SHOP, LAB)
    rules = [{"kind": "HTTPRouteGroup", "name": "sales", "matches": ["buy"]}]
    mesh.apply(
        actors.routes("sales", SHOP, buy="/buy"),
        actors.target("web", SHOP, "web", rules, (LAB, "buyer")),
        actors.target("other", SHOP, "other", rules, (LAB, "buyer")),
        *actors.server("web", SHOP),
        *actors.server("other", SHOP),
    )
    mesh.ready(SHOP, "web")
    ip = mesh.ip(SHOP, "web")
    names = {"web": f"http://web.{SHOP}/buy", "other": f"http://other.{SHOP}/buy"}
    mesh.apply(
        *actors.caller("buyer", LAB, {**names, "secret": f"http://web.{SHOP}/secret"}),
        *actors.caller("thief", LAB, {**names, "direct": f"http://{ip}:8080/buy"}),
        *actors.caller("stranger", OUTSIDE, {**names, "direct": f"http://{ip}:8080/buy"}),
    )
    mesh.ready(SHOP, "other")
    return mesh


@pytest.fixture(scope="module")
def buyer(town: Shell) -> Ledger:
    found = Ledger.of(town, LAB, "buyer")
    found.flows("web", 0.0)
    found.flows("other", 0.0)
    return found


@pytest.fixture(scope="module")
def forbidden(town: Shell, buyer: Ledger) -> list[tuple[Ledger, list[str]]]:
    """Who asks for what he may not have."""
    return [
        (buyer, ["secret"]),
        (Ledger.of(town, LAB, "thief"), ["web", "other", "direct"]),
        (Ledger.of(town, OUTSIDE, "stranger"), ["web", "other", "direct"]),
    ]


@pytest.fixture(autouse=True)
def forbidden_stays_forbidden(forbidden: list[tuple[Ledger, list[str]]]) -> Iterator[None]:
    """Around each test: whoever may not, never could, and did try."""
    began = time.time()
    yield
    settled = time.time()
    for ledger, names in forbidden:
        for name in names:
            # Enough of them after the dust has settled, and not one that was let through.
            ledger.many(name, settled, 3)
            let_through = [call for call in ledger.since(name, began) if call.ok]
            assert not let_through, f"{ledger.log}: {name}: {let_through[:3]}"


def truthful(shell: Shell) -> None:
    """Wait until `fsm status` finds everything well, every sidecar among it."""

    def look() -> bool:
        told = shell.status()
        known = {(p["namespace"], p["pod"].rsplit("-", 2)[0]) for p in told["proxies"]}
        return not told["problems"] and known == set(MESHED)

    try:
        until(look, "`fsm status` finds everything well", 20)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{json.dumps(shell.status(), indent=1)}") from None


def nothing_left_over(shell: Shell) -> None:
    """One link, one namespace per Pod; one proxy per sidecar; not a thing besides."""

    def look() -> bool:
        pods = victims.agent_view(shell)
        links = {line.split("@")[0].split()[0] for line in _lines(shell, "ip", "-br", "link")}
        spaces = {line.split()[0] for line in _lines(shell, "ip", "netns", "list")}
        proxies = _lines(shell, "pgrep", "-x", "pipy")
        return (
            links - {"lo"} == {p["link"] for p in pods}
            and spaces == {p["netns"].rsplit("/", 1)[-1] for p in pods}
            and len(proxies) == len(MESHED)
        )

    until(look, "nothing is left over")


def _lines(shell: Shell, *argv: str) -> list[str]:
    return [line for line in shell.inside(*argv).splitlines() if line.strip()]


@pytest.mark.parametrize("name", ["node", "apiserver", "kube-controllers"])
def test_traffic_flows_on_while_a_part_of_the_box_is_killed_twice(
    town: Shell, buyer: Ledger, name: str
) -> None:
    moment = time.time()
    for _ in range(2):
        victims.kill_child(town, name)
    until(lambda: "web" in town.kubectl("get", "pods", "-n", SHOP).stdout, "the API answers")
    truthful(town)
    buyer.many("web", time.time(), 10)
    assert set(buyer.summary("web", moment)) == {"200"}
    assert set(buyer.summary("other", moment)) == {"200"}
    (pod,) = town.pods(SHOP, "web")
    assert [c["restartCount"] for c in pod["status"]["containerStatuses"]] == [0]
    nothing_left_over(town)


@pytest.mark.parametrize(
    ("where", "app", "container"),
    [(SHOP, "web", "sidecar"), (LAB, "buyer", "sidecar"), (SHOP, "other", "main")],
)
def test_traffic_flows_again_at_once_after_the_first_kill(
    town: Shell, buyer: Ledger, where: str, app: str, container: str
) -> None:
    pid = victims.application(town, where, app, container)
    moment = time.time()
    victims.kill(town, pid)
    for name in ("web", "other"):
        buyer.flows(name, moment, limit_s=BACK_AT_ONCE_S)
    untouched = {"web": "other", "other": "web"}.get(app)
    if untouched:
        assert set(buyer.summary(untouched, moment)) == {"200"}
    truthful(town)
    nothing_left_over(town)


def test_control_plane_is_killed_and_nobody_who_calls_notices(town: Shell, buyer: Ledger) -> None:
    moment = time.time()
    victims.kill(town, _controller(town, victims.application))
    until(lambda: _controller_restarts(town) == 1, "it is started again")
    truthful(town)
    buyer.many("web", time.time(), 10)
    assert set(buyer.summary("web", moment)) == {"200"}
    assert set(buyer.summary("other", moment)) == {"200"}


def test_what_is_killed_again_waits_its_time_and_comes_back(town: Shell, buyer: Ledger) -> None:
    """The second time all at once, and the whole containers: control plane, sidecars, application.

    The sidecars come back to a control plane that is away, as they do. The thief's own sidecar is
    among them: without it he gets no further than with it.
    """
    doomed = [
        _controller(town, victims.container),
        victims.container(town, SHOP, "web", "sidecar"),
        victims.container(town, LAB, "buyer", "sidecar"),
        victims.container(town, LAB, "thief", "sidecar"),
        victims.container(town, SHOP, "other", "main"),
    ]
    restarted = (("web", "sidecar"), ("other", "main"))
    before = {pair: _restarts(town, *pair) for pair in restarted}
    moment = time.time()
    victims.kill(town, *doomed)
    # While it is away, this is what the status says.
    until(lambda: "not ready" in str(town.status()["problems"]), "the status tells the truth")
    for name in ("web", "other"):
        buyer.flows(name, moment, limit_s=BACK_LATER_S)
    truthful(town)
    nothing_left_over(town)
    for (app, container), count in before.items():
        assert _restarts(town, app, container) == count + 1


def test_without_a_control_plane_traffic_flows_and_new_pods_wait(
    town: Shell, buyer: Ledger
) -> None:
    moment = time.time()
    deployment = ("deployment/fsm-controller", "-n", "fsm-system")
    town.kubectl("scale", *deployment, "--replicas=0")
    until(lambda: not town.pods("fsm-system", "fsm-controller"), "the control plane is away")
    try:
        town.apply(*actors.client("late", LAB))

        def says_why() -> bool:
            told = town.kubectl("get", "rs", "-n", LAB, "-l", "app=late", "-o", "json").stdout
            (replicas,) = json.loads(told)["items"]
            reasons = {c["type"]: c["message"] for c in replicas["status"].get("conditions", [])}
            return "webhook" in reasons.get("ReplicaFailure", "")

        until(says_why, "the ReplicaSet says that the webhook does not answer")
        assert not town.pods(LAB, "late")
        refused = town.apply(actors.routes("more", SHOP, all=".*"), fails=True)
        assert "webhook" in refused.stderr
        buyer.many("web", time.time(), 10)
    finally:
        town.kubectl("scale", *deployment, "--replicas=1")
    town.ready(LAB, "late")
    assert set(buyer.summary("web", moment)) == {"200"}
    town.kubectl("delete", "deployment/late", "-n", LAB)
    until(lambda: not town.pods(LAB, "late"), "it is gone")
    truthful(town)
    nothing_left_over(town)


def _controller(shell: Shell, which: object) -> int:
    (pod,) = shell.pods("fsm-system", "fsm-controller")
    name = pod["spec"]["containers"][0]["name"]
    return int(which(shell, "fsm-system", "fsm-controller", name))  # type: ignore[operator]


def _controller_restarts(shell: Shell) -> int:
    (pod,) = shell.pods("fsm-system", "fsm-controller")
    (state,) = pod["status"]["containerStatuses"]
    return int(state["restartCount"]) if state["ready"] else -1


def _restarts(shell: Shell, app: str, container: str) -> int:
    (pod,) = shell.pods(SHOP, app)
    kinds = ("initContainerStatuses", "containerStatuses")
    states = {c["name"]: c for kind in kinds for c in pod["status"].get(kind, [])}
    return int(states[container]["restartCount"])
