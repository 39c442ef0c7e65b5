"""IPv6 in the mesh: both families through the mTLS pair, and what is denied stays denied."""

from __future__ import annotations

from typing import Any

import pytest
from meshworld import actors, talkers
from meshworld.shell import Shell, namespace, traffic
from meshworld.waiting import until

pytestmark = pytest.mark.box

SHOP, OUTSIDE = "shop", "outside"
PORT = {"name": "http", "port": 80, "targetPort": 8080}


@pytest.fixture(scope="module")
def town(mesh: Shell) -> Shell:
    """Servers of each family, and clients inside and outside of the mesh; egress is closed."""
    mesh.apply(namespace(SHOP), namespace(OUTSIDE))
    mesh.fsm("namespace", "add", SHOP)
    mesh.apply(*talkers.web("six", SHOP, "6"), *talkers.web("four", SHOP, "4"))
    mesh.apply(
        talkers.service("six", SHOP, PORT, ipFamilies=["IPv6"]),
        talkers.service("dual", SHOP, PORT, app="four", ipFamilyPolicy="RequireDualStack"),
        talkers.service("dual6", SHOP, PORT, app="six", ipFamilyPolicy="RequireDualStack"),
        *talkers.web("away", OUTSIDE, "6"),
        talkers.service("away", OUTSIDE, PORT, ipFamilies=["IPv6"]),
    )
    for where, name in ((SHOP, "client"), (SHOP, "thief"), (OUTSIDE, "client")):
        mesh.apply(*actors.client(name, where))
    for name in ("six", "four", "client", "thief"):
        mesh.ready(SHOP, name)
    for name in ("away", "client"):
        mesh.ready(OUTSIDE, name)
    traffic(mesh, enableEgress=False, enablePermissiveTrafficPolicyMode=True)
    return mesh


def fetch(shell: Shell, where: str, who: str, url: str, *options: str) -> dict[str, Any]:
    words = ("curl", "-sS", "-f", "-m", "5", *options, url)
    found: dict[str, Any] = shell.exec(where, shell.ready(where, who), *words)
    return found


def served(shell: Shell, who: str, url: str, *options: str) -> str:
    def text() -> str:
        outcome = fetch(shell, SHOP, who, url, *options)
        assert outcome["exitCode"] == 0, outcome
        return str(outcome["stdout"])

    return until(text, f"{url} {options} to be served")


def ip6(shell: Shell, where: str, app: str) -> str:
    (pod,) = shell.pods(where, app)
    return str(pod["status"]["podIPs"][1]["ip"])


def handshakes(shell: Shell, app: str) -> int:
    page = shell.inside("curl", "-s", f"http://{shell.ip(SHOP, app)}:15010/stats/prometheus")
    (line,) = [
        text for text in page.splitlines() if text.startswith("sidecar_tls_handshakes_total ")
    ]
    return int(line.split()[1])


def test_an_application_that_listens_on_ipv6_alone_is_reached_through_the_pair(
    town: Shell,
) -> None:
    # It sees its Pod's own address, so that loopback stays a sign of who is in the Pod.
    assert served(town, "client", "http://six/", "-6") == ip6(town, SHOP, "six")
    assert handshakes(town, "six") >= 1


def test_a_service_of_both_families_is_reached_over_both(town: Shell) -> None:
    assert served(town, "client", "http://dual/", "-4") == "127.0.0.6"
    # The application listens on IPv4 alone: a client that came over IPv6 reaches it there.
    assert served(town, "client", "http://dual/", "-6") == "127.0.0.6"
    assert served(town, "client", "http://dual6/", "-6") == ip6(town, SHOP, "six")


def test_metrics_and_readiness_of_a_sidecar_answer_over_ipv6(town: Shell) -> None:
    for page in ("ready", "stats/prometheus"):
        assert town.inside("curl", "-fsS", f"http://[{ip6(town, SHOP, 'six')}]:15010/{page}")


def test_strangers_are_refused_over_ipv6_too(town: Shell) -> None:
    for url in (f"http://six.{SHOP}/", f"http://[{ip6(town, SHOP, 'six')}]:8080/"):
        outcome = fetch(town, OUTSIDE, "client", url, "-6")
        assert outcome["exitCode"] in (52, 56), outcome
    # The administration is nobody's but the Pod's own.
    outcome = fetch(town, OUTSIDE, "client", f"http://[{ip6(town, SHOP, 'six')}]:15000/stats")
    assert outcome["exitCode"] in (7, 52, 56), outcome


def test_strangers_are_let_in_by_their_ipv6_network(town: Shell) -> None:
    control = {
        "apiVersion": "policy.flomesh.io/v1alpha1",
        "kind": "AccessControl",
        "metadata": {"name": "six", "namespace": SHOP},
        "spec": {
            "backends": [{"name": "six", "port": {"number": 8080, "protocol": "http"}}],
            "sources": [{"kind": "IPRange", "name": f"{ip6(town, OUTSIDE, 'client')}/128"}],
        },
    }
    flag = '{"spec":{"featureFlags":{"enableAccessControlPolicy":true}}}'
    where = ("meshconfig", "fsm-mesh-config", "-n", "fsm-system")
    town.kubectl("patch", *where, "--type", "merge", "-p", flag)
    until(lambda: town.apply(control), "the policy to be taken")

    def let_in() -> bool:
        outcome = fetch(town, OUTSIDE, "client", f"http://six.{SHOP}/", "-6")
        return bool(outcome["exitCode"] == 0)

    until(let_in, "the stranger to be let in")
    town.kubectl("delete", "accesscontrol", "six", "-n", SHOP)
    until(lambda: not let_in(), "the stranger to be refused again")


def test_egress_over_ipv6_follows_the_switch_and_exclusions(town: Shell) -> None:
    url = f"http://away.{OUTSIDE}/"

    def reached() -> bool:
        return bool(fetch(town, SHOP, "client", url, "-6")["exitCode"] == 0)

    until(lambda: not reached(), "egress to be closed")
    traffic(town, enableEgress=True)
    until(reached, "egress to be open")
    traffic(town, enableEgress=False)
    until(lambda: not reached(), "egress to be closed again")
    address = town.get("service", "away", OUTSIDE)["spec"]["clusterIP"]
    traffic(town, outboundIPRangeExclusionList=[f"{address}/128"])
    until(reached, "the excluded address to be reached")
    traffic(town, outboundIPRangeExclusionList=[])
    until(lambda: not reached(), "it to be refused again")


def test_targets_hold_over_ipv6(town: Shell) -> None:
    rules = [{"kind": "HTTPRouteGroup", "name": "web", "matches": ["all"]}]
    town.apply(
        actors.routes("web", SHOP, all="/.*"),
        actors.target("six", SHOP, "six", rules, (SHOP, "client")),
    )
    traffic(town, enablePermissiveTrafficPolicyMode=False)
    assert served(town, "client", "http://six/", "-6")

    def denied() -> bool:
        outcome = fetch(town, SHOP, "thief", "http://six/", "-6")
        # Refused by the kernel: there is nothing that it may reach, so nobody listens for it.
        return outcome["exitCode"] in (7, 22, 52, 56)

    until(denied, "the thief to be denied")
    assert fetch(town, SHOP, "client", "http://dual/", "-6")["exitCode"] != 0
