"""Egress: what it makes of the way out of the mesh."""

from typing import Any

import pytest
from oracle import Request, Verdict, decide_outbound
from world import World, port

from fsm.compile import Change, IncrementalCompiler, assess, check, compile_proxy
from fsm.compile.contract import (
    ClientCertificate,
    ClusterKind,
    Originate,
    OutboundMatch,
    ProxyConfig,
)
from fsm.model import Key

API = "policy.flomesh.io/v1alpha1"
CURL = {"kind": "ServiceAccount", "name": "curl", "namespace": "curl"}
OUTSIDE = "203.0.113.7"


def world(*, permissive: bool = False, on: bool = True, egress: bool = False) -> World:
    found = World().namespace("curl").namespace("shop").namespace("outside", monitored=False)
    found.mesh(permissive=permissive, egress=egress, featureFlags={"enableEgressPolicy": on})
    found.workload("curl", "curl", port(9))
    return found.workload("shop", "till", port(80))


def allow(
    found: World,
    name: str,
    number: int,
    protocol: str,
    *hosts: str,
    sources: list[dict[str, Any]] | None = None,
    **more: Any,
) -> World:
    spec = {
        "sources": sources or [CURL],
        "ports": [{"number": number, "protocol": protocol}],
        "hosts": list(hosts),
        **more,
    }
    return found.policy("Egress", API, "curl", name, spec)


def compiled(found: World, namespace: str = "curl", name: str = "curl") -> ProxyConfig:
    config = found.compile(namespace, name)
    assert check(config) == []
    # What is put together from pieces is the same, to the byte.
    incremental = IncrementalCompiler(found.settings)
    incremental.begin(found.objects(), trust_roots=found.roots)
    (pod,) = (p for p in found.snapshot().pods.values() if p.key == Key(namespace, name))
    text = incremental.compile(pod.uid)
    assert text is not None
    assert text.to_json() == config.to_json()
    return config


def outside(config: ProxyConfig) -> list[OutboundMatch]:
    found = config.outbound.matches if config.outbound else ()
    return [match for match in found if match.origin.startswith("Egress/")]


def ask(config: ProxyConfig, host: str, path: str = "/", ip: str = OUTSIDE) -> Verdict:
    return decide_outbound(config, ip, 80, Request(host, path))


def told(found: World, name: str) -> tuple[str, str]:
    (status,) = [s for s in assess(found.snapshot()) if (s.kind, s.name) == ("Egress", name)]
    return status.current_status, status.reason


@pytest.mark.parametrize("permissive", [False, True])
def test_requests_go_to_the_hosts_that_are_named(permissive: bool) -> None:
    found = allow(world(permissive=permissive), "httpbin-80", 80, "http", "httpbin.org")
    config = compiled(found)
    (match,) = outside(config)
    assert (match.port, match.protocol, match.destinations) == (80, "http", ())
    assert match.hosts[0].names == ("httpbin.org", "httpbin.org:80")
    assert ask(config, "httpbin.org").shares == {"httpbin.org:80": 1}
    assert ask(config, "elsewhere.org").word == "403"
    cluster = config.clusters["httpbin.org:80"]
    assert cluster.kind is ClusterKind.ORIGINAL_DESTINATION
    assert (cluster.endpoints, cluster.origin) == ((), "Egress/curl/httpbin-80")
    assert told(found, "httpbin-80") == ("Programmed", "in effect")
    assert outside(compiled(found, "shop", "till")) == [], "it is for its sources"


def test_without_a_policy_or_the_flag_the_listener_is_closed() -> None:
    assert compiled(world()).outbound is None
    off = allow(world(on=False), "httpbin", 80, "http", "httpbin.org")
    assert compiled(off).outbound is None
    assert told(off, "httpbin")[0] == "NotEnabled"


def test_services_of_the_mesh_come_first() -> None:
    found = allow(world(permissive=True), "all", 80, "tcp", ipAddresses=["10.96.0.0/12"])
    config = compiled(found)
    own = found.cluster_ip("shop", "till")
    assert ask(config, "till.shop", ip=own).shares == {"shop/till|80": 1}
    assert ask(config, "x", ip="10.96.200.1").shares == {"Egress/curl/all|80": 1}
    assert [m.origin for m in config.outbound.matches][-1] == "Egress/curl/all"


def test_tls_is_known_by_its_server_name() -> None:
    found = allow(world(), "web", 443, "https", "httpbin.org", "*.example.org")
    (match,) = outside(compiled(found))
    assert match.protocol == "tls"
    assert [rule.names for rule in match.tls] == [("httpbin.org",), ("*.example.org",)]
    assert match.tcp is None


def test_what_has_no_name_that_is_named_may_be_open_as_bytes() -> None:
    found = allow(world(), "a-web", 443, "https", "httpbin.org")
    (match,) = outside(compiled(allow(found, "b-rest", 443, "tcp")))
    assert match.protocol == "tls"
    assert match.tcp is not None
    assert (match.tcp.origin, match.tcp.service) == ("Egress/curl/b-rest", "curl/b-rest")
    (bytes_only,) = outside(compiled(allow(world(), "rest", 443, "https")))
    assert (bytes_only.protocol, bytes_only.tls) == ("tcp", ())


