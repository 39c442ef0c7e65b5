"""UDP in the mesh: routed, divided, kept from those who may not, counted; names go on resolving."""

from __future__ import annotations

import concurrent.futures
import json
import sys
from typing import Any

import pytest
from meshworld import actors, beyond, talkers
from meshworld.shell import Shell, namespace, traffic
from meshworld.waiting import until

pytestmark = pytest.mark.box

GAMES, OUTSIDE = "games", "outside"
PORT = {"name": "lobby", "port": 7100, "targetPort": 7000, "protocol": "UDP"}
#: Backends of a split are reached by the port of the same number.
FAMILIES = {"ipFamilyPolicy": "PreferDualStack"}


@pytest.fixture(scope="module")
def town(mesh: Shell) -> Shell:
    """Two versions of a server and two clients in the mesh, a client outside; egress is closed."""
    mesh.apply(namespace(GAMES), namespace(OUTSIDE))
    mesh.fsm("namespace", "add", GAMES)
    for version in ("lobby-v1", "lobby-v2"):
        mesh.apply(*talkers.datagrams(version, GAMES))
        mesh.apply(talkers.service(version, GAMES, PORT))
    mesh.apply(*talkers.datagrams("six", GAMES, "6"))
    mesh.apply(talkers.service("six", GAMES, PORT, ipFamilies=["IPv6"]))
    mesh.apply(talkers.service("lobby", GAMES, PORT, app="lobby-v1", **FAMILIES))
    for where, name in ((GAMES, "player"), (GAMES, "cheat"), (OUTSIDE, "player")):
        mesh.apply(*actors.client(name, where))
    for name in ("lobby-v1", "lobby-v2", "six", "player", "cheat"):
        mesh.ready(GAMES, name)
    mesh.ready(OUTSIDE, "player")
    traffic(mesh, enableEgress=False, enablePermissiveTrafficPolicyMode=True)
    return mesh


def ask(
    shell: Shell,
    where: str,
    who: str,
    host: str,
    *,
    port: int = 7100,
    family: str = "4",
    count: int = 1,
    text: str = "hello",
) -> list[Any]:
    """Send datagrams from a Pod; what came back, and whether it came from who was asked."""
    pod = shell.ready(where, who)
    words = (sys.executable, "-c", talkers.ASK, host, str(port), family, str(count), text)
    outcome = shell.exec(where, pod, *words)
    assert outcome["exitCode"] == 0, outcome
    found: list[Any] = json.loads(outcome["stdout"])
    return found


def answered(shell: Shell, who: str, host: str, server: str, **how: Any) -> bool:
    ((text, same),) = ask(shell, GAMES, who, host, **how) or [[None, None]]
    return bool(text.startswith(server) and same)


def stats(shell: Shell, app: str) -> dict[str, int]:
    pod = shell.ready(GAMES, app)
    page = shell.inside("curl", "-s", f"http://{shell.ip(GAMES, app)}:15010/stats/prometheus")
    assert page, pod
    found = {}
    for line in page.splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            found[name] = int(float(value))
    return found


def only_player(shell: Shell) -> None:
    rules = [{"kind": "UDPRoute", "name": "lobby"}]
    shell.apply(
        talkers.udp_route("lobby", GAMES, 7000),
        actors.target("lobby-v1", GAMES, "lobby-v1", rules, (GAMES, "player")),
        actors.target("lobby-v2", GAMES, "lobby-v2", rules, (GAMES, "player")),
        actors.target("six", GAMES, "six", rules, (GAMES, "player")),
    )
    traffic(shell, enablePermissiveTrafficPolicyMode=False)


def test_a_service_answers_from_its_own_address(town: Shell) -> None:
    until(lambda: answered(town, "player", "lobby", "lobby-v1"), "an answer")
    # Through the sidecars, and not past them.
    assert stats(town, "player")['sidecar_udp_datagrams_sent_total{listener="outbound-udp"}'] > 0
    assert stats(town, "lobby-v1")['sidecar_udp_datagrams_sent_total{listener="inbound-udp"}'] > 0
    # An application that is the only one listening there says nothing of who is between.
    log = town.kubectl("logs", "-n", GAMES, "deployment/lobby-v1", "-c", "main").stdout
    assert "datagram 5" in log


@pytest.mark.parametrize("size", [1, 1400, 8000])
def test_datagrams_keep_their_bounds(town: Shell, size: int) -> None:
    def whole() -> bool:
        ((text, same),) = ask(town, GAMES, "player", "lobby", text="x" * size)
        return bool(same and text.endswith(":" + "x" * size))

    until(whole, f"{size} bytes to come back whole")


def test_a_long_answer_comes_in_fragments_and_is_put_together(town: Shell) -> None:
    sent = "9" + "z" * 2000

    def whole() -> bool:
        ((text, same),) = ask(town, GAMES, "player", "lobby", text=sent)
        return bool(same and text.endswith(":" + sent * 9))

    until(whole, "an answer of 18,000 bytes")


@pytest.mark.parametrize("host", ["lobby", "six"])
def test_datagrams_go_over_ipv6(town: Shell, host: str) -> None:
    server = {"lobby": "lobby-v1", "six": "six"}[host]
    until(lambda: answered(town, "player", host, server, family="6"), "an answer over IPv6")


