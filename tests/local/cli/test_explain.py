"""What ``fsm explain`` makes of its words and of the sidecars' answers."""

import socket
from urllib.parse import parse_qsl

import pytest

from fsm.cli.errors import Failure
from fsm.cli.explain import Question, _destination, _reached, rows, split_url
from fsm.kube import NotFound

OUTBOUND = {
    "at": "bookbuyer/bookbuyer-1",
    "direction": "outbound",
    "decision": "allowed",
    "rule": "HTTPRouteGroup/bookstore/routes#buy",
    "clusters": [
        {
            "cluster": "bookstore/bookstore-v1|14001",
            "weight": 0,
            "split_by": "TrafficSplit/bookstore/split",
            "endpoints": [{"address": "10.244.0.4:14001", "identity": "spiffe://a/ns/b/sa/v1"}],
        },
        {
            "cluster": "bookstore/bookstore-v2|14001",
            "weight": 100,
            "split_by": "TrafficSplit/bookstore/split",
            "endpoints": [
                {"address": "10.244.0.5:14001", "identity": "spiffe://a/ns/b/sa/v2"},
                {"address": "10.244.0.6:14001"},
            ],
        },
    ],
}


@pytest.mark.parametrize(
    "url",
    ["bookstore", "ftp://bookstore/", "http://", "http:///x", "http://a:0/", "http://a:99999/"],
)
def test_a_url_that_no_sidecar_can_judge_is_refused_with_an_example(url):
    with pytest.raises(Failure, match="not a URL") as refused:
        split_url(url)
    assert "http://bookstore" in (refused.value.hint or "")


def test_a_question_carries_method_host_path_query_and_headers():
    question = Question(split_url("http://shop:80/a?b=c"), "POST", ("x: 1",))
    assert question.query("inbound", "10.0.0.1:80", "spiffe://me") == (
        "direction=inbound&destination=10.0.0.1%3A80&method=POST&host=shop%3A80"
        "&path=%2Fa%3Fb%3Dc&header=x%3A+1&identity=spiffe%3A%2F%2Fme"
    )


def test_only_endpoints_with_a_share_and_a_sidecar_are_asked():
    assert _reached(OUTBOUND) == ["10.244.0.5:14001"]


def test_the_table_names_the_objects_and_the_shares():
    denied = {
        "at": "bookstore/v2",
        "direction": "inbound",
        "decision": "denied",
        "matched_by": "Service/bookstore/bookstore-v2",
        "reason": "no policy allows this identity on the routes that fit",
    }
    assert rows([OUTBOUND, denied]) == [
        [
            "bookbuyer/bookbuyer-1",
            "allowed",
            "-",
            "HTTPRouteGroup/bookstore/routes#buy",
            "bookstore/bookstore-v1|14001 0, bookstore/bookstore-v2|14001 100"
            " by TrafficSplit/bookstore/split",
        ],
        [
            "bookstore/v2",
            "denied",
            "-",
            "Service/bookstore/bookstore-v2",
            "no policy allows this identity on the routes that fit",
        ],
    ]


def test_tls_that_passes_unopened_is_asked_about_by_its_server_name():
    asked = Question(split_url("https://HTTPBIN.example"), "GET", ())
    pairs = dict(parse_qsl(asked.query("outbound", "192.0.2.1:443", None)))
    assert pairs["server_name"] == "httpbin.example"
    assert "source" not in pairs


def test_a_client_outside_of_the_mesh_is_asked_about_by_its_address():
    asked = Question(split_url("http://till.shop/"), "GET", (), "spiffe://cluster.local/ns/a/sa/b")
    pairs = dict(parse_qsl(asked.query("inbound", "10.0.0.1:80", asked.identity, "10.0.0.9")))
    assert (pairs["source"], pairs["identity"]) == ("10.0.0.9", "spiffe://cluster.local/ns/a/sa/b")
    assert "server_name" not in pairs


def test_datagrams_are_asked_about_wherever_there_is_a_sidecar():
    asked = Question(split_url("udp://lobby.games:7000"), "GET", ())
    pairs = dict(parse_qsl(asked.query("inbound", "10.0.0.1:7000", None, "10.0.0.9")))
    assert (pairs["protocol"], pairs["source"]) == ("udp", "10.0.0.9")
    # Nobody there proves who it is.
    assert _reached(OUTBOUND, datagrams=True) == ["10.244.0.5:14001", "10.244.0.6:14001"]
    with pytest.raises(Failure):
        split_url("udp://lobby.games")


class Api:
    """Services and Namespaces by name."""

    def __init__(self, services=(), namespaces=("curl",)):
        self._services = {s["metadata"]["name"]: s for s in services}
        self._namespaces = namespaces

    async def get(self, resource, name, namespace=None):
        known = self._services if resource.plural == "services" else self._namespaces
        if name not in known:
            raise NotFound(404, "NotFound", f"{resource.plural} {name}")
        return self._services.get(name)

    async def list(self, resource, namespace=None):
        class Listed:
            items = tuple(self._services.values())

        return Listed


@pytest.fixture
def outside(monkeypatch):
    def known(host, *_, **__):
        if host != "example.test":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", known)


async def test_a_host_outside_has_the_address_that_this_machine_knows(outside):
    question = Question(split_url("http://example.test/"), "GET", ())
    assert await _destination(Api(), "curl", question) == "192.0.2.7:80"
    named = {"metadata": {"name": "bank"}, "spec": {"type": "ExternalName"}}
    named["spec"]["externalName"] = "example.test"
    question = Question(split_url("http://bank.curl:81/"), "GET", ())
    assert await _destination(Api([named]), "curl", question) == "192.0.2.7:81"


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("shop.curl", "there is no Service curl/shop"),
        ("shop", "there is no Service curl/shop"),
        ("shop.nowhere", "knows no such host: Name or service not known"),
    ],
)
async def test_a_name_that_nobody_knows_is_told_as_what_it_looks_like(outside, host, told):
    question = Question(split_url(f"http://{host}/"), "GET", ())
    with pytest.raises(Failure, match=told):
        await _destination(Api(), "curl", question)
