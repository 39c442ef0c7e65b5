"""IPv6 in the box: Pods with two addresses, Services of either family and of both, names."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from box_world import Box, apply, open_box, pod, service, until, web

from fsm.kube import ApiError
from fsm.kube.resources import ENDPOINTSLICES, PODS, SERVICES
from fsm.standalone.box import lifecycle, world
from fsm.standalone.box.settings import StandaloneSettings
from fsm.standalone.node.gateway import may_dial, ruleset

pytestmark = [
    pytest.mark.box,
    pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this kernel has no IPv6"),
]

#: Answers with the address that it saw the client at.
SEEN = """
import http.server, socket
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = self.client_address[0].removeprefix("::ffff:").encode()
        self.send_response(200); self.send_header("Content-Length", str(len(text)))
        self.end_headers(); self.wfile.write(text)
    def log_message(self, *args): pass
class S(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
S(("::", 8080), H).serve_forever()
"""


def both(name: str, **spec: Any) -> dict[str, Any]:
    """Write a Pod that listens on both families on 8080."""
    container = {
        "command": [sys.executable, "-c", SEEN],
        "image": "python",
        "ports": [{"containerPort": 8080, "name": "http"}],
    }
    return web(name, "", container=container, **spec)


async def ready(box: Box, namespace: str, *names: str) -> dict[str, dict[str, Any]]:
    found = {}
    async with box.client() as client:
        for name in names:

            async def check(name: str = name) -> dict[str, Any] | None:
                pod = await client.get(PODS, name, namespace)
                conditions = pod["status"].get("conditions") or []
                up = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
                return pod if up else None

            found[name] = await until(check, f"Pod {name} is ready")
    return found


async def calls(box: Box, namespace: str, script: str) -> str:
    async def check() -> str | None:
        outcome = await box.run(namespace, "client", script)
        return outcome["stdout"] if outcome["exitCode"] == 0 else None

    return str(await until(check, script))


async def test_pods_have_and_see_two_addresses(box: Box, namespace: str) -> None:
    ask = "echo $IPS; cat /etc/hosts; exec sleep 1000"
    field = {"fieldRef": {"fieldPath": "status.podIPs"}}
    container = {"env": [{"name": "IPS", "valueFrom": field}]}
    apply(box, namespace, pod("client", ask, container=container))
    status = (await ready(box, namespace, "client"))["client"]["status"]
    v4, v6 = (entry["ip"] for entry in status["podIPs"])
    assert status["podIP"] == v4
    # The same place in both networks.
    assert v6 == box.settings.pod_ip6(v4)
    assert [entry["ip"] for entry in status["hostIPs"]] == list(box.settings.node_ips)
    log = box.kubectl("logs", "-n", namespace, "client")
    assert log.startswith(f"{v4},{v6}\n")
    assert f"{v6}\tclient" in log


async def test_service_of_either_family_and_of_both(box: Box, namespace: str) -> None:
    labels = {"app": "a"}
    apply(
        box,
        namespace,
        both("a"),
        service("four", labels),
        service("six", labels, ipFamilies=["IPv6"]),
        service("dual", labels, ipFamilyPolicy="PreferDualStack"),
        service("heads", labels, clusterIP="None", ipFamilyPolicy="RequireDualStack"),
        pod("client"),
    )
    pods = await ready(box, namespace, "a", "client")
    v4, v6 = (entry["ip"] for entry in pods["client"]["status"]["podIPs"])
    for name, flag, client in (
        ("four", "-4", v4),
        ("six", "-6", v6),
        ("dual", "-4", v4),
        ("dual", "-6", v6),
    ):
        assert await calls(box, namespace, f"curl -sSf {flag} http://{name}/") == client
    for flag, client in (("-4", v4), ("-6", v6)):
        assert await calls(box, namespace, f"curl -sSf {flag} http://heads:8080/") == client
    target = pods["a"]["status"]["podIPs"][1]["ip"]
    assert await calls(box, namespace, f"curl -sSf 'http://[{target}]:8080/'") == v6
    # A name has no address of the other family.
    lost = await box.run(namespace, "client", "curl -sS -6 -m 3 http://four/")
    assert lost["exitCode"] in (6, 7), lost
    async with box.client() as client_of_api:
        slices = (await client_of_api.list(ENDPOINTSLICES, namespace)).items
    kinds = sorted(
        (piece["metadata"]["labels"]["kubernetes.io/service-name"], piece["addressType"])
        for piece in slices
    )
    assert kinds == [
        ("dual", "IPv4"),
        ("dual", "IPv6"),
        ("four", "IPv4"),
        ("heads", "IPv4"),
        ("heads", "IPv6"),
        ("six", "IPv6"),
    ]


async def test_pod_reaches_itself_over_ipv6_as_the_node(box: Box, namespace: str) -> None:
    apply(box, namespace, both("a"), service("me", {"app": "a"}, ipFamilies=["IPv6"]))
    await ready(box, namespace, "a")

    async def check() -> bool:
        outcome = await box.run(namespace, "a", "curl -sSf -m 2 http://me/")
        return bool(outcome["stdout"] == box.settings.node_ip6)

    await until(check, "the Pod answers itself, as the node")


async def test_node_reaches_ipv6_services_and_refuses_what_is_nobodys(
    box: Box, namespace: str
) -> None:
    apply(
        box, namespace, both("a"), service("six", {"app": "a"}, ipFamilies=["IPv6"]), pod("client")
    )
    await ready(box, namespace, "a", "client")
    await calls(box, namespace, "curl -sSf http://six/")
    address = box.kubectl("get", "-n", namespace, "svc/six", "-o", "jsonpath={.spec.clusterIP}")
    assert box.inside("curl", "-sSf", f"http://[{address}]/") == box.settings.node_ip6
    # Another port of the Service, and an address of the network that nobody has: refused at once.
    for where in (f"[{address}]:81", "[fd00:10:96::fffe]:80"):
        outcome = await box.run(namespace, "client", f"curl -sS -m 5 'http://{where}/'")
        assert outcome["exitCode"] == 7, outcome
    gone = box.settings.pod_ip6("10.244.200.200")
    outcome = await box.run(namespace, "client", f"curl -sS -m 5 'http://[{gone}]:80/'")
    assert outcome["exitCode"] == 7, outcome


async def test_service_gets_and_loses_its_second_family(box: Box, namespace: str) -> None:
    apply(box, namespace, both("a"), service("web", {"app": "a"}), pod("client"))
    await ready(box, namespace, "a", "client")
    for policy, count in (("PreferDualStack", 2), ("SingleStack", 1)):
        patch = json.dumps({"spec": {"ipFamilyPolicy": policy}})
        box.kubectl("patch", "-n", namespace, "svc/web", "-p", patch)
        async with box.client() as client:

            async def slices(count: int = count) -> bool:
                found = (await client.list(ENDPOINTSLICES, namespace)).items
                return len(found) == count

            await until(slices, f"{count} slices")
            spec = (await client.get(SERVICES, "web", namespace))["spec"]
        assert len(spec["clusterIPs"]) == count
    await calls(box, namespace, "curl -sSf -4 http://web/")


#: Listens at IPv6 addresses only, as a program that was told `[::]` and nothing else may.
SIX_ONLY = """
import http.server, socket
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *args): pass
class S(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        super().server_bind()
S(("::", 8080), H).serve_forever()
"""


@pytest.mark.parametrize(
    "probe", [{"httpGet": {"path": "/", "port": 8080}}, {"tcpSocket": {"port": "http"}}]
)
async def test_application_at_ipv6_only_is_probed_there(
    box: Box, namespace: str, probe: dict[str, Any]
) -> None:
    container = {
        "image": "python",
        "command": [sys.executable, "-c", SIX_ONLY],
        "ports": [{"containerPort": 8080, "name": "http"}],
        "readinessProbe": {**probe, "periodSeconds": 1},
    }
    closed = container | {
        "command": ["sleep", "1000"],
        "readinessProbe": {**probe, "periodSeconds": 1},
    }
    apply(box, namespace, pod("six", container=container), pod("none", container=closed))
    await ready(box, namespace, "six")
    conditions = "{.status.conditions[?(@.type=='Ready')].status}"
    said = box.kubectl("get", "-n", namespace, "pod/none", "-o", f"jsonpath={conditions}")
    assert said == "False"


async def test_api_and_dns_answer_at_ipv6_addresses(box: Box, namespace: str) -> None:
    apply(box, namespace, pod("client"))
    await ready(box, namespace, "client")
    addresses = box.kubectl("get", "svc/kubernetes", "-o", "jsonpath={.spec.clusterIPs}")
    assert json.loads(addresses) == list(box.settings.api_ips)
    resolvers = await calls(box, namespace, "grep nameserver /etc/resolv.conf")
    assert resolvers == "".join(f"nameserver {ip}\n" for ip in box.settings.dns_ips)
    # Its name has an AAAA, its certificate that address, and its token is believed there.
    script = (
        "D=/var/run/secrets/kubernetes.io/serviceaccount;"
        " curl -sS -6 -o /dev/null -w '%{remote_ip} %{http_code}' --cacert $D/ca.crt"
        ' -H "Authorization: Bearer $(cat $D/token)"'
    )
    for host in ("kubernetes.default.svc", f"[{box.settings.api_ips[1]}]"):
        said = await calls(box, namespace, f"{script} 'https://{host}/version'")
        assert said == f"{box.settings.api_ips[1]} 200"
    for flag in ("", "+tcp"):
        dig = f"dig {flag} +short AAAA kubernetes.default.svc.cluster.local"
        said = await calls(box, namespace, f"{dig} @{box.settings.dns_ips[1]}")
        assert said.split() == [box.settings.api_ips[1]]


def test_store_of_a_time_without_ipv6_gets_the_second_address() -> None:
    state_dir = Path(tempfile.mkdtemp(prefix="fsm-box-"))
    try:
        before = open_box(state_dir, pod_cidr6="", service_cidr6="")
        text = before.kubectl("get", "svc/kubernetes", "-o", "jsonpath={.spec.clusterIPs}")
        assert json.loads(text) == [before.settings.api_ip]
        asyncio.run(lifecycle.down(before.settings))
        after = open_box(state_dir)
        text = after.kubectl("get", "svc/kubernetes", "-o", "jsonpath={.spec.clusterIPs}")
        assert json.loads(text) == list(after.settings.api_ips)
        asyncio.run(lifecycle.down(after.settings, purge=True))
    finally:
        shutil.rmtree(state_dir, ignore_errors=True)


@pytest.fixture
def small(box: Box) -> Iterator[Box]:
    """A box as it is on a kernel without IPv6."""
    state_dir = Path(tempfile.mkdtemp(prefix="fsm-box-"))
    made = open_box(state_dir, pod_cidr6="", service_cidr6="")
    try:
        yield made
    finally:
        asyncio.run(lifecycle.down(made.settings, purge=True))
        shutil.rmtree(state_dir, ignore_errors=True)


async def test_two_families_are_refused_where_the_box_has_one(small: Box) -> None:
    async with small.client() as client:
        wish = service("web", {"app": "a"}, ipFamilyPolicy="RequireDualStack")
        wish["metadata"]["namespace"] = "default"
        with pytest.raises(ApiError, match="not configured for dual-stack"):
            await client.create(SERVICES, wish)
    apply(small, "default", web("a", "v4"), service("web", {"app": "a"}), pod("client"))
    status = (await ready(small, "default", "a", "client"))["client"]["status"]
    assert len(status["podIPs"]) == 1
    assert await calls(small, "default", "curl -sSf http://web/") == "v4"


def test_kernel_without_ipv6_is_told_and_does_not_keep_the_box_shut(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = StandaloneSettings(tmp_path)
    monkeypatch.setattr(world, "_mounts", lambda: None)
    monkeypatch.setattr(world, "_SYSCTLS", {})
    monkeypatch.setattr(world.syscalls, "set_hostname", lambda name: None)
    monkeypatch.setattr(world, "_ip_batch", lambda lines: None)

    def refuse(command: list[str], feed: str) -> None:
        raise world.WorldError("no such table")

    monkeypatch.setattr(world, "_run", refuse)
    monkeypatch.setattr(world, "_SYSCTLS6", {})
    furnished = world.furnish(settings)
    assert furnished.settings.node_ips == (settings.node_ip,)
    assert "IPv4 addresses only: no such table" in furnished.notes[0]


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("2001:4860::1", True),
        ("::1", False),
        ("fe80::1", False),
        ("ff02::1", False),
        ("::", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.216.34", False),
        ("fd00:ec2::254", False),
        ("64:ff9b::169.254.169.254", False),
        ("64:ff9b::93.184.216.34", True),
    ],
)
def test_ipv6_addresses_of_the_host_are_not_dialled(address: str, allowed: bool) -> None:
    assert may_dial(address) is allowed


def test_way_out_over_ipv6_is_opened_only_where_there_is_one(tmp_path: Path) -> None:
    settings = StandaloneSettings(tmp_path)
    assert f"dnat to [{settings.node_ip6}]:" in ruleset(settings, ipv6=True)
    shut = ruleset(settings)
    assert "delete table ip6" in shut
    assert "ip6 daddr" not in shut
    assert "ip6" not in ruleset(dataclasses.replace(settings, pod_cidr6="", service_cidr6=""))
