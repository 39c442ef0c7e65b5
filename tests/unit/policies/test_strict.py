"""Reading survives anything, and says where."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm.policies import BY_KIND, validate, warnings

NAMES = [
    "spec",
    "metadata",
    "matches",
    "destination",
    "sources",
    "rules",
    "specs",
    "service",
    "backends",
    "weight",
    "ports",
    "name",
    "namespace",
    "kind",
    "traffic",
    "sidecar",
    "pluginChains",
    "headers",
    "methods",
    "pathRegex",
    "status",
    "x",
    "inbound-http",
]
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5)
    ),
    max_leaves=25,
)


@settings(max_examples=300)
@given(st.sampled_from(sorted(BY_KIND)), st.dictionaries(st.sampled_from(NAMES), anything))
def test_any_json_of_our_kinds_is_read_or_refused_in_words(kind: str, fields: Any) -> None:
    obj = {**fields, "kind": kind}
    for violation in validate(obj):
        assert violation.message
        assert "{" not in violation.path
    warnings(obj)


@pytest.mark.parametrize("kind", sorted(BY_KIND))
def test_every_kind_refuses_a_spec_that_is_no_object(kind: str) -> None:
    for spec in ("text", 3, [], True):
        found = validate({"kind": kind, "metadata": {"name": "x"}, "spec": spec})
        assert [v.path for v in found] == ["spec"], found
        assert "expected an object" in found[0].message


@pytest.mark.parametrize("kind", sorted(BY_KIND))
def test_every_served_version_is_known_and_others_are_not(kind: str) -> None:
    policy = BY_KIND[kind]
    obj: dict[str, Any] = {"kind": kind, "metadata": {"name": "x"}, "spec": {}}
    for version in policy.versions:
        found = validate({**obj, "apiVersion": f"{policy.group}/{version}"})
        assert "apiVersion" not in [v.path for v in found]
    for version in (f"{policy.group}/v1", "v1alpha1", "example.com/v1alpha3", 3):
        found = validate({**obj, "apiVersion": version})
        assert "apiVersion" in [v.path for v in found]


def test_fields_beside_a_spec_are_told() -> None:
    found = validate(
        {
            "kind": "HTTPRouteGroup",
            "metadata": {"name": "x"},
            "spec": {"matches": [{"name": "a"}]},
            "matches": [],
        }
    )
    assert [str(v) for v in found] == [
        "matches: is not a field here (hint: the fields of this kind are under spec)"
    ]


def test_a_generated_name_is_a_name() -> None:
    obj = {"kind": "TCPRoute", "metadata": {"generateName": "route-"}}
    assert validate(obj) == []
