"""Roles and bindings: who may what, what can-i says, and that nobody rises by writing them."""

from __future__ import annotations

import ssl
from dataclasses import replace
from typing import Any

import pytest

from fsm.kube import Forbidden, Invalid, KubeClient
from fsm.kube import resources as res
from fsm.kube.resources import Resource
from fsm.standalone.apiserver.rbac import Request, covers

RBAC = "rbac.authorization.k8s.io"
ROLES = Resource(RBAC, "v1", "roles", "Role")
BINDINGS = Resource(RBAC, "v1", "rolebindings", "RoleBinding")
CLUSTER_ROLES = Resource(RBAC, "v1", "clusterroles", "ClusterRole", namespaced=False)
CLUSTER_BINDINGS = Resource(
    RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False
)
ACCOUNT = {"kind": "ServiceAccount", "name": "default", "namespace": "default"}


async def as_account(api: KubeClient, namespace: str = "default") -> KubeClient:
    """The same server, asked by a ServiceAccount."""
    assert api.connection.tls is not None
    ders = api.connection.tls.get_ca_certs(binary_form=True)
    bare = ssl.create_default_context(cadata="".join(map(ssl.DER_cert_to_PEM_cert, ders)))
    token = await api.create_token(namespace, "default", [], 3600)
    return KubeClient(replace(api.connection, tls=bare, token=token))


def rule(groups: str, resources: str, verbs: str, names: str = "") -> dict[str, Any]:
    made: dict[str, Any] = {
        "apiGroups": groups.split(",") if groups else [""],
        "resources": resources.split(","),
        "verbs": verbs.split(","),
    }
    return made | {"resourceNames": names.split(",")} if names else made


def binding(name: str, kind: str, role: str, subject: dict[str, str] = ACCOUNT) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": kind, "name": role},
        "subjects": [subject],
    }


async def grant(api: KubeClient, *rules: dict[str, Any], name: str = "r") -> None:
    await api.create(ROLES, {"metadata": {"name": name}, "rules": list(rules)}, "default")
    await api.create(BINDINGS, binding(name, "Role", name), "default")


async def may(client: KubeClient, verb: str, resource: str, **more: str) -> bool:
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    asked = {"verb": verb, "resource": resource, "namespace": "default"} | more
    body = {"spec": {"resourceAttributes": asked}}
    return bool((await client.request("POST", path, "ask", body=body))["status"]["allowed"])


async def test_without_a_binding_an_account_may_look_around_and_no_more(api: KubeClient) -> None:
    # Also one of the mesh's namespace: it has the rights that its install manifests give it.
    await api.create(res.NAMESPACES, {"metadata": {"name": "fsm-system"}})
    for namespace in ("default", "fsm-system"):
        async with await as_account(api, namespace) as client:
            user = f'User "system:serviceaccount:{namespace}:default"'
            for attempt in (
                client.list(res.SECRETS),
                client.get(res.CONFIGMAPS, "x", "default"),
                client.delete(res.CONFIGMAPS, "x", "default"),
                client.create_token("default", "default", [], 3600),
                client.review_token("x"),
            ):
                with pytest.raises(Forbidden, match=user):
                    await attempt
            assert b"deployments" in await client.raw_get("/apis/apps/v1")
            assert not await may(client, "get", "pods")


async def test_a_role_gives_its_verbs_in_its_namespace_until_it_goes(api: KubeClient) -> None:
    await grant(api, rule("", "configmaps", "get,list"))
    await api.create(res.CONFIGMAPS, {"metadata": {"name": "x"}}, "default")
    async with await as_account(api) as client:
        assert await client.get(res.CONFIGMAPS, "x", "default")
        assert await client.list(res.CONFIGMAPS, "default")
        assert await may(client, "get", "configmaps", name="x")
        for attempt in (
            client.delete(res.CONFIGMAPS, "x", "default"),
            client.list(res.CONFIGMAPS),
            client.list(res.CONFIGMAPS, "kube-system"),
            client.list(res.SECRETS, "default"),
        ):
            with pytest.raises(Forbidden):
                await attempt
        assert not await may(client, "delete", "configmaps")
        assert not await may(client, "list", "configmaps", namespace="")
        await api.delete(BINDINGS, "r", "default")
        with pytest.raises(Forbidden):
            await client.get(res.CONFIGMAPS, "x", "default")


async def test_names_limit_a_rule_also_for_lists(api: KubeClient) -> None:
    await grant(api, rule("", "configmaps", "get,list,watch", "mine"))
    for name in ("mine", "yours"):
        await api.create(res.CONFIGMAPS, {"metadata": {"name": name}}, "default")
    async with await as_account(api) as client:
        assert await client.get(res.CONFIGMAPS, "mine", "default")
        one = await client.list(res.CONFIGMAPS, "default", fields="metadata.name=mine")
        assert [item["metadata"]["name"] for item in one.items] == ["mine"]
        for attempt in (
            client.get(res.CONFIGMAPS, "yours", "default"),
            client.list(res.CONFIGMAPS, "default"),
            client.list(res.CONFIGMAPS, "default", fields="metadata.name=yours"),
            client.list(res.CONFIGMAPS, "default", fields="metadata.name!=mine"),
        ):
            with pytest.raises(Forbidden):
                await attempt


