"""``validate_documents``: faults, doubts and notes of whole files, and what no file may break."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm.controllers.validation import Finding, validate_documents
from fsm.settings import Proxy, Settings

BOOKSTORE = """
kind: TrafficTarget
apiVersion: access.smi-spec.io/v1alpha3
metadata: {name: bookstore, namespace: bookstore}
spec:
  destination: {kind: ServiceAccount, name: bookstore, namespace: bookstore}
  rules: [{kind: HTTPRouteGroup, name: routes, matches: [books]}]
  sources: [{kind: ServiceAccount, name: bookbuyer, namespace: bookbuyer}]
---
kind: HTTPRouteGroup
apiVersion: specs.smi-spec.io/v1alpha4
metadata: {name: routes, namespace: bookstore}
spec:
  matches: [{name: books, pathRegex: /books, methods: [GET]}]
"""
SPLIT = """
kind: TrafficSplit
apiVersion: split.smi-spec.io/v1alpha4
metadata: {name: NAME, namespace: shop}
spec:
  service: web
  backends: [{service: web-v1, weight: 50}, {service: web-v2, weight: 50}]
"""


def check(text: str, **more: Any) -> list[Finding]:
    return validate_documents(list(yaml.safe_load_all(text)), **more)


def test_a_file_that_is_right_has_no_findings() -> None:
    assert check(BOOKSTORE) == []


def test_all_faults_of_all_documents_are_told_at_once_in_their_order() -> None:
    broken = BOOKSTORE.replace("kind: ServiceAccount, name: bookbuyer", "name: Book_Buyer").replace(
        "pathRegex: /books", "pathRegex: '(['"
    )
    found = check(broken)
    assert [(f.document, f.path) for f in found] == [
        (0, "spec.sources[0].kind"),
        (0, "spec.sources[0].name"),
        (1, "spec.matches[0].pathRegex"),
    ]
    assert {f.severity for f in found} == {"error"}


def test_a_route_group_that_no_document_has_is_a_note_without_a_cluster() -> None:
    target = BOOKSTORE.split("---")[0]
    (found,) = check(target)
    assert found.severity == "note"
    assert "HTTPRouteGroup routes does not exist" in found.message


def test_the_same_is_a_warning_against_a_cluster_that_does_not_have_it_either() -> None:
    world = {
        "Namespace": [
            {"metadata": {"name": "bookstore", "labels": {"flomesh.io/monitored-by": "fsm"}}}
        ]
    }
    (found,) = check(BOOKSTORE.split("---")[0], world=world)
    assert (found.severity, found.document) == ("warning", 0)


def test_a_group_that_the_cluster_has_is_found() -> None:
    target, group = yaml.safe_load_all(BOOKSTORE)
    world = {
        "Namespace": [
            {"metadata": {"name": "bookstore", "labels": {"flomesh.io/monitored-by": "fsm"}}}
        ],
        "HTTPRouteGroup": [group],
    }
    found = validate_documents([target], world)
    assert [(f.severity, "no Pod runs as" in f.message) for f in found] == [("note", True)]


def test_two_splits_that_say_different_things_about_one_apex_conflict() -> None:
    found = check(SPLIT.replace("NAME", "a") + "---" + SPLIT.replace("NAME", "b"))
    assert ("warning", "TrafficSplit a is about Service shop/web too and is followed") in [
        (f.severity, f.message) for f in found if f.document == 1
    ]


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("just words", "", "an object is expected"),
        ("[1, 2]", "", "an object is expected"),
        ("{1: 2}", "", "keys that are not text"),
        ("{apiVersion: v1, metadata: {}}", "kind", "a kind is expected"),
        ("{kind: [a], apiVersion: v1}", "kind", "a kind is expected"),
        ("{kind: Pod, metadata: {name: a}}", "apiVersion", "an API version is expected"),
        ("{kind: Pod, apiVersion: v1, metadata: no}", "metadata", "an object is expected"),
        (
            "{kind: TraficTarget, apiVersion: access.smi-spec.io/v1alpha3, metadata: {name: a}}",
            "kind",
            "'TraficTarget' is not a kind of the mesh",
        ),
        (
            "{kind: TrafficSplit, apiVersion: split.smi-spec.io/v9, metadata: {name: a},"
            " spec: {service: a, backends: [{service: b, weight: 1}]}}",
            "apiVersion",
            "is not served",
        ),
        (
            "{kind: Service, apiVersion: v1, metadata: {name: a}, spec: {ports: [{port: 99999}]}}",
            "spec.ports[0].port",
            "expected a port",
        ),
        (
            "{kind: List, apiVersion: v1, items: [{kind: TCPRoute,"
            " apiVersion: specs.smi-spec.io/v1alpha4, metadata: {name: a},"
            " spec: {matches: {ports: [0]}}}]}",
            "spec.matches.ports[0]",
            "out of range",
        ),
    ],
)
def test_documents_that_cannot_be_used(text: str, path: str, message: str) -> None:
    found = [f for f in check(text) if f.severity == "error"]
    assert [f.path for f in found] == [path], found
    assert message in found[0].message


def test_a_slip_in_a_kind_gets_the_right_one_as_hint() -> None:
    (found,) = check(
        "{kind: TraficSplit, apiVersion: split.smi-spec.io/v1alpha4, metadata: {name: a}}"
    )
    assert found.hint == "TrafficSplit?"


def test_namesakes_of_other_groups_are_not_ours() -> None:
    assert not check(
        "{kind: TCPRoute, apiVersion: gateway.networking.k8s.io/v1alpha2, metadata: {name: a},"
        " spec: {rules: []}}"
    )


def test_an_annotation_that_injection_would_refuse_is_told_where_the_template_stands() -> None:
    (found,) = check(
        """
