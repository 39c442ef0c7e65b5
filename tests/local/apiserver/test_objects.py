"""Create, read, update, delete: what holds for every kind, asked through our own client."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import aiohttp
import pytest

from fsm.kube import (
    AlreadyExists,
    ApiError,
    ClientSettings,
    Conflict,
    Forbidden,
    Invalid,
    KubeClient,
    NotFound,
)
from fsm.kube import resources as res
from fsm.kube.resources import Resource
from fsm.standalone.apiserver import ApiServerSettings


def config_map(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default"}} | more


def pod(name: str, **spec: Any) -> dict[str, Any]:
    body = {"containers": [{"name": "c", "image": "x:1"}]} | spec
    return {"metadata": {"name": name, "namespace": "default"}, "spec": body}


async def test_created_object_has_identity_and_defaults(api: KubeClient) -> None:
    made = await api.create(res.PODS, pod("p") | {"status": {"phase": "Running"}})
    meta = made["metadata"]
    assert meta["uid"]
    assert int(meta["resourceVersion"]) > 0
    assert made["spec"]["restartPolicy"] == "Always"
    assert made["spec"]["serviceAccountName"] == "default"
    # Status is for the agent to write, not for whoever creates the Pod.
    assert made["status"]["phase"] == "Pending"
    assert await api.get(res.PODS, "p", "default") == made
    with pytest.raises(AlreadyExists, match='pods "p" already exists'):
        await api.create(res.PODS, pod("p"))


async def test_generated_names_differ(api: KubeClient) -> None:
    body = {"metadata": {"generateName": "job-", "namespace": "default"}}
    names = {(await api.create(res.CONFIGMAPS, body))["metadata"]["name"] for _ in range(20)}
    assert len(names) == 20
    assert all(name.startswith("job-") for name in names)


async def test_missing_namespace_and_account_are_told(api: KubeClient) -> None:
    with pytest.raises(NotFound, match='namespaces "nowhere" not found'):
        await api.create(res.CONFIGMAPS, {"metadata": {"name": "a"}}, "nowhere")
    with pytest.raises(Forbidden, match='serviceaccount "ghost" not found'):
        await api.create(res.PODS, pod("p", serviceAccountName="ghost"))


async def test_every_namespace_has_account_and_authority(api: KubeClient) -> None:
    await api.create(res.NAMESPACES, {"metadata": {"name": "shop"}})
    assert await api.get(res.SERVICEACCOUNTS, "default", "shop")
    found = await api.get(res.CONFIGMAPS, "kube-root-ca.crt", "shop")
    assert found["data"]["ca.crt"].startswith("-----BEGIN CERTIFICATE-----")


async def test_replace_of_an_old_version_is_a_conflict(api: KubeClient) -> None:
    first = await api.create(res.CONFIGMAPS, config_map("c", data={"a": "1"}))
    second = await api.replace(res.CONFIGMAPS, first | {"data": {"a": "2"}})
    with pytest.raises(Conflict, match="modified"):
        await api.replace(res.CONFIGMAPS, first | {"data": {"a": "3"}})
    same = await api.replace(res.CONFIGMAPS, second)
    assert same["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]
    stale = {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}, "data": {}}
    with pytest.raises(Conflict):
        await api.patch(res.CONFIGMAPS, "c", stale, "default")
    with pytest.raises(Conflict, match="UID"):
        await api.delete(res.CONFIGMAPS, "c", "default", uid="another")


async def test_concurrent_patches_all_count(api: KubeClient) -> None:
    await api.create(res.CONFIGMAPS, config_map("c", data={}))
    await asyncio.gather(
        *(api.patch(res.CONFIGMAPS, "c", {"data": {f"k{i}": str(i)}}, "default") for i in range(50))
    )
    found = await api.get(res.CONFIGMAPS, "c", "default")
    assert found["data"] == {f"k{i}": str(i) for i in range(50)}


async def test_json_patch_that_does_not_fit_changes_nothing(api: KubeClient) -> None:
    made = await api.create(res.CONFIGMAPS, config_map("c", data={"a": "1"}))
    operations = [
        {"op": "replace", "path": "/data/a", "value": "2"},
        {"op": "test", "path": "/data/a", "value": "other"},
    ]
    with pytest.raises(Invalid):
        await api.patch(res.CONFIGMAPS, "c", operations, "default", kind="json")
    for broken in ({"op": "replace"}, [{"op": "fly", "path": "/a"}], [7], [{"path": 1}]):
        with pytest.raises(ApiError) as caught:
            await api.patch(res.CONFIGMAPS, "c", broken, "default", kind="json")
        assert caught.value.status in (400, 422)
    assert await api.get(res.CONFIGMAPS, "c", "default") == made


async def test_finalizers_hold_an_object_until_they_are_gone(api: KubeClient) -> None:
    held = config_map("c")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    await api.create(res.CONFIGMAPS, held)
    await api.delete(res.CONFIGMAPS, "c", "default")
    found = await api.get(res.CONFIGMAPS, "c", "default")
    assert found["metadata"]["deletionTimestamp"]
    more = {"metadata": {"finalizers": ["example.com/hold", "example.com/new"]}}
    still = await api.patch(res.CONFIGMAPS, "c", more, "default")
    assert still["metadata"]["finalizers"] == ["example.com/hold"]
    await api.patch(res.CONFIGMAPS, "c", {"metadata": {"finalizers": None}}, "default")
    with pytest.raises(NotFound):
        await api.get(res.CONFIGMAPS, "c", "default")


async def test_a_pod_on_a_node_goes_when_its_agent_says_so(api: KubeClient) -> None:
    await api.create(res.PODS, pod("p", terminationGracePeriodSeconds=7))
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "box"}}
    path = res.PODS.path("default", "p", "binding")
    await api.request("POST", path, "bind p", body=binding)
    with pytest.raises(Conflict, match="already assigned to box"):
        await api.request("POST", path, "bind p", body=binding)
    assert (await api.get(res.PODS, "p", "default"))["spec"]["nodeName"] == "box"
    going = await api.delete(res.PODS, "p", "default")
    assert going["metadata"]["deletionGracePeriodSeconds"] == 7
    # Status goes on being written while it ends, and asking again changes nothing.
    await api.patch_status(res.PODS, "p", {"phase": "Running"}, "default")
    again = await api.delete(res.PODS, "p", "default")
    assert again["metadata"]["deletionTimestamp"] == going["metadata"]["deletionTimestamp"]
    await api.delete(res.PODS, "p", "default", grace_seconds=0)
    with pytest.raises(NotFound):
        await api.get(res.PODS, "p", "default")


async def test_a_pod_without_node_goes_at_once(api: KubeClient) -> None:
    await api.create(res.PODS, pod("p"))
    answer = await api.delete(res.PODS, "p", "default")
    assert answer["status"] == "Success"
    with pytest.raises(NotFound):
        await api.get(res.PODS, "p", "default")


async def test_most_of_a_pod_cannot_change(api: KubeClient) -> None:
    await api.create(res.PODS, pod("p"))
    with pytest.raises(Invalid, match="may not change restartPolicy"):
        await api.patch(res.PODS, "p", {"spec": {"restartPolicy": "Never"}}, "default")
    image = {"spec": {"containers": [{"name": "c", "image": "x:2"}]}}
    changed = await api.patch(res.PODS, "p", image, "default", kind="strategic")
    assert changed["spec"]["containers"][0]["image"] == "x:2"


async def test_status_and_the_rest_are_written_apart(api: KubeClient) -> None:
    await api.create(res.PODS, pod("p"))
    await api.patch_status(res.PODS, "p", {"podIP": "10.1.1.1"}, "default")
    body = {"metadata": {"labels": {"a": "b"}}, "status": {"podIP": "6.6.6.6"}}
    found = await api.patch(res.PODS, "p", body, "default")
    assert found["status"]["podIP"] == "10.1.1.1"
    assert found["metadata"]["labels"] == {"a": "b"}
    found = await api.patch(res.PODS, "p", body, "default", subresource="status")
    assert found["status"]["podIP"] == "6.6.6.6"
    assert found["metadata"]["generation"] == 1


async def test_services_get_addresses_and_keep_them(api: KubeClient) -> None:
    def service(name: str, **spec: Any) -> dict[str, Any]:
        spec = {"ports": [{"port": 80}]} | spec
        return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}

    made = [await api.create(res.SERVICES, service(f"s{i}")) for i in range(20)]
    addresses = {item["spec"]["clusterIP"] for item in made}
    assert len(addresses) == 20
    kept = await api.replace(res.SERVICES, service("s0", ports=[{"port": 81}]))
    assert kept["spec"]["clusterIP"] == made[0]["spec"]["clusterIP"]
    with pytest.raises(Invalid, match="immutable"):
        await api.patch(res.SERVICES, "s0", {"spec": {"clusterIP": "10.96.9.9"}}, "default")
    taken = made[1]["spec"]["clusterIP"]
    with pytest.raises(Invalid, match="already allocated"):
        await api.create(res.SERVICES, service("thief", clusterIP=taken))
    with pytest.raises(Invalid, match="not in the valid range"):
        await api.create(res.SERVICES, service("far", clusterIP="192.168.0.1"))
    headless = await api.create(res.SERVICES, service("headless", clusterIP="None"))
    assert headless["spec"]["clusterIP"] == "None"
    node = await api.create(res.SERVICES, service("node", type="NodePort"))
    assert 30000 <= node["spec"]["ports"][0]["nodePort"] <= 32767
    dns = await api.create(res.SERVICES, service("dns", clusterIP="10.96.0.10"))
    assert dns["spec"]["clusterIPs"] == ["10.96.0.10"]
    await api.delete(res.SERVICES, "s1", "default")
    reused = await api.create(res.SERVICES, service("thief", clusterIP=taken))
    assert reused["spec"]["clusterIP"] == taken


async def test_lists_come_in_pages_and_selections(api: KubeClient) -> None:
    for i in range(25):
        body = config_map(f"c{i:02}", data={})
        body["metadata"]["labels"] = {"half": "low" if i < 12 else "high", f"n{i}": ""}
        await api.create(res.CONFIGMAPS, body)
    paged = KubeClient(api.connection, ClientSettings(page_size=7))
    async with paged:
        listed = await paged.list(res.CONFIGMAPS, "default", labels="half")
    names = [item["metadata"]["name"] for item in listed.items]
    assert names == [f"c{i:02}" for i in range(25)]
    assert listed.items[0]["kind"] == "ConfigMap"

    async def count(labels: str) -> int:
        return len((await api.list(res.CONFIGMAPS, "default", labels=labels)).items)

    assert await count("half=low") == 12
    assert await count("half!=low") == 14  # and kube-root-ca.crt, which has no such label
    assert await count("half in (low, high),n3") == 1
    assert await count("half,!n3") == 24
    assert await count("half notin (low)") == 14
    for bad in ("half=(", "=x", "a in b", "a,,b", "-=-"):
        with pytest.raises(ApiError, match="unable to parse"):
            await count(bad)


async def test_orphans_outlive_their_owner(api: KubeClient) -> None:
    owner = await api.create(res.CONFIGMAPS, config_map("owner"))
    child = config_map("child")
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner"}
    child["metadata"]["ownerReferences"] = [reference | {"uid": owner["metadata"]["uid"]}]
    await api.create(res.CONFIGMAPS, child)
    await api.delete(res.CONFIGMAPS, "owner", "default", propagation="Orphan")
    left = await api.get(res.CONFIGMAPS, "child", "default")
    assert not left["metadata"].get("ownerReferences")


async def test_collections_are_deleted_by_selector(api: KubeClient) -> None:
    for name, label in (("a", "x"), ("b", "x"), ("c", "y")):
        body = config_map(name)
        body["metadata"]["labels"] = {"l": label}
        await api.create(res.CONFIGMAPS, body)
    path = res.CONFIGMAPS.path("default")
    await api.request("DELETE", path, "delete all", query={"labelSelector": "l=x"})
    left = await api.list(res.CONFIGMAPS, "default", labels="l")
    assert [item["metadata"]["name"] for item in left.items] == ["c"]


HOSTILE_NAMES = [
    "..",
    ".",
    "a b",
    "a/b",
    "../../etc/passwd",
    "UPPER",
    "-a",
    "a-",
    "ä",
    "a\x00b",
    "x" * 254,
    "%2e%2e",
    "a..b",
    "a\nb",
    "'; DROP TABLE objects; --",
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
async def test_hostile_names_are_refused(api: KubeClient, name: str) -> None:
    with pytest.raises(Invalid, match=r"metadata\.name"):
        await api.create(res.CONFIGMAPS, config_map(name))
    with pytest.raises(ApiError):
        await api.get(res.CONFIGMAPS, name, "default")


async def test_unknown_kinds_and_paths_are_told(api: KubeClient) -> None:
    with pytest.raises(NotFound, match="could not find the requested resource"):
        await api.list(Resource("nobody.example.com", "v1", "things", "Thing"))
    for path in (
        "/",
        "/api/v2",
        "/apis/apps/v9/deployments",
        "/api/v1/namespaces//pods",
        "/api/v1/pods/x",
        "/apis/apps",
        "/metrics",
    ):
        if path == "/apis/apps":
            assert b"preferredVersion" in await api.raw_get(path)
        else:
            with pytest.raises(NotFound):
                await api.raw_get(path)


async def test_bodies_that_make_no_sense_are_refused_in_words(
    api: KubeClient, running: ApiServerSettings
) -> None:
    socket = running.state_dir / "api.sock"
    url = "http://localhost" + res.CONFIGMAPS.path("default")
    deep = b"[" * 100_000 + b"]" * 100_000
    cases: list[tuple[bytes, str, int, str]] = [
        (b"{", "application/json", 400, "not valid JSON"),
        (b"", "application/json", 400, "must be a ConfigMap"),
        (b"[]", "application/json", 400, "must be a ConfigMap"),
        (b'"text"', "application/json", 400, "must be a ConfigMap"),
        (b"\xff\xfe", "application/json", 400, "not valid JSON"),
        (b'{"metadata": 7}', "application/json", 400, "metadata"),
        (b'{"metadata": {"name": 7}}', "application/json", 400, "expected a string"),
        (b'{"kind": "Pod"}', "application/json", 400, "takes ConfigMap"),
        (b'{"apiVersion": "v7"}', "application/json", 400, "does not match"),
        (b"a: [", "application/yaml", 400, "not valid YAML"),
        (b"a: &x [1]\nb: *x", "application/yaml", 400, "aliases"),
        (b"!!python/object/apply:os.system [id]", "application/yaml", 400, "not valid YAML"),
        (b"<a/>", "application/xml", 415, "unknown format"),
        (b"k8s\x00\xff\xff\xff", "application/vnd.kubernetes.protobuf", 400, "protobuf"),
        (deep, "application/json", 400, ""),
        (
            b'{"metadata":{"name":"big"},"data":{"k":"' + b"x" * (4 << 20) + b'"}}',
            "application/json",
            413,
            "too large",
        ),
    ]
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as session:
        for body, kind, code, words in cases:
            headers = {"Content-Type": kind}
            async with session.post(url, data=io.BytesIO(body), headers=headers) as answer:
                told = await answer.json()
                assert (answer.status, told["kind"], told["code"]) == (code, "Status", code), body
                assert words in told["message"], (body[:80], told["message"])
    # And after all that, it serves.
    assert await api.raw_get("/readyz") == b"ok"


async def test_yaml_is_accepted_too(running: ApiServerSettings) -> None:
    socket = running.state_dir / "api.sock"
    body = b"metadata: {name: y}\ndata: {when: 2020-01-01, on: 'yes'}\n"
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as session,
        session.post(
            "http://localhost" + res.CONFIGMAPS.path("default"),
            data=body,
            headers={"Content-Type": "application/yaml"},
        ) as answer,
    ):
        assert answer.status == 400  # `on` is a boolean key in YAML 1.1, and keys are strings
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as session,
        session.post(
            "http://localhost" + res.CONFIGMAPS.path("default"),
            data=body.replace(b"on:", b"key:"),
            headers={"Content-Type": "application/yaml"},
        ) as answer,
    ):
        assert (await answer.json())["data"] == {"when": "2020-01-01", "key": "yes"}
