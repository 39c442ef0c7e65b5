"""Whatever bytes come in, the API server answers a Status in words and goes on.

First each parser by itself, with text made at random from what it looks for; then a running server,
through its own socket, with requests put together from the same parts.
"""

from __future__ import annotations

import json
import random
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm.standalone.apiserver import (
    ApiServerSettings,
    jsonpath,
    patch,
    protobuf,
    selectors,
    urls,
)
from fsm.standalone.apiserver.errors import StatusError
from fsm.standalone.apiserver.spdy import Codec, SpdyError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=15,
)


def in_words(error: StatusError) -> None:
    """Check that the client is told what is wrong with what it sent."""
    assert 400 <= error.code < 500
    assert error.message


def pieces(*words: str) -> st.SearchStrategy[str]:
    """Make text of what a parser looks for, mixed with what it does not expect."""
    return st.lists(st.sampled_from(words) | st.text(max_size=3), max_size=12).map("".join)


@given(pieces("a", "app", "=", "==", "!=", "!", " in ", " notin ", "(", ")", ",", " ", "/", "."))
def test_label_selectors(text: str) -> None:
    try:
        test = selectors.label_selector(text)
    except StatusError as error:
        in_words(error)
        return
    assert test({"app": "a"}) in (True, False)


@given(pieces("metadata.name", "status.phase", "=", "!=", ",", "\\", "x", "spec."))
def test_field_selectors(text: str) -> None:
    try:
        test = selectors.field_selector(text, ("", "pods"))
    except StatusError as error:
        in_words(error)
        return
    assert test({"metadata": {"name": "x"}}) in (True, False)


@given(pieces(".", "[", "]", "*", "0", "-1", "'", '"', "?(", "@", "==", "spec", "{", "}"), JSON)
def test_json_paths(path: str, value: Any) -> None:
    try:
        found = jsonpath.find(path, value)
    except (StatusError, ValueError):
        return
    assert isinstance(found, list)


@given(pieces("/api", "/apis", "/v1", "/namespaces", "/pods", "/a", "%2F", "%", "..", "//", "%00"))
def test_paths(text: str) -> None:
    try:
        urls.parse(text)
    except StatusError as error:
        in_words(error)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4), JSON)
def test_merge_patch_gives_an_object_for_an_object(target: dict[str, Any], change: Any) -> None:
    merged = patch.merge_patch(target, change)
    assert isinstance(merged, dict) or not isinstance(change, dict)


OPERATION = st.fixed_dictionaries(
    {},
    optional={
        "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "x"]) | JSON,
        "path": pieces("/", "a", "0", "-", "~0", "~1", "~2") | JSON,
        "from": pieces("/", "a", "0") | JSON,
        "value": JSON,
    },
)


@given(st.dictionaries(st.sampled_from("ab"), JSON), st.lists(OPERATION, max_size=4) | JSON)
def test_json_patch(target: dict[str, Any], operations: Any) -> None:
    try:
        patched = patch.json_patch(target, operations)
    except StatusError as error:
        in_words(error)
        return
    assert isinstance(patched, dict)


POD_PATCH = st.dictionaries(
    st.sampled_from(
        ["spec", "containers", "$patch", "name", "$deleteFromPrimitiveList/finalizers"]
    ),
    JSON
    | st.fixed_dictionaries(
        {
            "containers": st.lists(
                st.dictionaries(st.sampled_from(["name", "$patch", "env", "ports"]), JSON)
            )
            | JSON,
            "$setElementOrder/containers": JSON,
        }
    ),
    max_size=4,
)


@given(POD_PATCH)
def test_strategic_merge(change: dict[str, Any]) -> None:
    target = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "x"}]}}
    before = json.dumps(target)
    try:
        patched = patch.strategic_merge(target, change, "Pod")
    except StatusError as error:
        in_words(error)
    else:
        assert isinstance(patched, dict)
    assert json.dumps(target) == before


_KINDS = b"\x0a\x09\x0a\x02v1\x12\x03Pod"


@given(st.binary(max_size=200), st.booleans())
def test_protobuf(data: bytes, led: bool) -> None:
    body = b"k8s\x00" + (_KINDS + b"\x12" + bytes([len(data) % 128]) if led else b"") + data
    try:
        decoded = protobuf.decode(body)
    except StatusError as error:
        in_words(error)
        return
    assert isinstance(decoded, dict)


