"""Clients outside of the mesh: refused, let in by IngressBackend and AccessControl, refused again.

What users see of it is curl's exit code: 0 with 200; 56, the connection was reset.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

import pytest
from meshworld import actors
from meshworld.shell import Shell, namespace, traffic
from meshworld.waiting import until

pytestmark = pytest.mark.box

SHOP, LAB, OUTSIDE = "shop", "lab", "outside"
URL = f"http://web.{SHOP}/"
CLOSED, OPEN = (56, "000"), (0, "200")
PLAIN = {"name": "web", "port": {"number": 8080, "protocol": "http"}}
SERVICE = {"kind": "Service", "namespace": OUTSIDE, "name": "client"}

NETCAT = """
import socket, sys
with socket.create_connection((sys.argv[1], 9000), timeout=5) as wire:
    wire.sendall(b"hello")
    sys.stdout.write(wire.recv(100).decode() or "(end)")
"""


def policy(kind: str, *sources: dict[str, str], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "policy.flomesh.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": "door", "namespace": SHOP},
        "spec": {"sources": list(sources), **spec},
    }


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
        actors.service("client", OUTSIDE, {"port": 80}),
    )
    for where, app in ((SHOP, "web"), (SHOP, "echo"), (LAB, "client"), (OUTSIDE, "client")):
        mesh.ready(where, app)
    traffic(mesh, enablePermissiveTrafficPolicyMode=True)
    return mesh


def expect(shell: Shell, where: str, wanted: tuple[int, str], url: str = URL, *how: str) -> None:
    pod = shell.ready(where, "client")
    seen: list[tuple[int, str]] = []

    def look() -> bool:
        seen[:] = [shell.curl(where, pod, url, *how)]
        return seen[0] == wanted

    try:
        until(look, f"curl {url} in {where} ends with {wanted}", 15)
    except AssertionError as error:
        raise AssertionError(f"{error}; it was {seen}") from None


def reason(shell: Shell, kind: str) -> str:
    status = shell.get(kind, "door", SHOP).get("status") or {}
    return f"{status.get('currentStatus')}: {status.get('reason')}"


def test_an_ingress_backend_lets_the_endpoints_of_a_service_in_and_out_again(town: Shell) -> None:
    expect(town, OUTSIDE, CLOSED)
    town.apply(policy("IngressBackend", SERVICE, backends=[PLAIN]))
    expect(town, OUTSIDE, OPEN)
    expect(town, OUTSIDE, OPEN, URL, "-H", "Host: shop.example")
    expect(town, LAB, OPEN)
    until(
        lambda: reason(town, "ingressbackend").startswith("Programmed"),
        "it is said to be in effect",
    )
    town.kubectl("delete", "ingressbackend/door", "-n", SHOP)
    expect(town, OUTSIDE, CLOSED)
    expect(town, LAB, OPEN)


def test_members_whose_addresses_a_range_covers_are_members_still(town: Shell) -> None:
    everywhere = {"kind": "IPRange", "name": "0.0.0.0/0"}
    town.apply(policy("IngressBackend", everywhere, backends=[PLAIN]))
    expect(town, OUTSIDE, OPEN)
    expect(town, LAB, OPEN)
    traffic(town, enablePermissiveTrafficPolicyMode=False)
    # Its sidecar knows no Service now, so it comes in plain text, which its address allows.
    expect(town, LAB, OPEN)
    traffic(town, enablePermissiveTrafficPolicyMode=False, enableEgress=False)
    expect(town, LAB, (7, "000"))
    expect(town, OUTSIDE, OPEN)
    traffic(town, enablePermissiveTrafficPolicyMode=True, enableEgress=True)
    town.kubectl("delete", "ingressbackend/door", "-n", SHOP)


def test_tls_without_certificates_and_with_those_that_a_stranger_lacks(town: Shell) -> None:
    url = f"https://web.{SHOP}:80/"
    for skip in (True, False):
        backend = PLAIN | {"tls": {"skipClientCertValidation": skip}}
        town.apply(policy("IngressBackend", SERVICE, backends=[backend]))
        pod = town.ready(OUTSIDE, "client")

        def ends(skip: bool = skip, pod: str = pod) -> bool:
            code, status = town.curl(OUTSIDE, pod, url, "-k")
            return (code, status) == OPEN if skip else code != 0

        until(ends, f"curl over TLS, skipClientCertValidation {skip}, ends well: {skip}")
    town.kubectl("delete", "ingressbackend/door", "-n", SHOP)


def test_access_control_without_backends_opens_tcp_too(town: Shell) -> None:
    client = town.ready(OUTSIDE, "client")

    def says() -> str:
        outcome = town.exec(OUTSIDE, client, sys.executable, "-c", NETCAT, f"echo.{SHOP}")
        return str(outcome["stdout"])

    assert "echo" not in says()
    address = town.ip(OUTSIDE, "client")
    town.apply(policy("AccessControl", {"kind": "IPRange", "name": f"{address}/32"}))
    until(lambda: says() == "echo hello", "the echo comes back")
    expect(town, OUTSIDE, OPEN)
    town.kubectl(
        "patch",
        "meshconfig/fsm-mesh-config",
        "-n",
        "fsm-system",
        "--type=merge",
        "-p",
        '{"spec":{"featureFlags":{"enableAccessControlPolicy":false}}}',
    )
    expect(town, OUTSIDE, CLOSED)
    until(lambda: "NotEnabled" in reason(town, "accesscontrol"), "its status says why")


def test_a_document_of_the_older_generation_applies_as_it_is(town: Shell) -> None:
    older = policy("IngressBackend", SERVICE, backends=[PLAIN])
    older["apiVersion"] = "policy.openservicemesh.io/v1alpha1"
    resource = "ingressbackends.policy.openservicemesh.io"
    town.apply(older)
    expect(town, OUTSIDE, OPEN)
    until(lambda: reason(town, resource).startswith("Programmed"), "its status is written")
    faulty = {**older, "spec": {**older["spec"], "sources": [{"kind": "Pod", "name": "x"}]}}
    assert "'Pod' is not one of" in town.apply(faulty, fails=True).stderr
    town.kubectl("delete", f"{resource}/door", "-n", SHOP)
    expect(town, OUTSIDE, CLOSED)


def test_a_faulty_policy_is_refused_with_all_its_faults(town: Shell) -> None:
    wrong = policy("IngressBackend", {"kind": "IPRange", "name": "10.0.0.1"}, backends=[PLAIN])
    told = town.apply(wrong, fails=True)
    assert "'10.0.0.1' is not a range of addresses" in told.stderr


def test_what_an_ingress_may_ask_for_is_bounded_by_route_groups(town: Shell) -> None:
    reads = {"name": "reads", "pathRegex": "/reads", "methods": ["GET"]}
    group = {
        "apiVersion": "specs.smi-spec.io/v1alpha4",
        "kind": "HTTPRouteGroup",
        "metadata": {"name": "door", "namespace": SHOP},
        "spec": {"matches": [reads]},
    }
    bounds = [{"apiGroup": "specs.smi-spec.io/v1alpha4", "kind": "HTTPRouteGroup", "name": "door"}]
    town.apply(group, policy("IngressBackend", SERVICE, backends=[PLAIN], matches=bounds))
    expect(town, OUTSIDE, OPEN, f"{URL}reads")
    expect(town, OUTSIDE, (0, "403"), URL)
    expect(town, OUTSIDE, (0, "403"), f"{URL}reads", "-X", "DELETE")
    expect(town, LAB, OPEN)
    pod = f"{OUTSIDE}/{town.ready(OUTSIDE, 'client')}"
    answer = json.loads(town.fsm("explain", pod, f"{URL}reads", "-o", "json").stdout)[0]
    assert (answer["decision"], answer["allowed_by"]) == (
        "allowed",
        f"IngressBackend/{SHOP}/door",
    )
    town.kubectl("delete", "ingressbackend/door", "httproutegroup/door", "-n", SHOP)
    expect(town, OUTSIDE, CLOSED, f"{URL}reads")


SIDECAR = f"web.{SHOP}.cluster.local"
"""What the sidecar's certificate is called by: its ServiceAccount."""
MTLS = (
    *("--cert", "/certs/tls.crt", "--key", "/certs/tls.key", "--cacert", "/certs/ca.crt"),
    *("--connect-to", f"{SIDECAR}:80:web.{SHOP}:80"),
)