def test_names_resolve_and_the_world_outside_follows_egress(town: Shell) -> None:
    pod = town.ready(GAMES, "player")
    for words in (("getent", "hosts", "lobby"), ("dig", "+short", "+search", "AAAA", "lobby")):
        outcome = town.exec(GAMES, pod, *words)
        assert outcome["exitCode"] == 0, outcome
        assert outcome["stdout"].strip(), words
    # A server of nobody's Service: a port of a Pod that no Service names.
    town.apply(*talkers.datagrams("stray", OUTSIDE))
    town.ready(OUTSIDE, "stray")
    host = town.ip(OUTSIDE, "stray")
    assert ask(town, GAMES, "player", host, port=7000) == [None]
    traffic(town, enableEgress=True)
    until(
        lambda: ask(town, GAMES, "player", host, port=7000)[0][0].startswith("stray"),
        "an answer from outside",
    )
    traffic(town, enableEgress=False)
    until(lambda: ask(town, GAMES, "player", host, port=7000) == [None], "egress to be closed")


def test_datagrams_leave_the_box_when_egress_is_open(town: Shell) -> None:
    with beyond.datagrams() as (host, port):
        # Who has no sidecar has the way out, as with TCP.
        until(
            lambda: ask(town, OUTSIDE, "player", host, port=port) == [["beyond:hello", True]],
            "an answer from beyond",
        )
        assert ask(town, GAMES, "player", host, port=port) == [None]
        traffic(town, enableEgress=True)
        until(
            lambda: ask(town, GAMES, "player", host, port=port) == [["beyond:hello", True]],
            "an answer through the sidecar",
        )
        traffic(town, enableEgress=False)
        until(lambda: ask(town, GAMES, "player", host, port=port) == [None], "egress to be closed")


def test_a_split_divides_sessions(town: Shell) -> None:
    split = {
        "apiVersion": "split.smi-spec.io/v1alpha4",
        "kind": "TrafficSplit",
        "metadata": {"name": "lobby", "namespace": GAMES},
        "spec": {
            "service": "lobby",
            "backends": [
                {"service": "lobby-v1", "weight": 50},
                {"service": "lobby-v2", "weight": 50},
            ],
        },
    }
    town.apply(split)

    def divided() -> bool:
        found = [text.split("-")[1] for text, _ in ask(town, GAMES, "player", "lobby", count=10)]
        return (found.count("v1"), found.count("v2")) == (5, 5)

    until(divided, "five of ten for each version")
    town.kubectl("delete", "trafficsplit", "lobby", "-n", GAMES)
    until(
        lambda: all(
            text.startswith("lobby-v1") for text, _ in ask(town, GAMES, "player", "lobby", count=4)
        ),
        "all of them for one",
    )


def test_who_is_not_allowed_gets_nothing(town: Shell) -> None:
    only_player(town)
    until(lambda: answered(town, "player", "lobby", "lobby-v1"), "the player to be answered")
    until(lambda: answered(town, "player", "six", "six", family="6"), "also over IPv6")
    assert ask(town, GAMES, "cheat", "lobby") == [None]
    assert ask(town, GAMES, "cheat", "six", family="6") == [None]
    # Nor from outside, where no sidecar keeps a client from asking: the server's own does.
    for family, host in (("4", "lobby-v1"), ("6", "six")):
        assert ask(town, OUTSIDE, "player", f"{host}.{GAMES}", family=family) == [None]
    counted = stats(town, "lobby-v1")
    assert counted['sidecar_udp_datagrams_dropped_total{reason="address_not_allowed"}'] >= 1
    assert counted['sidecar_denied_total{reason="address_not_allowed"}'] >= 1
    assert stats(town, "cheat")['sidecar_udp_datagrams_dropped_total{reason="egress_closed"}'] >= 1
    route = town.get("udproute", "lobby", GAMES)["status"]
    assert route["currentStatus"] == "Programmed", route
    log = town.kubectl("logs", "-n", GAMES, "deployment/lobby-v1", "-c", "sidecar").stdout
    denied = [
        json.loads(line) for line in log.splitlines() if '"udp"' in line and '"denied"' in line
    ]
    assert denied, log[-2000:]
    assert "allows" in denied[0]["reason"]


KEEPS_ASKING = r"""
import socket, sys, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(1)
where = (socket.gethostbyname("lobby"), 7100)
seen = False
deadline = time.monotonic() + 18
while time.monotonic() < deadline:
    sock.sendto(b"x", where)
    try:
        sock.recvfrom(100)
    except OSError:
        if seen:
            sys.exit("cut off")
        continue
    if not seen:
        seen = True
        open("/tmp/answered", "w").close()
    time.sleep(0.05)
"""


def test_a_session_of_before_ends_with_the_permission(town: Shell) -> None:
    only_player(town)
    pod = town.ready(GAMES, "player")
    until(lambda: answered(town, "player", "lobby", "lobby-v1"), "the player to be answered")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        asking = pool.submit(town.exec, GAMES, pod, sys.executable, "-c", KEEPS_ASKING)
        until(
            lambda: town.exec(GAMES, pod, "test", "-e", "/tmp/answered")["exitCode"] == 0,
            "the session to have an answer",
        )
        town.kubectl("delete", "traffictarget", "lobby-v1", "-n", GAMES)
        outcome = asking.result(timeout=25)
    assert "cut off" in outcome["stderr"], outcome
