"""Rewritten probes, by tables: what the injector writes, and what the compiler reads from it."""

from __future__ import annotations

import json
from typing import Any

import jsonpatch
import pytest

from fsm.compile.probes import pod_probes
from fsm.injector import InjectionSettings, inject
from fsm.model import MeshConfig, pod_from
from fsm.settings import Ports

AROUND = {
    "metadata": {
        "name": "shop",
        "labels": {"flomesh.io/monitored-by": "fsm"},
        "annotations": {"flomesh.io/sidecar-injection": "enabled"},
    }
}
KINDS = {"livenessProbe": 15901, "readinessProbe": 15902, "startupProbe": 15903}


def injected(spec: dict[str, Any], annotations: dict[str, str] | None = None) -> dict[str, Any]:
    obj = {"metadata": {"name": "web", "namespace": "shop", "uid": "u"}, "spec": spec}
    if annotations:
        obj["metadata"]["annotations"] = annotations
    patch = inject(obj, AROUND, MeshConfig(), InjectionSettings(), "uuid-1")
    assert isinstance(patch, list), patch
    result: dict[str, Any] = jsonpatch.apply_patch(obj, patch)
    assert inject(result, AROUND, MeshConfig(), InjectionSettings(), "uuid-2") is None
    return result


def app(**probes: Any) -> dict[str, Any]:
    ports = [{"name": "web", "containerPort": 8080}, {"name": "80", "containerPort": 8081}]
    return {"name": "app", "image": "app", "ports": ports, **probes}


def asks(port: int, *headers: tuple[str, str]) -> dict[str, Any]:
    named = [{"name": name, "value": value} for name, value in headers]
    return {"path": "/fsm-healthcheck", "port": port, "httpHeaders": named}


def over_http(port: int, path: str, to: int = 15902) -> dict[str, Any]:
    return asks(to, ("Original-Http-Port", str(port)), ("Original-Http-Path", path))


def connects(port: int, to: int = 15904) -> dict[str, Any]:
    return asks(to, ("Original-Tcp-Port", str(port)))


@pytest.mark.parametrize(
    ("handler", "rewritten"),
    [
        ({"httpGet": {"path": "/h", "port": 8080}}, over_http(8080, "/h")),
        ({"httpGet": {"path": "/h", "port": 8080, "scheme": "HTTP"}}, over_http(8080, "/h")),
        ({"httpGet": {"path": "/h", "port": "web"}}, over_http(8080, "/h")),
        ({"httpGet": {"path": "/h", "port": "9090"}}, over_http(9090, "/h")),
        # A port may be named like a number; names go first, as with the kubelet.
        ({"httpGet": {"path": "/h", "port": "80"}}, over_http(8081, "/h")),
        ({"httpGet": {"port": 8080}}, over_http(8080, "/")),
        ({"httpGet": {"path": "", "port": 8080}}, over_http(8080, "/")),
        ({"httpGet": {"path": "h", "port": 8080}}, over_http(8080, "/h")),
        ({"httpGet": {"path": "/h?a=1&b=c%20d", "port": 8080}}, over_http(8080, "/h?a=1&b=c%20d")),
        ({"httpGet": {"path": "/a b#c", "port": 8080}}, over_http(8080, "/a%20b")),
        ({"httpGet": {"path": "/ü\r\nX: y", "port": 8080}}, over_http(8080, "/%C3%BC%0D%0AX:%20y")),
        ({"httpGet": {"path": "/h", "port": 8443, "scheme": "HTTPS"}}, connects(8443, 15902)),
        ({"tcpSocket": {"port": 5432}}, connects(5432)),
        ({"tcpSocket": {"port": "web"}}, connects(8080)),
    ],
)
def test_a_probe_asks_the_sidecar_and_keeps_the_rest(handler, rewritten):
    rest = {"periodSeconds": 3, "timeoutSeconds": 2, "failureThreshold": 7}
    result = injected({"containers": [app(readinessProbe={**handler, **rest})]})
    (container,) = result["spec"]["containers"]
    assert container["readinessProbe"] == {"httpGet": rewritten, **rest}
    kept = json.loads(result["metadata"]["annotations"]["flomesh.io/original-probes"])
    assert kept == {"app": {"readinessProbe": handler}}