def test_server_first_is_not_waited_for() -> None:
    (match,) = outside(compiled(allow(world(), "db", 3306, "tcp-server-first")))
    assert match.protocol == "tcp-server-first"


def test_matches_bound_the_requests_and_add_up() -> None:
    found = world().group("curl", "reads", {"name": "get", "pathRegex": "/get"})
    matches = [{"apiGroup": "specs.smi-spec.io/v1alpha4", "kind": "HTTPRouteGroup"}]
    reads = [{**matches[0], "name": "reads"}]
    found = allow(found, "a", 80, "http", "httpbin.org", matches=reads)
    config = compiled(found)
    assert ask(config, "httpbin.org", "/get").word == "go"
    assert ask(config, "httpbin.org", "/status/200").word == "403"
    (status,) = [s for s in assess(found.snapshot()) if s.name == "reads"]
    assert status.current_status == "Programmed", "a group that a policy names is used"
    found = found.group("curl", "states", {"name": "status", "pathRegex": "/status.*"})
    found = allow(found, "b", 80, "http", "httpbin.org", matches=[{**matches[0], "name": "states"}])
    config = compiled(found)
    assert ask(config, "httpbin.org", "/status/200").word == "go"
    assert ask(config, "httpbin.org", "/delay").word == "403"
    config = compiled(allow(found, "c", 80, "http", "httpbin.org"))
    assert ask(config, "httpbin.org", "/delay").origins == ("Egress/curl/c",)


def test_a_policy_for_every_host_adds_to_those_for_one() -> None:
    found = world().group("curl", "reads", {"name": "get", "pathRegex": "/get"})
    found = allow(found, "all", 80, "http", matches=[{"kind": "HTTPRouteGroup", "name": "reads"}])
    found = found.group("curl", "put", {"name": "put", "pathRegex": "/put"})
    named = [{"kind": "HTTPRouteGroup", "name": "put"}]
    config = compiled(allow(found, "one", 80, "http", "httpbin.org", matches=named))
    assert ask(config, "httpbin.org", "/get").word == "go"
    assert ask(config, "httpbin.org", "/put").word == "go"
    assert ask(config, "other.org", "/get").word == "go"
    assert ask(config, "other.org", "/put").word == "403"


def test_a_group_that_does_not_exist_lets_nothing_out() -> None:
    gone = [{"kind": "HTTPRouteGroup", "name": "gone"}]
    found = allow(world(), "x", 80, "http", "httpbin.org", matches=gone)
    assert ask(compiled(found), "httpbin.org").word == "403"
    assert told(found, "x")[0] == "RefNotFound"


def test_a_narrow_range_closes_nothing_that_a_wide_one_opens() -> None:
    found = allow(world(), "wide", 80, "http", "a.org", ipAddresses=["203.0.113.0/24"])
    found = allow(found, "narrow", 80, "http", "b.org", ipAddresses=["203.0.113.7/32"])
    config = compiled(found)
    assert [m.destinations for m in outside(config)] == [("203.0.113.7/32",), ("203.0.113.0/24",)]
    assert ask(config, "a.org").word == ask(config, "b.org").word == "go"
    assert ask(config, "a.org", ip="203.0.113.8").word == "go"
    assert ask(config, "b.org", ip="203.0.113.8").word == "403"
    assert ask(config, "a.org", ip="198.51.100.1").word == "closed"


def test_of_two_protocols_the_narrower_range_is_followed_and_the_other_told() -> None:
    found = allow(world(), "a-bytes", 80, "tcp", ipAddresses=["203.0.113.0/24"])
    found = allow(found, "b-web", 80, "http", "a.org", ipAddresses=["203.0.113.7/32"])
    config = compiled(found)
    assert [m.protocol for m in outside(config)] == ["http", "tcp"]
    assert told(found, "a-bytes")[0] == told(found, "b-web")[0] == "Programmed"
    found = allow(found, "c-grpc", 80, "grpc", "g.org", ipAddresses=["203.0.113.7/32"])
    assert told(found, "c-grpc") == (
        "Conflicted",
        "Egress curl/b-web says that port 80 speaks http and is followed",
    )


OWN = {**CURL, "mtls": {"issuer": "fsm"}}
SECRET = {"name": "keys", "namespace": "curl"}
KEYS = {**CURL, "mtls": {"issuer": "other", "cert": {"secret": SECRET}}}


def holding(found: World, **held: Any) -> World:
    obj = {"metadata": SECRET, "credentials": held}
    found.found["Credentials"].append(obj)
    return found


