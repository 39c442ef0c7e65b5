"""Who may what: certificates, ServiceAccount tokens and what they are bound to."""

from __future__ import annotations

import ssl
import stat
from dataclasses import replace
from typing import Any

import aiohttp
import jwt
import pytest

from fsm.kube import Invalid, KubeClient, NotFound, Unauthenticated, Unauthorized
from fsm.kube import resources as res
from fsm.standalone.apiserver import ApiServerSettings


def as_token(api: KubeClient, token: str | None) -> KubeClient:
    """The same server, trusted the same, but without the administrator's certificate."""
    assert api.connection.tls is not None
    bare = ssl.create_default_context(cadata=_authority(api))
    return KubeClient(replace(api.connection, tls=bare, token=token))


def _authority(api: KubeClient) -> str:
    assert api.connection.tls is not None
    return "".join(
        ssl.DER_cert_to_PEM_cert(der) for der in api.connection.tls.get_ca_certs(binary_form=True)
    )


async def running_pod(api: KubeClient, name: str = "p") -> dict[str, Any]:
    spec = {"containers": [{"name": "c", "image": "x:1"}]}
    return await api.create(res.PODS, {"metadata": {"name": name}, "spec": spec}, "default")


async def bound_token(api: KubeClient, pod: dict[str, Any], audiences: list[str]) -> str:
    reference = {
        "kind": "Pod",
        "apiVersion": "v1",
        "name": pod["metadata"]["name"],
        "uid": pod["metadata"]["uid"],
    }
    spec = {"audiences": audiences, "expirationSeconds": 3600, "boundObjectRef": reference}
    path = res.SERVICEACCOUNTS.path("default", "default", "token")
    answer = await api.request("POST", path, "issue", body={"spec": spec})
    return str(answer["status"]["token"])


async def test_a_token_names_its_account_and_pod(api: KubeClient) -> None:
    pod = await running_pod(api)
    token = await bound_token(api, pod, ["fsm-controller"])
    found = await api.review_token(token, ["fsm-controller"])
    assert (found.namespace, found.service_account) == ("default", "default")
    assert (found.pod_name, found.pod_uid) == ("p", pod["metadata"]["uid"])
    plain = await api.create_token("default", "default", ["a", "b"], 600)
    assert (await api.review_token(plain, ["b"])).pod_name is None


async def test_a_token_for_others_is_not_ours(api: KubeClient) -> None:
    token = await api.create_token("default", "default", ["someone-else"], 3600)
    with pytest.raises(Unauthenticated, match="someone-else"):
        await api.review_token(token, ["fsm-controller"])
    with pytest.raises(Unauthenticated):
        await api.review_token(token)
    async with as_token(api, token) as client:
        with pytest.raises(Unauthorized):
            await client.list(res.PODS, "default")


async def test_forged_tokens_are_refused(api: KubeClient) -> None:
    token = await api.create_token("default", "default", ["a"], 3600)
    head, body, signature = token.split(".")
    claims = jwt.decode(token, options={"verify_signature": False})
    forged = [
        "",
        "x",
        "a.b.c",
        f"{head}.{body}.{signature[:-4]}AAAA",
        f"{head}.{body}.",
        jwt.encode(claims, "secret" * 10, "HS256"),
        jwt.encode(claims, None, "none"),
    ]
    for text in forged:
        with pytest.raises(Unauthenticated):
            await api.review_token(text, ["a"])


async def test_a_token_dies_with_its_pod_and_its_account(api: KubeClient) -> None:
    token = await bound_token(api, await running_pod(api), ["a"])
    await api.delete(res.PODS, "p", "default", grace_seconds=0)
    with pytest.raises(Unauthenticated, match="Pod default/p, which is gone"):
        await api.review_token(token, ["a"])
    # Another Pod of that name is another Pod.
    await running_pod(api)
    with pytest.raises(Unauthenticated):
        await api.review_token(token, ["a"])
    await api.create(res.SERVICEACCOUNTS, {"metadata": {"name": "s"}}, "default")
    token = await api.create_token("default", "s", ["a"], 3600)
    await api.delete(res.SERVICEACCOUNTS, "s", "default")
    with pytest.raises(Unauthenticated, match="ServiceAccount default/s"):
        await api.review_token(token, ["a"])


async def test_token_requests_are_checked(api: KubeClient) -> None:
    with pytest.raises(NotFound, match='serviceaccounts "ghost"'):
        await api.create_token("default", "ghost", [], 3600)
    with pytest.raises(Invalid, match="less than 10 minutes"):
        await api.create_token("default", "default", [], 5)
    await api.create(res.SERVICEACCOUNTS, {"metadata": {"name": "other"}}, "default")
    pod = await running_pod(api)
    path = res.SERVICEACCOUNTS.path("default", "other", "token")
    spec = {"boundObjectRef": {"kind": "Pod", "name": pod["metadata"]["name"]}}
    with pytest.raises(Exception, match="which runs as default"):
        await api.request("POST", path, "issue", body={"spec": spec})


async def test_strangers_see_health_only(api: KubeClient) -> None:
    async with as_token(api, None) as client:
        assert await client.raw_get("/healthz") == b"ok"
        for path in ("/api", "/api/v1/pods", "/nonsense", "/openapi/v3"):
            with pytest.raises(Unauthorized):
                await client.raw_get(path)
    async with as_token(api, "nonsense") as client:
        with pytest.raises(Unauthorized):
            await client.raw_get("/version")


async def test_secrets_on_disk_are_for_the_owner_only(running: ApiServerSettings) -> None:
    state = running.state_dir
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    for name in ("kubeconfig", "api.sock", "pki/ca.key", "pki/server.key", "pki/server.pem"):
        assert stat.S_IMODE((state / name).stat().st_mode) == 0o600, name


async def test_the_unix_socket_speaks_for_the_administrator(running: ApiServerSettings) -> None:
    async with KubeClient.from_unix_socket(running.state_dir / "api.sock") as client:
        assert await client.list(res.SECRETS)


async def test_public_keys_are_published_for_other_verifiers(api: KubeClient) -> None:
    token = await api.create_token("default", "default", ["elsewhere"], 3600)
    keys = jwt.PyJWKSet.from_json((await api.raw_get("/openid/v1/jwks")).decode())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key.key, algorithms=["ES256"], audience="elsewhere")
    assert claims["sub"] == "system:serviceaccount:default:default"


async def test_a_certificate_of_another_authority_is_no_way_in(api: KubeClient) -> None:
    from fsm.standalone.apiserver import pki

    class Elsewhere:
        pair = pki._make_ca()

    stranger = pki._issue(Elsewhere.pair, "kubernetes-admin", ("system:masters",), ())
    context = ssl.create_default_context(cadata=_authority(api))
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        file.write(stranger.certificate + stranger.key)
        file.flush()
        context.load_cert_chain(file.name)
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(connector=connector) as session:
        with pytest.raises((aiohttp.ClientError, OSError)):
            await session.get(api.connection.server + "/api/v1/secrets")