async def test_groups_and_cluster_roles(api: KubeClient) -> None:
    everyone = {"kind": "Group", "name": "system:serviceaccounts:default"}
    await api.create(CLUSTER_BINDINGS, binding("all", "ClusterRole", "view", everyone))
    async with await as_account(api) as client:
        assert await client.list(res.PODS)
        with pytest.raises(Forbidden):
            await client.list(res.SECRETS)
        # `view` is an aggregate: another ClusterRole adds to it.
        assert not await may(client, "get", "widgets", group="example.com")
        label = {f"{RBAC}/aggregate-to-view": "true"}
        extra = {"metadata": {"name": "more", "labels": label}}
        extra["rules"] = [rule("example.com", "widgets", "get")]  # type: ignore[assignment]
        await api.create(CLUSTER_ROLES, extra)
        assert await may(client, "get", "widgets", group="example.com")


async def test_a_cluster_role_bound_in_a_namespace_counts_there_only(api: KubeClient) -> None:
    await api.create(BINDINGS, binding("admin", "ClusterRole", "cluster-admin"), "default")
    async with await as_account(api) as client:
        assert await client.list(res.SECRETS, "default")
        assert await client.get(res.NAMESPACES, "default")
        for attempt in (client.list(res.SECRETS, "kube-system"), client.list(res.NAMESPACES)):
            with pytest.raises(Forbidden):
                await attempt


async def test_nobody_gives_more_than_they_have(api: KubeClient) -> None:
    await grant(
        api,
        rule(RBAC, "roles,rolebindings", "create,patch"),
        rule("", "configmaps", "get,list"),
        name="mgr",
    )
    async with await as_account(api) as client:
        small = {"metadata": {"name": "small"}, "rules": [rule("", "configmaps", "get")]}
        await client.create(ROLES, small, "default")
        for number, given in enumerate(
            (
                rule("", "secrets", "get"),
                rule("", "configmaps", "*"),
                rule("", "*", "get"),
                rule("*", "configmaps", "get"),
            )
        ):
            body = {"metadata": {"name": f"big{number}"}, "rules": [given]}
            with pytest.raises(Forbidden, match="not currently held"):
                await client.create(ROLES, body, "default")
        await client.create(BINDINGS, binding("ok", "Role", "small"), "default")
        with pytest.raises(Forbidden, match="not currently held"):
            await client.create(BINDINGS, binding("up", "ClusterRole", "cluster-admin"), "default")
        with pytest.raises(Forbidden, match="not currently held"):
            await client.patch(ROLES, "small", {"rules": [rule("", "secrets", "*")]}, "default")
        # A label is no right.
        await client.patch(ROLES, "small", {"metadata": {"labels": {"a": "b"}}}, "default")
        await api.create(
            ROLES,
            {"metadata": {"name": "b"}, "rules": [rule(RBAC, "clusterroles", "bind", "view")]},
            "default",
        )
        await api.create(BINDINGS, binding("b", "Role", "b"), "default")
        await client.create(BINDINGS, binding("seen", "ClusterRole", "view"), "default")


async def test_broken_bindings_are_refused_and_dangling_ones_grant_nothing(api: KubeClient) -> None:
    await api.create(BINDINGS, binding("dangling", "Role", "ghost"), "default")
    async with await as_account(api) as client:
        assert not await may(client, "get", "pods")
    with pytest.raises(Invalid, match=r"roleRef\.kind"):
        await api.create(CLUSTER_BINDINGS, binding("x", "Role", "view"))
    nowhere = {"kind": "ServiceAccount", "name": "a"}
    with pytest.raises(Invalid, match=r"subjects\[0\]\.namespace"):
        await api.create(BINDINGS, binding("x", "ClusterRole", "view", nowhere), "default")
    with pytest.raises(Invalid, match="cannot change roleRef"):
        await api.patch(BINDINGS, "dangling", {"roleRef": {"name": "other"}}, "default")


@pytest.mark.parametrize(
    ("resources", "asked", "fits"),
    [
        (["pods"], Request("get", "", "pods"), True),
        (["pods"], Request("get", "", "pods", "log"), False),
        (["pods/log"], Request("get", "", "pods", "log"), True),
        (["*/log"], Request("get", "", "pods", "log"), True),
        (["*/log"], Request("get", "", "pods"), False),
        (["*"], Request("get", "", "pods", "log"), True),
        (["pods"], Request("get", "apps", "pods"), False),
        (["pods"], Request("list", "", "pods"), False),
        ([], Request("get", "", "pods"), False),
    ],
)
def test_what_a_rule_covers(resources: list[str], asked: Request, fits: bool) -> None:
    found = covers({"apiGroups": [""], "resources": resources, "verbs": ["get"]}, asked)
    assert found is fits
