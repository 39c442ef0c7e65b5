"""The cluster's names, and what the server makes of queries of every kind."""

from __future__ import annotations

from typing import Any, cast

import pytest
from dnslib import QTYPE, RCODE, DNSRecord
from hypothesis import given
from hypothesis import strategies as st

from fsm.kube import Informer
from fsm.standalone.node.dns import Answer, Srv, Zone
from fsm.standalone.node.dns_server import DnsServer


def service(name: str, ip: str = "10.96.0.20", **spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
    return {
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"clusterIP": ip, "ports": ports, **spec},
    }


def slice_of(name: str, *endpoints: dict[str, Any]) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"{name}-x",
            "namespace": "shop",
            "labels": {"kubernetes.io/service-name": name},
        },
        "endpoints": list(endpoints),
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }


READY = {"addresses": ["10.244.0.5"], "hostname": "db-0", "conditions": {"ready": True}}
UNREADY = {"addresses": ["10.244.0.6"], "hostname": "db-1", "conditions": {"ready": False}}
ALIAS = service("alias", "", type="ExternalName", externalName="web.shop.svc.cluster.local")
DUAL = service("dual", clusterIPs=["10.96.0.30", "fd00:10:96::30"])
SIX = {"addresses": ["fd00:10:244::5"], "conditions": {"ready": True}}
ZONE = Zone(
    "cluster.local",
    [service("web"), service("db", "None"), service("six", "None"), ALIAS, DUAL],
    [slice_of("db", READY, UNREADY), slice_of("six", SIX)],
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web.shop.svc.cluster.local", Answer("found", ("10.96.0.20",))),
        ("WEB.Shop.svc.Cluster.Local.", Answer("found", ("10.96.0.20",))),
        ("db-0.db.shop.svc.cluster.local", Answer("found", ("10.244.0.5",))),
        ("db-1.db.shop.svc.cluster.local", Answer("no-name")),
        ("dual.shop.svc.cluster.local", Answer("found", ("10.96.0.30", "fd00:10:96::30"))),
        ("fd00-10-244--5.six.shop.svc.cluster.local", Answer("found", ("fd00:10:244::5",))),
        ("fd00-10-244--5.shop.pod.cluster.local", Answer("found", ("fd00:10:244::5",))),
        ("alias.shop.svc.cluster.local", Answer("found", cname="web.shop.svc.cluster.local")),
        (
            "_http._tcp.web.shop.svc.cluster.local",
            Answer("found", srv=(Srv(80, "web.shop.svc.cluster.local"),)),
        ),
        (
            "_http._tcp.db.shop.svc.cluster.local",
            Answer("found", srv=(Srv(8080, "db-0.db.shop.svc.cluster.local"),)),
        ),
        ("10-244-0-9.shop.pod.cluster.local", Answer("found", ("10.244.0.9",))),
        ("10-244-0-999.shop.pod.cluster.local", Answer("no-name")),
        ("20.0.96.10.in-addr.arpa", Answer("found", ptr=("web.shop.svc.cluster.local",))),
        ("1.0.0.127.in-addr.arpa", Answer("elsewhere")),
        ("nosuch.shop.svc.cluster.local", Answer("no-name")),
        ("shop.svc.cluster.local", Answer("found")),
        ("svc.cluster.local", Answer("found")),
        ("cluster.local", Answer("found")),
        ("example.org", Answer("elsewhere")),
        ("notcluster.local", Answer("elsewhere")),
    ],
)
def test_name_has_this_answer(name: str, expected: Answer) -> None:
    assert ZONE.answer(name) == expected


def test_unready_endpoints_are_named_when_the_service_asks_for_it() -> None:
    every = service("db", "None", publishNotReadyAddresses=True)
    zone = Zone("cluster.local", [every], [slice_of("db", READY, UNREADY)])
    assert zone.answer("db.shop.svc.cluster.local").addresses == ("10.244.0.5", "10.244.0.6")


class _Store:
    def __init__(self, *objects: dict[str, Any]) -> None:
        self.store = {(o["metadata"]["namespace"], o["metadata"]["name"]): o for o in objects}

    def subscribe(self, _: Any) -> None:
        return None


def server(*services: dict[str, Any], slices: tuple[dict[str, Any], ...] = ()) -> DnsServer:
    first, second = cast(Informer, _Store(*services)), cast(Informer, _Store(*slices))
    return DnsServer("cluster.local", first, second, ())


async def ask(made: DnsServer, name: str, kind: str, limit: int | None = 512) -> DNSRecord:
    raw = await made.resolve(DNSRecord.question(name, kind).pack(), limit)
    assert raw is not None
    return DNSRecord.parse(raw)


async def test_aaaa_of_a_service_is_no_data_and_not_no_such_name() -> None:
    answer = await ask(server(service("web")), "web.shop.svc.cluster.local", "AAAA")
    assert answer.header.rcode == RCODE.NOERROR
    assert answer.rr == []


async def test_each_family_is_told_to_who_asks_for_it() -> None:
    made = server(DUAL)
    for kind, address in (("A", "10.96.0.30"), ("AAAA", "fd00:10:96::30")):
        answer = await ask(made, "dual.shop.svc.cluster.local", kind)
        assert [(QTYPE[r.rtype], str(r.rdata)) for r in answer.rr] == [(kind, address)]
    pointer = "0.3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa"
    answer = await ask(made, pointer, "PTR")
    assert [str(r.rdata) for r in answer.rr] == ["dual.shop.svc.cluster.local."]


async def test_alias_comes_with_its_target() -> None:
    made = server(service("web"), ALIAS)
    answer = await ask(made, "alias.shop.svc.cluster.local", "A")
    assert [(QTYPE[r.rtype], str(r.rdata)) for r in answer.rr] == [
        ("CNAME", "web.shop.svc.cluster.local."),
        ("A", "10.96.0.20"),
    ]


async def test_unknown_name_of_the_cluster_does_not_exist() -> None:
    answer = await ask(server(), "no.shop.svc.cluster.local", "A")
    assert answer.header.rcode == RCODE.NXDOMAIN


async def test_foreign_name_without_upstream_fails_at_once() -> None:
    answer = await ask(server(), "example.org", "A")
    assert answer.header.rcode == RCODE.SERVFAIL


async def test_answer_too_large_for_udp_is_cut_and_whole_over_tcp() -> None:
    many = [{"addresses": [f"10.244.1.{n}"], "conditions": {"ready": True}} for n in range(1, 100)]
    made = server(service("db", "None"), slices=(slice_of("db", *many),))
    cut = await ask(made, "db.shop.svc.cluster.local", "A")
    assert cut.header.tc == 1
    assert cut.rr == []
    assert len((await ask(made, "db.shop.svc.cluster.local", "A", None)).rr) == 99


@given(st.binary(max_size=80))
async def test_garbage_is_answered_with_an_error_or_not_at_all(raw: bytes) -> None:
    reply = await server(service("web")).resolve(raw, 512)
    assert reply is None or (reply[:2] == raw[:2] and reply[2] & 0x80)
