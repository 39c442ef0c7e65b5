"""Where spans and log lines go: what MeshConfig says, as the proxy is told."""

import pytest
from world import World

from fsm.compile.contract import ProxyConfig
from fsm.compile.telemetry import telemetry_faults


def compiled(**observability: object) -> ProxyConfig:
    world = World().namespace("shop").mesh(observability=observability)
    world.pod("shop", "till")
    return world.compile("shop", "till")


def test_nothing_goes_anywhere_unless_it_is_switched_on() -> None:
    for told in (
        {},
        {"tracing": {"enable": False, "address": "zipkin", "port": 9411}},
        {"remoteLogging": {"enable": False, "address": "log"}},
        # Lines have no usual place to go to.
        {"remoteLogging": {"enable": True}},
    ):
        telemetry = compiled(**told).telemetry
        assert (telemetry.tracing, telemetry.remote_log) == (None, None), told


def test_tracing_goes_to_jaeger_beside_the_control_plane_unless_told_otherwise() -> None:
    tracing = compiled(tracing={"enable": True}).telemetry.tracing
    assert tracing is not None
    assert tracing.collector.host == "jaeger.fsm-system.svc.cluster.local"
    assert (tracing.collector.port, tracing.collector.path) == (9411, "/api/v2/spans")
    assert (tracing.sampled_per_million, tracing.traceparent) == (1_000_000, False)
    assert tracing.origin == "MeshConfig/fsm-system/fsm-mesh-config"


@pytest.mark.parametrize(("share", "expected"), [("0.1", 100_000), (0.1, 100_000), (0, 0)])
def test_every_field_reaches_the_proxy(share: object, expected: int) -> None:
    told = {"enable": True, "address": "zipkin.obs", "port": 80, "endpoint": "/spans"}
    tracing = {**told, "sampledFraction": share, "traceparent": True}
    remote = {**told, "sampledFraction": share, "authorization": "Basic eA=="}
    telemetry = compiled(tracing=tracing, remoteLogging=remote).telemetry
    assert telemetry.tracing is not None
    assert telemetry.remote_log is not None
    assert telemetry.tracing.traceparent
    assert telemetry.remote_log.collector.authorization == "Basic eA=="
    for export in (telemetry.tracing, telemetry.remote_log):
        assert export.sampled_per_million == expected
        assert (export.collector.host, export.collector.port) == ("zipkin.obs", 80)
        assert export.collector.path == "/spans"
    assert telemetry_faults(telemetry) == []