def guest() -> list[dict[str, Any]]:
    """A client outside of the mesh that has the Secret of an AccessCert mounted."""
    account, made = actors.client("guest", OUTSIDE)
    pod = made["spec"]["template"]["spec"]
    pod["containers"][0]["volumeMounts"] = [{"name": "certs", "mountPath": "/certs"}]
    pod["volumes"] = [{"name": "certs", "secret": {"secretName": "guest-mtls"}}]
    return [account, made]


def test_a_client_with_the_certificate_of_an_access_cert_is_let_in_by_its_name(
    town: Shell,
) -> None:
    flags = {"enableAccessControlPolicy": True, "enableAccessCertPolicy": True}
    patch = json.dumps({"spec": {"featureFlags": flags}})
    name = ("meshconfig/fsm-mesh-config", "-n", "fsm-system", "--type=merge", "-p", patch)
    town.kubectl("patch", *name)
    cert = policy("AccessCert")
    cert["spec"] = {
        "subjectAltNames": ["guest.example"],
        "secret": {"name": "guest-mtls", "namespace": OUTSIDE},
    }

    def taken() -> bool:
        # The webhook has the flag a moment after the API.
        with contextlib.suppress(AssertionError):
            town.apply(cert)
            return True
        return False

    until(taken, "the AccessCert is taken")
    until(lambda: "is good until" in reason(town, "accesscert"), "the certificate is there")
    assert town.get("secret", "guest-mtls", OUTSIDE)["type"] == "kubernetes.io/tls"
    town.apply(*guest())
    pod = town.ready(OUTSIDE, "guest")
    url = f"https://{SIDECAR}:80/"
    # The certificate alone opens nothing, in permissive mode neither.
    assert town.curl(OUTSIDE, pod, url, *MTLS) == (0, "403")
    tls = PLAIN | {"tls": {"skipClientCertValidation": False}}
    principal = {"kind": "AuthenticatedPrincipal", "name": "guest.example"}
    town.apply(policy("AccessControl", principal, backends=[tls]))
    until(lambda: town.curl(OUTSIDE, pod, url, *MTLS) == OPEN, "it is let in")
    assert town.curl(OUTSIDE, pod, f"https://web.{SHOP}:80/", "-k")[0] != 0, "not without it"
    expect(town, LAB, OPEN)
    town.apply(policy("AccessControl", principal | {"name": "other.example"}, backends=[tls]))
    until(lambda: town.curl(OUTSIDE, pod, url, *MTLS) == (0, "403"), "another name is meant")
    town.kubectl("delete", "accesscontrol/door", "accesscert/door", "-n", SHOP)
    gone = ("get", "secret", "-n", OUTSIDE, "-o", "name")
    until(lambda: "guest-mtls" not in town.kubectl(*gone).stdout, "the Secret goes with it")