@pytest.mark.parametrize(("kind", "port"), KINDS.items())
def test_each_kind_has_its_listener_and_tcp_has_one_for_all(kind, port):
    result = injected({"containers": [app(**{kind: {"httpGet": {"path": "/h", "port": 1}}})]})
    assert result["spec"]["containers"][0][kind]["httpGet"] == over_http(1, "/h", port)
    result = injected({"containers": [app(**{kind: {"tcpSocket": {"port": 1}}})]})
    assert result["spec"]["containers"][0][kind]["httpGet"] == connects(1)


@pytest.mark.parametrize(
    "probe",
    [
        {"exec": {"command": ["true"]}},
        {"grpc": {"port": 9000}},
        {"httpGet": {"path": "/h", "port": 8080, "host": "status.example"}},
        {"tcpSocket": {"port": 5432, "host": "db.example"}},
        {"httpGet": {"path": "/h", "port": "nowhere"}},
        {"tcpSocket": {"port": "nowhere"}},
        {"httpGet": {"path": "/h", "port": 0}},
        {"httpGet": {"path": "/h", "port": 70000}},
        *({"httpGet": {"path": "/h", "port": port}} for port in (15000, 15001, 15003, 15010)),
        {"tcpSocket": {"port": 15000}},
        {"httpGet": over_http(8080, "/h")},
    ],
)
def test_what_is_not_ours_to_rewrite_stays_as_it_is(probe):
    result = injected({"containers": [app(livenessProbe=probe)]})
    assert result["spec"]["containers"] == [app(livenessProbe=probe)]
    assert "flomesh.io/original-probes" not in result["metadata"]["annotations"]


def test_headers_of_the_user_stay_and_cannot_take_the_place_of_ours():
    headers = [
        {"name": "Host", "value": "web.example"},
        {"name": "X-One", "value": "1"},
        {"name": "original-http-port", "value": "15000"},
        {"name": "Original-Tcp-Port", "value": "15000"},
    ]
    probe = {"httpGet": {"path": "/h", "port": 8080, "httpHeaders": headers}}
    result = injected({"containers": [app(readinessProbe=probe)]})
    question = result["spec"]["containers"][0]["readinessProbe"]["httpGet"]
    assert question["httpHeaders"] == [*headers[:2], *over_http(8080, "/h")["httpHeaders"]]


def test_every_container_counts_native_sidecars_too_and_ours_are_left_alone():
    probe = {"httpGet": {"path": "/h", "port": 8080}}
    spec = {
        "initContainers": [
            {"name": "migrate"},
            {"name": "logs", "restartPolicy": "Always", "startupProbe": probe},
        ],
        "containers": [app(readinessProbe=probe), {"name": "two", "livenessProbe": probe}],
    }
    result = injected(spec)
    init, sidecar, migrate, logs = result["spec"]["initContainers"]
    assert (init["name"], migrate) == ("fsm-init", {"name": "migrate"})
    assert sidecar["startupProbe"]["httpGet"] == {"path": "/ready", "port": 15010}
    assert logs["startupProbe"]["httpGet"] == over_http(8080, "/h", 15903)
    one, two = result["spec"]["containers"]
    assert one["readinessProbe"]["httpGet"] == over_http(8080, "/h", 15902)
    assert two["livenessProbe"]["httpGet"] == over_http(8080, "/h", 15901)
    ports = {port["name"]: port["containerPort"] for port in sidecar["ports"]}
    assert {name: ports[name] for name in ports if name.endswith("-probe")} == {
        "liveness-probe": 15901,
        "readiness-probe": 15902,
        "startup-probe": 15903,
    }
    # Names of ports have 15 characters at most. Source: Kubernetes API reference, ContainerPort.
    assert max(map(len, ports)) <= 15


def test_without_probes_nothing_is_noted_and_no_port_is_declared():
    result = injected({"containers": [app()]})
    assert "flomesh.io/original-probes" not in result["metadata"]["annotations"]
    (sidecar,) = [c for c in result["spec"]["initContainers"] if c["name"] == "sidecar"]
    assert not [p for p in sidecar["ports"] if p["name"].endswith("-probe")]


