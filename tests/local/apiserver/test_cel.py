"""Rules of CRDs in CEL: what they refuse, in whose words, and what is said of rules themselves."""

from __future__ import annotations

from typing import Any

import pytest

from fsm.standalone.apiserver.cel import KEY, Rules, has_rules, rules_of

INT, STRING = {"type": "integer"}, {"type": "string"}


def rule(text: str, **more: Any) -> dict[str, Any]:
    return {"rule": text, **more}


def spec(properties: dict[str, Any], *rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    inner = {"type": "object", "properties": properties, KEY: list(rules), **more}
    return {"type": "object", "properties": {"spec": inner}}


def told(schema: dict[str, Any], new: Any, old: Any = None) -> list[str]:
    before = None if old is None else {"spec": old}
    return [f"{c.field}: {c.message}" for c in Rules(schema).causes({"spec": new}, before)]


SIZES = {"min": INT, "max": INT, "names": {"type": "array", "items": STRING}}


@pytest.mark.parametrize(
    ("text", "good", "bad"),
    [
        ("self.min <= self.max", {"min": 1, "max": 1}, {"min": 2, "max": 1}),
        ("has(self.min) != has(self.max)", {"min": 1}, {"min": 1, "max": 1}),
        ("self.names.all(n, n.matches('^a'))", {"names": ["ab"]}, {"names": ["ab", "b"]}),
        ("self.names.isSorted()", {"names": ["a", "b"]}, {"names": ["b", "a"]}),
        ("size(self.names) < 2", {"names": []}, {"names": ["a", "b"]}),
        ("self.names.join('-') == 'a-b'", {"names": ["a", "b"]}, {"names": ["b"]}),
        ("self.names.exists(n, n.split('/').size() == 2)", {"names": ["a/b"]}, {"names": ["a"]}),
        ("!has(self.min) || self.min % 2 == 0", {}, {"min": 3}),
    ],
)
def test_a_rule_lets_pass_or_refuses(text: str, good: Any, bad: Any) -> None:
    schema = spec(SIZES, rule(text))
    assert told(schema, good) == []
    assert told(schema, bad) == [f'spec: Invalid value: "object": failed rule: {text}']


def test_a_refusal_is_in_the_rule_s_own_words() -> None:
    schema = spec(
        SIZES,
        rule("self.min <= self.max", message="min is above max", fieldPath=".min"),
        rule("self.max < 10", messageExpression="'max is ' + string(self.max)"),
        rule("self.max < 20", message="plain", messageExpression="self.nothing"),
    )
    assert told(schema, {"min": 50, "max": 30}) == [
        'spec.min: Invalid value: "object": min is above max',
        'spec: Invalid value: "object": max is 30',
        'spec: Invalid value: "object": plain',
    ]


def test_a_transition_is_asked_on_updates_alone() -> None:
    schema = spec({"size": INT}, rule("self.size >= oldSelf.size", message="it shrinks"))
    assert told(schema, {"size": 1}) == []
    assert told(schema, {"size": 2}, {"size": 1}) == []
    assert told(schema, {"size": 1}, {"size": 2}) == ['spec: Invalid value: "object": it shrinks']


def test_items_are_compared_where_they_have_keys() -> None:
    item = {
        "type": "object",
        "properties": {"name": STRING, "size": INT},
        KEY: [rule("self.size >= oldSelf.size", message="it shrinks")],
    }
    keyed = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    for more, expected in ((keyed, ["spec.items[0]"]), ({}, [])):
        schema = spec({"items": {"type": "array", "items": item, **more}})
        new = {"items": [{"name": "b", "size": 1}, {"name": "c", "size": 0}]}
        old = {"items": [{"name": "a", "size": 5}, {"name": "b", "size": 5}]}
        assert [text.split(":")[0] for text in told(schema, new, old)] == expected


def test_values_have_the_types_of_their_schema() -> None:
    number = {"type": "number"}
    times = {"type": "string", "format": "date-time"}
    schema = spec(
        {"share": number, "begin": times, "end": times},
        rule("self.share * 2.0 == 1.0"),
        rule("self.begin < self.end"),
    )
    good = {"share": 0.5, "begin": "2025-01-01T10:00:00+02:00", "end": "2025-01-01T09:00:00Z"}
    assert told(schema, good) == []
    # As texts these two would be in order.
    assert len(told(schema, good | {"share": 1, "end": "2025-01-01T07:00:00Z"})) == 2


def test_maps_and_names_of_objects_are_seen() -> None:
    labels = {
        "type": "object",
        "additionalProperties": STRING | {KEY: [rule("self != 'no'", message="no")]},
    }
    assert told(spec({"labels": labels}), {"labels": {"a": "yes", "b": "no"}}) == [
        'spec.labels[b]: Invalid value: "string": no'
    ]
    root = {"type": "object", KEY: [rule("self.metadata.name.startsWith('a')", message="name")]}
    (cause,) = Rules(root).causes({"metadata": {"name": "b", "labels": {}}}, None)
    assert cause.field == "<root>"
    assert Rules(root).causes({"metadata": {"name": "ab"}}, None) == []


def test_a_rule_that_fails_refuses_and_says_why() -> None:
    (text,) = told(spec(SIZES, rule("self.min > 0")), {"max": 1})
    assert "cannot be evaluated" in text
    assert "no such member" in text


def test_rules_that_are_wrong_and_rules_that_are_not_known_are_told_apart() -> None:
    schema = spec(
        SIZES,
        rule("self.min <"),
        rule(""),
        rule("self.?min.orValue(1) == 1"),
        rule("quantity(self.max).isLessThan(quantity('1'))"),
        rule("self.min == 1"),
    )
    wrong, left_out = rules_of(schema)
    assert [text.split(": ")[0] for text in wrong] == [
        f"properties[spec].{KEY}[0].rule",
        f"properties[spec].{KEY}[1].rule",
    ]
    assert "compilation failed" in wrong[0]
    assert "optional fields" in left_out[0]
    assert "is not supported here" in left_out[1]
    # What cannot be evaluated is not asked; the rest is.
    assert len(told(schema, {"min": 2})) == 1


def test_a_schema_without_rules_costs_nothing() -> None:
    assert not has_rules({"type": "object", "properties": {"a": STRING}})
    assert has_rules(spec({}, rule("true")))
    assert rules_of({"properties": [], KEY: "no"}) == ([], [])


def test_a_list_of_many_items_is_bounded() -> None:
    item = {"type": "integer", KEY: [rule("self >= 0")]}
    schema = spec({"many": {"type": "array", "items": item}})
    (text,) = told(schema, {"many": [0] * 6_000})
    assert "more than 5000 rules" in text
