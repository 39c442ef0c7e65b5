"""The pure pieces, each by a table: patches, apply, schemas, paths, cells, protobuf."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm.standalone.apiserver import (
    apply,
    bodies,
    columns,
    defaults,
    jsonpath,
    patch,
    protobuf,
    shapes,
    structural,
    urls,
)
from fsm.standalone.apiserver.crds import version_order
from fsm.standalone.apiserver.errors import StatusError
from fsm.standalone.apiserver.pod_state import pod_state
from fsm.standalone.apiserver.registry import BUILTIN
from fsm.standalone.apiserver.structural import SchemaError, Structural

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=20,
)

# RFC 7386, appendix A.
MERGES = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "change", "wanted"), MERGES)
def test_merge_patch_does_what_the_rfc_says(target: Any, change: Any, wanted: Any) -> None:
    assert patch.merge_patch(target, change) == wanted


def spec(*containers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"spec": {"containers": list(containers)} | more}


A, B = {"name": "a", "image": "1"}, {"name": "b", "image": "2"}
STRATEGIC = [
    ("merge by key", spec(A, B), spec({"name": "b", "image": "3"}), spec(A, B | {"image": "3"})),
    ("append", spec(A), spec(B), spec(A, B)),
    ("delete by key", spec(A, B), spec({"name": "a", "$patch": "delete"}), spec(B)),
    ("replace the list", spec(A), spec({"$patch": "replace"}, B), spec(B)),
    (
        "order",
        spec(A, B),
        {
            "spec": {
                "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
                "containers": [{"name": "b", "image": "3"}],
            }
        },
        spec(B | {"image": "3"}, A),
    ),
    (
        "set of values",
        {"metadata": {"finalizers": ["x", "y"]}},
        {"metadata": {"$deleteFromPrimitiveList/finalizers": ["x"], "finalizers": ["z", "y"]}},
        {"metadata": {"finalizers": ["y", "z"]}},
    ),
    (
        "list without key is replaced",
        spec(A | {"args": ["x"]}),
        spec({"name": "a", "args": ["y"]}),
        spec(A | {"args": ["y"]}),
    ),
    (
        "retain keys",
        {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}},
        {
            "spec": {
                "volumes": [
                    {"name": "v", "$retainKeys": ["name", "configMap"], "configMap": {"name": "c"}}
                ]
            }
        },
        {"spec": {"volumes": [{"name": "v", "configMap": {"name": "c"}}]}},
    ),
    ("null removes", spec(A, hostNetwork=True), {"spec": {"hostNetwork": None}}, spec(A)),
    (
        "map",
        {"metadata": {"labels": {"a": "1"}}},
        {"metadata": {"labels": {"b": "2"}}},
        {"metadata": {"labels": {"a": "1", "b": "2"}}},
    ),
]


@pytest.mark.parametrize(
    ("target", "change", "wanted"),
    [row[1:] for row in STRATEGIC],
    ids=[row[0] for row in STRATEGIC],
)
def test_strategic_merge(target: Any, change: Any, wanted: Any) -> None:
    assert patch.strategic_merge(target, change, "Pod") == wanted


def test_strategic_merge_without_key_is_refused() -> None:
    with pytest.raises(StatusError, match="merge key 'name'"):
        patch.strategic_merge(spec(A), spec({"image": "x"}), "Pod")
    with pytest.raises(StatusError, match="unknown \\$patch"):
        patch.strategic_merge(spec(A), {"spec": {"$patch": "explode"}}, "Pod")


def code_of(call: Callable[[], Any]) -> int | None:
    """The code of the refusal, or None; any other exception is a failure of the test."""
    try:
        call()
    except StatusError as error:
        return error.code
    return None


@given(JSON, JSON)
def test_patches_never_fail_in_unexpected_ways(target: Any, change: Any) -> None:
    base = {"metadata": {"name": "x"}, "spec": target}
    patch.merge_patch(base, change)
    for attempt in (
        lambda: patch.strategic_merge(base, {"spec": change}, "ConfigMap"),
        lambda: patch.json_patch(base, change),
        lambda: patch.json_patch(base, [{"op": "replace", "path": "/spec", "value": change}]),
    ):
        assert code_of(attempt) in (None, 400, 413, 422)


def test_shapes_cover_every_builtin_kind() -> None:
    for resource in BUILTIN:
        assert {"apiVersion", "kind", "metadata"} <= shapes.SHAPES[resource.kind].keys()


@given(JSON)
def test_any_json_can_be_checked(value: Any) -> None:
    cleaned, _ = shapes.check("Pod", {"spec": value, "metadata": value, "x": value})
    assert "x" not in cleaned


def test_checking_finds_everything_at_once() -> None:
    cleaned, problems = shapes.check(
        "Pod",
        {
            "metadata": {"labels": {"a": 1}, "zz": 1},
            "spec": {
                "containers": [
                    {
                        "image": "x",
                        "ports": [{"containerPort": True}],
                        "resources": {"limits": {"cpu": 1, "memory": "lots"}},
                    }
                ],
                "nodeName": None,
            },
        },
    )
    assert problems.unknown == ["metadata.zz"]
    assert [text.partition(":")[0] for text in problems.wrong] == [
        "metadata.labels.a",
        "spec.containers[0].ports[0].containerPort",
        "spec.containers[0].resources.limits.memory",
    ]
    assert problems.missing == ["spec.containers[0].name"]
    assert "nodeName" not in cleaned["spec"]
    assert cleaned["spec"]["containers"][0]["resources"]["limits"]["cpu"] == "1"


@pytest.mark.parametrize("kind", sorted(defaults._DEFAULTERS))
def test_defaults_are_stable(kind: str) -> None:
    template = {
        "spec": {
            "containers": [{"name": "c", "image": "x", "livenessProbe": {"httpGet": {"port": 1}}}],
            "volumes": [{"name": "v"}, {"name": "s", "secret": {}}],
        }
    }
    obj: dict[str, Any] = {"kind": kind, "metadata": {"name": "n", "uid": "u"}}
    if kind == "Pod":
        obj |= template
    elif kind not in ("Secret", "Namespace"):
        obj["spec"] = {"template": template, "names": {"kind": "K"}, "ports": [{"port": 1}]}
    defaults.apply_defaults(kind, obj)
    once = structural.orjson.dumps(obj)
    defaults.apply_defaults(kind, obj)
    assert structural.orjson.dumps(obj) == once


SCHEMA = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "port": {"x-kubernetes-int-or-string": True},
                "none": {"type": "string", "nullable": True},
                "free": {
                    "type": "object",
                    "x-kubernetes-preserve-unknown-fields": True,
                    "properties": {"known": {"type": "object", "properties": {}}},
                },
                "map": {"type": "object", "additionalProperties": {"type": "integer"}},
                "list": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": {"type": "string"},
                            "weight": {"type": "integer", "default": 1},
                        },
                    },
                },
                "above": {"type": "integer", "minimum": 0, "exclusiveMinimum": True},
                "when": {"type": "string", "format": "date-time"},
            },
        }
    },
}


def test_structural_schema_prunes_defaults_and_validates() -> None:
    schema = Structural(SCHEMA)
    obj = {
        "apiVersion": "g/v1",
        "kind": "K",
        "metadata": {"name": "n"},
        "extra": 1,
        "spec": {
            "port": "http",
            "none": None,
            "free": {"x": {"y": 1}, "known": {"z": 1}},
            "map": {"a": 1},
            "list": [{"name": "a", "junk": 1}],
            "above": 1,
        },
    }
    pruned, dropped = schema.prune(obj)
    assert dropped == ["spec.free.known.z", "spec.list[0].junk", "extra"] or set(dropped) == {
        "spec.free.known.z",
        "spec.list[0].junk",
        "extra",
    }
    assert pruned["spec"]["free"] == {"x": {"y": 1}, "known": {}}
    schema.defaults(pruned)
    assert pruned["spec"]["list"] == [{"name": "a", "weight": 1}]
    assert schema.causes(pruned) == []
    wrong = {
        "spec": {
            "port": 1.5,
            "map": {"a": "x"},
            "above": 0,
            "when": "yesterday",
            "list": [{"name": "a"}, {"name": "a"}, {}],
        }
    }
    assert [cause.field for cause in schema.causes(wrong)] == [
        "spec.above",
        "spec.list[1]",
        "spec.list[2].name",
        "spec.map.a",
        "spec.port",
        "spec.when",
    ]


@pytest.mark.parametrize(
    "broken",
    [
        {"type": "object", "properties": {"a": {"$ref": "#/x"}}},
        {"type": "objekt"},
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}},
        {"type": "object", "properties": {"a": 7}},
        {"type": "object", "required": "a"},
    ],
)
def test_unusable_schemas_are_refused(broken: Any) -> None:
    with pytest.raises(SchemaError):
        Structural(broken)


@given(JSON)
def test_any_json_can_be_validated(value: Any) -> None:
    schema = Structural(SCHEMA)
    pruned, _ = schema.prune({"spec": value})
    schema.defaults(pruned)
    schema.causes(pruned)


PATHS = [
    ("/api/v1/pods", ("", "v1", "", "pods", "", "")),
    ("/api/v1/namespaces/n/pods/p/log", ("", "v1", "n", "pods", "p", "log")),
    ("/api/v1/namespaces/n", ("", "v1", "", "namespaces", "n", "")),
    ("/api/v1/namespaces/n/finalize", ("", "v1", "", "namespaces", "n", "finalize")),
    ("/apis/apps/v1/deployments", ("apps", "v1", "", "deployments", "", "")),
    ("/apis/g/v1/namespaces/n/things/a%2Fb", ("g", "v1", "n", "things", "a/b", "")),
    ("/api", None),
    ("/api/v1", None),
    ("/apis/g/v1", None),
    ("/healthz", None),
    ("/api/v1//pods", None),
    ("/api/v1/namespaces/n/pods/p/log/more", None),
]


@pytest.mark.parametrize(("path", "wanted"), PATHS)
def test_urls_name_resources(path: str, wanted: Any) -> None:
    found = urls.parse(path)
    assert (
        found
        and (
            found.group,
            found.version,
            found.namespace,
            found.plural,
            found.name,
            found.subresource,
        )
    ) == wanted


def test_jsonpath_finds_what_columns_need() -> None:
    obj = {"a": {"b.c": 1, "list": [{"n": "x", "v": 1}, {"n": "y", "v": 2}]}}
    assert jsonpath.find(".a.list[*].n", obj) == ["x", "y"]
    assert jsonpath.find("{.a.list[1].v}", obj) == [2]
    assert jsonpath.find('.a.list[?(@.n=="y")].v', obj) == [2]
    assert jsonpath.find(r".a['b.c']", obj) == [1]
    assert jsonpath.find(r".a.b\.c", obj) == [1]
    assert jsonpath.find(".a.nothing.here[3]", obj) == []
    assert jsonpath.find(".a[[", obj) == []
    with pytest.raises(ValueError, match="cannot read"):
        jsonpath.compile_path(".a[[")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (185, "3m5s"),
        (600, "10m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 60, "3h1m"),
        (9 * 3600, "9h"),
        (47 * 3600, "47h"),
        (49 * 3600, "2d1h"),
        (10 * 86400, "10d"),
        (800 * 86400, "2y70d"),
        (-5, "<invalid>"),
    ],
)
def test_ages_read_as_in_kubectl(seconds: int, text: str) -> None:
    assert columns.human_duration(seconds) == text


def test_every_cell_survives_an_empty_object() -> None:
    now = datetime(2024, 1, 1, tzinfo=UTC)
    for known in columns.COLUMNS.values():
        for column in known:
            column.cell({"metadata": {"name": "x"}}, now)
    assert columns.age("2023-12-31T23:59:00Z", now + timedelta(seconds=1)) == "61s"


def container(state: str, **more: Any) -> dict[str, Any]:
    detail = {key: more.pop(key) for key in ("reason", "exitCode", "signal") if key in more}
    return {"name": "c", "state": {state: detail}} | more


POD_STATES: list[tuple[str, dict[str, Any], dict[str, Any], str, str]] = [
    ("new", {}, {}, "Pending", "0/1"),
    (
        "running",
        {},
        {"phase": "Running", "containerStatuses": [container("running", ready=True)]},
        "Running",
        "1/1",
    ),
    (
        "crashing",
        {},
        {
            "phase": "Running",
            "containerStatuses": [container("waiting", reason="CrashLoopBackOff", restartCount=3)],
        },
        "CrashLoopBackOff",
        "0/1",
    ),
    (
        "no image",
        {},
        {"containerStatuses": [container("waiting", reason="ErrImagePull")]},
        "ErrImagePull",
        "0/1",
    ),
    (
        "init",
        {"initContainers": [{"name": "a"}, {"name": "b"}]},
        {"initContainerStatuses": [container("terminated", exitCode=0), container("running")]},
        "Init:1/2",
        "0/1",
    ),
    (
        "init failed",
        {"initContainers": [{"name": "a"}]},
        {"initContainerStatuses": [container("terminated", exitCode=7)]},
        "Init:ExitCode:7",
        "0/1",
    ),
    (
        "sidecar",
        {"initContainers": [{"name": "c", "restartPolicy": "Always"}]},
        {
            "phase": "Running",
            "initContainerStatuses": [container("running", started=True, ready=True)],
            "containerStatuses": [container("running", ready=True)],
        },
        "Running",
        "2/2",
    ),
    (
        "done",
        {},
        {
            "phase": "Succeeded",
            "containerStatuses": [container("terminated", exitCode=0, reason="Completed")],
        },
        "Completed",
        "0/1",
    ),
    (
        "signal",
        {},
        {"phase": "Failed", "containerStatuses": [container("terminated", exitCode=137, signal=9)]},
        "Signal:9",
        "0/1",
    ),
]


@pytest.mark.parametrize(
    ("spec_", "status", "reason", "ready"),
    [row[1:] for row in POD_STATES],
    ids=[row[0] for row in POD_STATES],
)
def test_the_state_of_a_pod_in_one_word(spec_: Any, status: Any, reason: str, ready: str) -> None:
    found = pod_state({"spec": {"containers": [{"name": "c"}]} | spec_, "status": status})
    assert (found.reason, found.ready_text) == (reason, ready)
    gone = {"metadata": {"deletionTimestamp": "x"}, "status": {"phase": "Running"}}
    assert pod_state(gone).reason == "Terminating"


def test_versions_are_preferred_as_in_kubernetes() -> None:
    found = ["v1alpha1", "foo", "v2", "v1beta1", "v10", "v1", "v1alpha3"]
    assert sorted(found, key=version_order) == [
        "v10",
        "v2",
        "v1",
        "v1beta1",
        "v1alpha3",
        "v1alpha1",
        "foo",
    ]


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def entry(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def body(kind: bytes, raw: bytes) -> bytes:
    return b"k8s\x00" + entry(1, entry(1, b"v1") + entry(2, kind)) + entry(2, raw)


def test_protobuf_reads_a_config_map() -> None:
    meta = (
        entry(1, b"name")
        + entry(3, b"ns")
        + entry(8, b"")
        + entry(11, entry(1, b"a") + entry(2, b"b"))
    )
    raw = entry(1, meta) + entry(2, entry(1, b"k") + entry(2, b"v")) + entry(4, 0)
    assert protobuf.decode(body(b"ConfigMap", raw)) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "name", "namespace": "ns", "labels": {"a": "b"}},
        "data": {"k": "v"},
        "immutable": False,
    }


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (b"nothing", "does not begin"),
        (b"k8s\x00\x0a\xff", "ends inside"),
        (body(b"ConfigMap", entry(99, 1)), "field number 99"),
        (body(b"ConfigMap", entry(1, 7)), "where a message belongs"),
        (body(b"Starship", b""), "only be sent as JSON"),
    ],
)
def test_protobuf_that_makes_no_sense_is_refused(bad: bytes, words: str) -> None:
    with pytest.raises(StatusError, match=words):
        protobuf.decode(bad)


@given(st.sampled_from(sorted(protobuf.MESSAGES)), st.binary(max_size=200))
def test_no_bytes_break_the_protobuf_reader(kind: str, raw: bytes) -> None:
    assert code_of(lambda: protobuf.decode(body(kind.encode(), raw))) in (None, 400, 415)


@given(st.binary(max_size=200), st.sampled_from(["application/json", "application/yaml"]))
def test_no_bytes_break_the_body_reader(raw: bytes, kind: str) -> None:
    assert code_of(lambda: bodies.decode_body(raw, kind)) in (None, 400)


@given(JSON, JSON)
def test_applying_an_intent_twice_changes_nothing_more(current: Any, wanted: Any) -> None:
    node = apply.Node(schema={"type": "object"})
    once = apply.merge(current, wanted, node)
    assert apply.merge(once, wanted, node) == once