def test_a_note_that_came_with_the_pod_is_replaced():
    probe = {"tcpSocket": {"port": 1}}
    forged = {"flomesh.io/original-probes": "{}", "other": "x"}
    result = injected({"containers": [app(readinessProbe=probe)]}, forged)
    notes = result["metadata"]["annotations"]
    assert notes["other"] == "x"
    assert json.loads(notes["flomesh.io/original-probes"]) == {"app": {"readinessProbe": probe}}


def compiled(spec: dict[str, Any], inject_it: bool = True) -> list[dict[str, Any]]:
    obj = injected(spec) if inject_it else {"metadata": {"name": "web"}, "spec": spec}
    obj["metadata"]["namespace"] = "shop"
    found = pod_probes(pod_from(obj), Ports())
    fields = ("listener", "kind", "port", "path", "host", "headers", "timeout_ms", "origin")
    return [{name: getattr(probe, name) for name in fields} for probe in found]


def test_what_the_injector_writes_is_what_the_sidecar_may_ask():
    headers = [{"name": "Host", "value": "web.example"}, {"name": "X-One", "value": "1"}]
    ready = {"path": "/h?x", "port": "web", "httpHeaders": headers}
    probes = {
        "readinessProbe": {"httpGet": ready, "timeoutSeconds": 4},
        "livenessProbe": {"tcpSocket": {"port": 5432}},
        "startupProbe": {"httpGet": {"scheme": "HTTPS", "port": 8443}},
    }
    other = {"host": None, "headers": (), "path": None, "kind": "tcp", "timeout_ms": 1_000}
    assert compiled({"containers": [app(**probes)]}) == [
        {**other, "listener": "tcp", "port": 5432, "origin": "Pod/shop/web#app.livenessProbe"},
        {
            "listener": "readiness",
            "kind": "http",
            "port": 8080,
            "path": "/h?x",
            "host": "web.example",
            "headers": ("x-one",),
            "timeout_ms": 4_000,
            "origin": "Pod/shop/web#app.readinessProbe",
        },
        {**other, "listener": "startup", "port": 8443, "origin": "Pod/shop/web#app.startupProbe"},
    ]


def test_two_containers_with_the_same_question_make_one_entry():
    def probe(name: str, timeout_s: int) -> dict[str, Any]:
        headers = [{"name": name, "value": "1"}]
        action = {"path": "/h", "port": 8080, "httpHeaders": headers}
        return {"httpGet": action, "timeoutSeconds": timeout_s}

    two = {"name": "two", "readinessProbe": probe("X-Two", 1)}
    (found,) = compiled({"containers": [app(readinessProbe=probe("X-One", 9)), two]})
    assert found["headers"] == ("x-one", "x-two")
    assert found["timeout_ms"] == 9_000
    assert found["origin"] == "Pod/shop/web#app.readinessProbe"


@pytest.mark.parametrize(
    "question",
    [
        over_http(15000, "/quitquitquit"),
        over_http(15010, "/stats/prometheus"),
        connects(15000),
        connects(15902),
        over_http(8080, "health"),
        over_http(8080, ""),
        over_http(8080, "/a b"),
        over_http(8080, "/a\r\nX: y"),
        over_http(8080, "/", 15904),
        over_http(8080, "/", 9090),
        over_http(70000, "/"),
        asks(15902),
        asks(15902, ("Original-Http-Port", "80 80"), ("Original-Http-Path", "/")),
        {**over_http(8080, "/"), "path": "/other"},
        {**over_http(8080, "/"), "host": "10.0.0.1"},
        {"port": 15902, "httpHeaders": "none"},
    ],
)
def test_a_probe_written_by_hand_opens_no_way_that_the_injector_would_not(question):
    hand = {"httpGet": question, "timeoutSeconds": -5}
    good = {"httpGet": over_http(8080, "/fine", 15901), "timeoutSeconds": -5}
    spec = {"containers": [app(readinessProbe=hand, livenessProbe=good)]}
    assert [p["path"] for p in compiled(spec, inject_it=False)] == ["/fine"]


def test_odd_shapes_are_no_probes_and_cost_the_pod_nothing():
    for probe in (None, 3, "x", [], {}, {"httpGet": None}, {"httpGet": []}, {"httpGet": {}}):
        assert compiled({"containers": [{"name": "app", "readinessProbe": probe}]}, False) == []
