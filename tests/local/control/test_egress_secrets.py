"""The certificates that Egresses name: read from their Secrets, followed as they change."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from controlworld import BUYER, STORE, follow, last, running, workload

from fsm.ca import Tresor, new_root
from fsm.ca.kept import secret_data
from fsm.controllers.egress_secrets import EgressSecrets, credentials_of
from fsm.controllers.world import POLICY_KINDS
from fsm.kube.resources import MESHCONFIGS, SECRETS
from fsm.settings import Settings

__all__ = ["follow", "running"]

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
EGRESS = next(found for found in POLICY_KINDS if found.kind == "Egress")


def secret(**changes) -> dict[str, object]:
    tresor = Tresor(*new_root(NOW), trust_domain="elsewhere")
    made = tresor.issue_server(["client.example"], lifetime=timedelta(days=1), now=NOW)
    data = secret_data(made, tresor.roots) | changes
    kept = {key: value for key, value in data.items() if value is not None}
    return {"metadata": {"name": "keys", "namespace": BUYER}, "data": kept}


def test_what_a_secret_holds():
    held = credentials_of(secret(), NOW)["credentials"]
    assert held["names"] == ["client.example"]
    assert held["ends"] == "2026-03-02 12:00 UTC"
    assert all("-----BEGIN" in held[name] for name in ("chain", "key", "roots"))


def text(words: str) -> str:
    return base64.b64encode(words.encode()).decode()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"ca.crt": None}, "it has no ca.crt"),
        ({"tls.key": text("x")}, "tls.key holds no key in PEM"),
        ({"tls.crt": text("x")}, "holds no certificate"),
        ({"tls.crt": "?"}, ""),
        ({"tls.key": secret()["data"]["tls.key"]}, "tls.key is not the key of tls.crt"),
    ],
)
def test_what_cannot_be_used_has_a_fault_and_no_key(changes, fault):
    held = credentials_of(secret(**changes), NOW)["credentials"]
    assert list(held) == ["fault"]
    assert fault in held["fault"]


def test_a_certificate_that_has_ended_is_not_used():
    held = credentials_of(secret(), NOW + timedelta(days=2))["credentials"]
    assert held == {"fault": "its certificate has ended at 2026-03-02 12:00 UTC"}


def egress(kube, name: str = "keys") -> None:
    cert = {"secret": {"name": name, "namespace": BUYER}}
    source = {"kind": "ServiceAccount", "name": BUYER, "namespace": BUYER}
    spec = {
        "sources": [{**source, "mtls": {"issuer": "other", "cert": cert}}],
        "hosts": ["server.example"],
        "ports": [{"number": 8443, "protocol": "http"}],
    }
    meta = {"name": "out", "namespace": BUYER, "generation": 1}
    kube.put(EGRESS, {"metadata": meta, "spec": spec})


async def test_only_secrets_that_are_named_are_followed_and_until_they_are_not(kube, wait_until):
    found: list[dict[str, object]] = []
    secrets = EgressSecrets(kube, Settings(), lambda: found, lambda: NOW)
    news: list[str] = []
    secrets.subscribe(lambda change, old, new: news.append(change))
    kube.put(SECRETS, secret())
    other = secret()
    kube.put(SECRETS, {**other, "metadata": {"name": "other", "namespace": BUYER}})
    task = asyncio.create_task(secrets.run())
    try:
        egress(kube)
        found[:] = kube.objects[EGRESS].values()
        secrets.poke()
        await wait_until(lambda: list(secrets.store) == [(BUYER, "keys")], "the Secret")
        kube.put(SECRETS, secret(**{"tls.key": None}))
        await wait_until(
            lambda: "fault" in secrets.store[BUYER, "keys"]["credentials"], "the fault"
        )
        kube.remove(SECRETS, "keys", BUYER)
        await wait_until(lambda: not secrets.store, "it to be gone")
        kube.put(SECRETS, secret())
        await wait_until(lambda: secrets.store, "it to be there again")
        found.clear()
        secrets.poke()
        await wait_until(lambda: not secrets.store, "nobody to want it")
        assert news == ["ADDED", "MODIFIED", "DELETED", "ADDED", "DELETED"]
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_proxy_is_given_its_certificate_and_loses_it_with_the_secret(
    kube, running, follow, wait_until
):
    for name, ip in ((STORE, "10.244.0.2"), (BUYER, "10.244.0.3")):
        workload(kube, name, ip)
    meta = {"name": "fsm-mesh-config", "namespace": "fsm-system", "generation": 1}
    flags = {"enableEgressPolicy": True}
    kube.put(MESHCONFIGS, {"metadata": meta, "spec": {"featureFlags": flags}})
    egress(kube)
    buyer, store = await follow(BUYER), await follow(STORE)
    await wait_until(lambda: last(buyer) and last(store), "configurations")
    assert last(buyer)["originates"] == {}
    tresor = Tresor(*new_root(datetime.now(UTC)), trust_domain="elsewhere")
    life = timedelta(days=1)
    made = tresor.issue_server(["client.example"], lifetime=life, now=datetime.now(UTC))
    keys = {"metadata": {"name": "keys", "namespace": BUYER}}
    kube.put(SECRETS, {**keys, "data": secret_data(made, tresor.roots)})

    def shown():
        (tls,) = last(buyer)["originates"].values() or [{}]
        return (tls.get("certificate") or {}).get("key")

    await wait_until(lambda: shown() == made.private_key, "the key")
    assert last(store)["originates"] == {}, "nobody else is told"

    def status() -> str:
        found = kube.objects[EGRESS][BUYER, "out"].get("status") or {}
        return f"{found.get('currentStatus')}: {found.get('reason')}"

    await wait_until(lambda: "shows the certificate of Secret" in status(), "the status")
    assert "PRIVATE" not in status()
    kube.remove(SECRETS, "keys", BUYER)
    await wait_until(lambda: last(buyer)["originates"] == {}, "it to be taken away")
    await wait_until(lambda: status().startswith("NoCertificate"), "the status")
