"""Permissive mode on and off, egress on and off, clients outside the mesh, and raw TCP.

What users see of it is curl's exit code: 0 with 200; 7, nothing listens; 52, an empty reply; 56,
the connection was reset.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from meshworld import actors
from meshworld.shell import Shell, namespace, traffic
from meshworld.waiting import until

pytestmark = pytest.mark.box

SHOP, LAB, OUTSIDE = "shop", "lab", "outside"
URL = f"http://web.{SHOP}/"

NETCAT = """
import socket, sys
with socket.create_connection((sys.argv[1], 9000), timeout=5) as wire:
    wire.sendall(b"hello")
    sys.stdout.write(wire.recv(100).decode() or "(end)")
"""


@pytest.fixture(scope="module")
def town(mesh: Shell) -> Shell:
    """A web server and an echo server in the mesh; one client in it, one outside."""
    mesh.apply(namespace(SHOP), namespace(LAB), namespace(OUTSIDE))
    mesh.fsm("namespace", "add", SHOP, LAB)
    mesh.apply(
        *actors.server("web", SHOP),
        *actors.echo("echo", SHOP),
        *actors.client("client", LAB),
        *actors.client("client", OUTSIDE),
    )
    for where, app in ((SHOP, "web"), (SHOP, "echo"), (LAB, "client"), (OUTSIDE, "client")):
        mesh.ready(where, app)
    return mesh


def expect(shell: Shell, where: str, url: str, wanted: tuple[int, str]) -> None:
    pod = shell.ready(where, "client")
    seen: list[tuple[int, str]] = []

    def look() -> bool:
        seen[:] = [shell.curl(where, pod, url)]
        return seen[0] == wanted

    try:
        until(look, f"curl {url} in {where} ends with {wanted}", 15)
    except AssertionError as error:
        raise AssertionError(f"{error}; it was {seen}") from None


def test_sidecars_are_where_the_namespaces_are_in_the_mesh(town: Shell) -> None:
    (inside,), (outside,) = town.pods(LAB, "client"), town.pods(OUTSIDE, "client")
    names = [c["name"] for c in inside["spec"].get("initContainers", [])]
    assert "sidecar" in names
    assert not outside["spec"].get("initContainers")
    listed = town.fsm("proxy", "list").stdout
    assert inside["metadata"]["name"] in listed
    assert outside["metadata"]["name"] not in listed


def test_permissive_mode_lets_everybody_of_the_mesh_in(town: Shell) -> None:
    traffic(town, enablePermissiveTrafficPolicyMode=True, enableEgress=True)
    expect(town, LAB, URL, (0, "200"))
    ip = town.pods(SHOP, "web")[0]["status"]["podIP"]
    expect(town, OUTSIDE, f"http://{ip}:8080/", (56, "000"))
    expect(town, OUTSIDE, URL, (56, "000"))


def test_without_it_nobody_is_let_in_and_egress_decides_how_that_looks(town: Shell) -> None:
    traffic(town, enablePermissiveTrafficPolicyMode=False, enableEgress=True)
    expect(town, LAB, URL, (52, "000"))
    traffic(town, enablePermissiveTrafficPolicyMode=False, enableEgress=False)
    expect(town, LAB, URL, (7, "000"))
    expect(town, OUTSIDE, URL, (56, "000"))
    traffic(town, enablePermissiveTrafficPolicyMode=True, enableEgress=False)
    expect(town, LAB, URL, (0, "200"))


def test_egress_decides_about_what_is_outside_the_mesh(town: Shell) -> None:
    with served_outside(town) as url:
        traffic(town, enablePermissiveTrafficPolicyMode=False, enableEgress=False)
        expect(town, LAB, url, (7, "000"))
        traffic(town, enablePermissiveTrafficPolicyMode=False, enableEgress=True)
        expect(town, LAB, url, (0, "200"))


def test_tcp_flows_only_with_a_policy_for_its_port(town: Shell) -> None:
    traffic(town, enablePermissiveTrafficPolicyMode=False, enableEgress=False)
    client = town.ready(LAB, "client")

    def says() -> str:
        outcome = town.exec(LAB, client, sys.executable, "-c", NETCAT, f"echo.{SHOP}")
        return str(outcome["stdout"]) or str(outcome["stderr"]).strip().splitlines()[-1]

    until(lambda: "refused" in says(), "without a policy nothing listens")
    town.apply(
        {
            "apiVersion": "specs.smi-spec.io/v1alpha4",
            "kind": "TCPRoute",
            "metadata": {"name": "echo", "namespace": SHOP},
            "spec": {"matches": {"ports": [9000]}},
        },
        actors.target(
            "echo", SHOP, "echo", [{"kind": "TCPRoute", "name": "echo"}], (LAB, "client")
        ),
    )
    until(lambda: says() == "echo hello", "with the policy the echo comes back")
    # The policy is for the echo server. The outbound side listens now, and ends what is not its.
    expect(town, LAB, URL, (52, "000"))
    ip = town.pods(SHOP, "echo")[0]["status"]["podIP"]
    outside = town.ready(OUTSIDE, "client")
    outcome = town.exec(OUTSIDE, outside, sys.executable, "-c", NETCAT, ip)
    assert "echo" not in outcome["stdout"], outcome
    other = town.ready(SHOP, "web")
    outcome = town.exec(SHOP, other, sys.executable, "-c", NETCAT, f"echo.{SHOP}")
    assert "echo hello" not in outcome["stdout"], outcome
    town.kubectl("delete", "traffictarget/echo", "tcproute/echo", "-n", SHOP)
    until(lambda: "refused" in says(), "without the policy it is closed again")


@contextmanager
def served_outside(shell: Shell) -> Iterator[str]:
    """Yield the URL of a web server that is no part of the mesh."""
    shell.apply(*actors.server("site", OUTSIDE))
    shell.ready(OUTSIDE, "site")
    ip = shell.pods(OUTSIDE, "site")[0]["status"]["podIP"]
    assert socket.inet_aton(ip)
    yield f"http://{ip}:8080/"
    shell.kubectl("delete", "deployment/site", "service/site", "-n", OUTSIDE, "--wait=false")