kind: Deployment
apiVersion: apps/v1
metadata: {name: web, namespace: shop}
spec:
  template:
    metadata: {annotations: {flomesh.io/outbound-port-exclusion-list: "80,x"}}
    spec: {containers: [{name: web, image: web}]}
"""
    )
    assert (found.severity, found.path) == ("error", "spec.template")
    assert "'x'" in found.message


def test_an_object_that_stands_twice_is_a_warning() -> None:
    found = check(BOOKSTORE + "---" + BOOKSTORE.split("---")[1])
    assert [(f.document, f.severity) for f in found] == [(2, "warning")]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=10,
)
OBJECTS = [*yaml.safe_load_all(BOOKSTORE), yaml.safe_load(SPLIT.replace("NAME", "a"))]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    entries = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in entries:
        found += places(inner, (*path, key))
    return found


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_whatever_stands_anywhere_in_a_document_there_is_an_answer(data: st.DataObject) -> None:
    documents: list[Any] = copy.deepcopy(OBJECTS)
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(places(documents)))
        holder: Any = documents
        for part in path[:-1]:
            holder = holder[part]
        holder[path[-1]] = data.draw(JSON)
    for finding in validate_documents(documents):
        assert finding.message
        assert 0 <= finding.document < len(documents)


@given(st.lists(JSON, max_size=4))
@settings(max_examples=200, deadline=None)
def test_whatever_the_documents_are_there_is_an_answer(documents: list[Any]) -> None:
    for finding in validate_documents(documents):
        assert finding.message


def test_what_a_switch_elsewhere_may_undo_is_a_note() -> None:
    retry = """
kind: Retry
apiVersion: policy.flomesh.io/v1alpha1
metadata: {name: retry, namespace: curl}
spec:
  source: {kind: ServiceAccount, name: curl, namespace: curl}
  destinations: [{kind: Service, name: httpbin, namespace: httpbin}]
  retryPolicy: {retryOn: 5xx, numRetries: 5}
"""
    (found,) = check(retry)
    assert found.severity == "note"
    assert "enableRetryPolicy" in found.message
    assert "as far as these documents say" in found.message
    (known,) = check(retry, world={})
    assert known.severity == "warning"


def test_who_carries_datagrams_is_for_the_mesh_to_say() -> None:
    route = """
kind: UDPRoute
apiVersion: specs.smi-spec.io/v1alpha4
metadata: {name: routes, namespace: bookstore}
spec: {matches: {ports: [53]}}
"""
    target = BOOKSTORE.split("---")[0].replace("HTTPRouteGroup", "UDPRoute")
    both = route + "---" + target.replace(", matches: [books]", "")
    assert {f.severity for f in check(both)} == {"note"}
    namespaces = [
        {"metadata": {"name": name, "labels": {"flomesh.io/monitored-by": "fsm"}}}
        for name in ("bookstore", "bookbuyer")
    ]
    world = {"Namespace": namespaces}
    told = [f.message for f in check(both, world=world) if f.severity == "warning"]
    assert any("cannot carry UDP" in message for message in told)
    carrying = Settings(proxy=Proxy(carries_udp=True))
    assert not [f for f in check(both, world=world, settings=carrying) if "UDP:" in f.message]