@given(st.lists(st.binary(max_size=64), max_size=5), st.booleans())
def test_spdy(chunks: list[bytes], led: bool) -> None:
    codec = Codec()
    try:
        for chunk in chunks:
            codec.receive((b"\x80\x03\x00\x01" + chunk) if led else chunk)
    except SpdyError:
        return


METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD")
PATHS = (
    "/api/v1/namespaces/default/configmaps",
    "/api/v1/namespaces/default/configmaps/x",
    "/api/v1/namespaces/default/pods/x/exec",
    "/api/v1/namespaces/default/pods/x/log",
    "/api/v1/pods",
    "/apis/apps/v1/namespaces/default/deployments",
    "/apis/apps/v1/namespaces/default/deployments/x/scale",
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "/apis/authorization.k8s.io/v1/subjectaccessreviews",
    "/api/v1/namespaces/default/serviceaccounts/default/token",
    "/apis/nobody/v9/things",
    "/openapi/v3/api/v1",
)
TYPES = (
    "application/json",
    "application/yaml",
    "application/merge-patch+json",
    "application/json-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/vnd.kubernetes.protobuf",
    "text/plain",
)
QUERIES = (
    {"limit": "-1"},
    {"limit": "2", "continue": "%%%"},
    {"labelSelector": "a in (b"},
    {"fieldSelector": "x=1,=2"},
    {"resourceVersion": "99999999999999999999"},
    {"dryRun": "Some"},
    {"fieldManager": "m" * 500, "force": "true"},
    {"propagationPolicy": "Sideways"},
    {"tailLines": "many"},
    {"timeoutSeconds": "1e9"},
    {},
)


def bodies(dice: random.Random) -> bytes:
    name: Any = dice.choice(["x", "", "../..", 7, None, "x" * 300, {"a": 1}, "\u0000"])
    made: Any = {
        "apiVersion": dice.choice(["v1", "apps/v1", "", 3, None]),
        "kind": dice.choice(["ConfigMap", "Deployment", "Pod", 3, None]),
        "metadata": dice.choice(
            [None, [], "x", {"name": name, "labels": {"a": 1}, "ownerReferences": [{}], "uid": 3}]
        ),
        "spec": dice.choice([None, [], 5, {"replicas": "many", "template": []}, {"a": [[[]]]}]),
        "data": dice.choice([None, {"k": 5}, {"k": "v"}, "text"]),
    }
    whole = dice.choice([made, [made], [{"op": "add", "path": 3}], "text", None, 1e400])
    text = json.dumps(whole).encode()
    cut = text[: dice.randrange(len(text) + 1)]
    deep = b"[" * 5000
    return dice.choice(
        [text, text, text, cut, deep, b"\xff\xfe\x00", b"k8s\x00" + cut, b"a: &a *a"]
    )


@pytest.mark.parametrize("seed", range(8))
async def test_a_running_server_answers_everything_in_words(
    running: ApiServerSettings, seed: int
) -> None:
    dice = random.Random(seed)
    connector = aiohttp.UnixConnector(str(running.state_dir / "api.sock"))
    async with aiohttp.ClientSession(connector=connector) as session:
        for _ in range(120):
            method, path, query = dice.choice(METHODS), dice.choice(PATHS), dice.choice(QUERIES)
            kind, body = dice.choice(TYPES), bodies(dice)
            told = f"seed {seed}: {method} {path} {query} {kind} {body[:200]!r}"
            async with session.request(
                method,
                f"http://api{path}",
                params=query,
                data=None if method in ("GET", "HEAD", "OPTIONS") else body,
                headers={"Content-Type": kind},
                timeout=aiohttp.ClientTimeout(total=10),
            ) as answer:
                said = await answer.read()
            assert answer.status != 500, f"{told}\n{said!r}"
            if answer.status >= 400 and method != "HEAD":
                status = json.loads(said)
                assert status["kind"] == "Status", told
                assert status["message"], told
        async with session.get("http://api/readyz") as answer:
            assert answer.status == 200