def test_a_source_with_mtls_is_let_out_over_tls_with_its_own_certificate() -> None:
    found = allow(world(), "x", 8443, "http", "httpbin.org", sources=[OWN])
    config = compiled(found)
    (match,) = outside(config)
    assert match.protocol == "http", "the application speaks plain text"
    (tls,) = config.originates.items()
    assert tls == (
        "httpbin.org:8443|tls",
        Originate(origin="Egress/curl/x", server_name="httpbin.org"),
    )
    assert config.clusters[tls[0]].kind is ClusterKind.ORIGINAL_DESTINATION
    assert [c.cluster for h in match.hosts for r in h.routes for c in r.clusters] == [tls[0]]
    assert told(found, "x") == ("Programmed", "in effect")
    assert compiled(found, "shop", "till").originates == {}


@pytest.mark.parametrize("permissive", [False, True])
def test_a_certificate_of_a_secret_is_shown_and_told(permissive: bool) -> None:
    found = allow(world(permissive=permissive), "x", 8443, "http", "10.1.2.3", sources=[KEYS])
    holding(found, chain="C", key="K", roots="R", names=["curl.org"], ends="2030-01-01")
    (tls,) = compiled(found).originates.values()
    assert tls.certificate == ClientCertificate(chain="C", key="K")
    assert (tls.roots, tls.server_name) == (("R",), None), "an address is not asked for by name"
    assert "K" not in repr(tls).replace("'R'", "")
    reason = "in effect; source curl/curl shows the certificate of Secret curl/keys, until 2030"
    assert told(found, "x")[1].startswith(reason)


def test_without_its_certificate_a_source_is_not_let_out_and_never_in_plain_text() -> None:
    # Everything may be reached, but for what a policy is about.
    found = allow(world(egress=True), "x", 80, "http", "httpbin.org", sources=[KEYS])
    assert ask(compiled(found), "httpbin.org").word == "403"
    assert compiled(found).originates == {}
    assert told(found, "x")[0] == "NoCertificate"
    assert "Secret curl/keys does not exist" in told(found, "x")[1]
    holding(found, fault="its certificate has ended at 2020-01-01 00:00 UTC")
    assert ask(compiled(found), "httpbin.org").word == "403"
    assert "has ended at 2020" in told(found, "x")[1]


def test_what_another_policy_allows_in_plain_text_is_not_shown_a_certificate() -> None:
    found = allow(world(), "a", 80, "http", "a.org", sources=[KEYS])
    found = allow(found, "b", 80, "http", "a.org")
    config = compiled(found)
    assert ask(config, "a.org").word == "go"
    assert config.originates == {}


def test_names_that_the_certificate_lacks_are_told() -> None:
    named = {**KEYS, "mtls": {"issuer": "o", "cert": {"secret": SECRET, "subjectAltNames": ["a"]}}}
    found = allow(world(), "x", 80, "http", "httpbin.org", sources=[named])
    holding(found, chain="C", key="K", roots="R", names=["b"], ends="2030")
    assert "which does not carry a" in told(found, "x")[1]


def test_ports_of_which_the_sidecar_sees_no_requests_stay_closed_with_mtls() -> None:
    ports = [{"number": 443, "protocol": "https"}, {"number": 25, "protocol": "tcp"}]
    found = allow(world(), "x", 443, "https", "a.org", sources=[OWN], ports=ports)
    assert outside(compiled(found)) == []


def test_of_plain_text_and_tls_to_one_host_all_is_encrypted() -> None:
    found = allow(world(), "a", 80, "http", "a.org")
    found = allow(found, "b", 80, "http", "a.org", sources=[OWN])
    (match,) = outside(compiled(found))
    (host,) = match.hosts
    assert {c.cluster for r in host.routes for c in r.clusters} == {"a.org:80|tls"}


def test_sources_outside_of_the_mesh_and_settings_are_told() -> None:
    stranger = {"kind": "ServiceAccount", "name": "x", "namespace": "outside"}
    found = allow(world(), "x", 80, "http", "a.org", sources=[stranger])
    assert told(found, "x")[0] == "NoSource"
    setting = [{"kind": "UpstreamTrafficSetting", "name": "slow"}]
    found = allow(world(), "x", 80, "http", "a.org", matches=setting)
    assert told(found, "x") == ("Programmed", "in effect; not heeded: UpstreamTrafficSetting slow")
    assert ask(compiled(found), "a.org").word == "go"


@pytest.mark.parametrize("permissive", [False, True])
def test_a_change_concerns_its_sources_alone(permissive: bool) -> None:
    found = allow(world(permissive=permissive), "x", 80, "http", "a.org")
    compiler = IncrementalCompiler(found.settings)
    compiler.begin(found.objects())
    pods = {pod.uid: pod for pod in found.snapshot().pods.values()}
    (policy,) = found.found["Egress"]
    edited = {**policy, "spec": {**policy["spec"], "hosts": ["b.org"]}}
    before = {uid: compiler.compile(uid) for uid in pods}
    snapshot = compiler.update([Change("Egress", Key("curl", "x"), edited)])
    changed = []
    for uid, pod in pods.items():
        text = compiler.compile(uid)
        assert text is not None
        assert text.version == compile_proxy(snapshot, pod, found.settings).version
        if text != before[uid]:
            changed.append(str(pod.key))
    assert changed == ["curl/curl"]
