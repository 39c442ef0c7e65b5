"""A whole controller replaces its root: an API in memory, proxies that speak TLS to it.

The proxies here tell what they believe and renew when they are asked to, as pipy does; requests
are written into the Secret as the CLI writes them.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from controlworld import STORE, ask, install, settings, workload
from controlworld.rotating import PLACE, kept, phase, request, secret, spread_roots

from fsm.ca import new_root, read_root, read_state, signer_of
from fsm.ca.rotation import Phase
from fsm.controllers.main import Controller
from fsm.controllers.root_certificates import RESOURCE
from fsm.kube.resources import MUTATINGWEBHOOKS, SECRETS

__all__ = ["kept"]


def client_tls(roots: str) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=roots)


@contextlib.asynccontextmanager
async def controlling(kube):
    """Run a controller; what is in the ``async with`` may outlive it by killing it."""
    controller = Controller(kube, settings())
    task = asyncio.create_task(controller.run())
    started = asyncio.create_task(controller.started.wait())
    await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED, timeout=10)
    if task.done():
        await task
    try:
        yield controller
        assert not task.done(), task
    finally:
        started.cancel()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_rotation_reaches_proxies_namespaces_webhooks_and_our_own_servers(
    kube, kept, wait_until
):
    install(kube)
    workload(kube, STORE, "10.244.0.2")
    async with controlling(kube) as controller:
        await wait_until(lambda: spread_roots(kube, STORE), "roots in the namespace")
        await kept(controller)
        before = read_state(secret(kube)).current
        answer = await request(kube, wait_until, "rotate")
        assert answer["ok"], answer
        await wait_until(lambda: phase(kube) is Phase.STABLE, "the end", 20)
        after = read_state(secret(kube)).current
        assert after.signer != before.signer
        assert set(secret(kube)["data"]) == {"ca.crt", "private.key", "rotation.json"}
        assert spread_roots(kube, STORE) == "".join(after.roots)
        webhooks = kube.objects[MUTATINGWEBHOOKS]["", "fsm-webhook-fsm"]["webhooks"]
        bundle = base64.b64decode(webhooks[0]["clientConfig"]["caBundle"]).decode()
        assert bundle == "".join(after.roots)
        status, report = await ask(controller, "/certs")
        assert status == 200
        assert {one["signer"] for one in report["servers"]} == {after.signer}
        assert [one["signer"] for one in report["proxies"]] == [after.signer]
        assert "rotated" in report["last"]
        assert "PRIVATE" not in json.dumps(report)


async def test_it_says_for_whom_it_waits_and_goes_on_when_told_not_to(kube, kept, wait_until):
    install(kube)
    workload(kube, STORE, "10.244.0.2")
    async with controlling(kube) as controller:
        await wait_until(lambda: spread_roots(kube, STORE))
        proxy = await kept(controller, follows=False)
        await proxy.poll()
        await request(kube, wait_until, "rotate")

        def waits():
            found = controller.rotator.waits
            return [wait.name for wait in found] == [f"{STORE}/{STORE}-1"] and found

        await wait_until(waits, "only the proxy to be waited for")
        assert waits()[0].why == "has not confirmed the roots"
        assert phase(kube) is Phase.TRUSTING
        for wanted in (Phase.ISSUING, Phase.RETIRING, Phase.STABLE):
            await wait_until(waits, "the proxy to be waited for again")
            answer = await request(kube, wait_until, "skip")
            assert answer["ok"], answer
            await wait_until(lambda wanted=wanted: phase(kube) is wanted, wanted, 10)
        # Nobody believes its certificate any more: what it needs is a new one, with its token.
        await proxy.session.close()
        proxy.roots = spread_roots(kube, STORE)
        proxy.tls.load_verify_locations(cadata=proxy.roots)
        await proxy.open()
        with pytest.raises(aiohttp.ClientError):
            await proxy.poll()
        proxy.tls = client_tls(proxy.roots)
        status, answer = await proxy.certify()
        assert status == 200, answer
        status, _ = await proxy.poll()
        assert status in (200, 503)


async def test_a_controller_that_is_killed_in_any_phase_goes_on(kube, kept, wait_until):
    install(kube)
    workload(kube, STORE, "10.244.0.2")
    signers = []
    async with controlling(kube) as controller:
        await wait_until(lambda: spread_roots(kube, STORE))
        signers.append(read_state(secret(kube)).current.signer)
        await request(kube, wait_until, "rotate")
    for wanted in (Phase.TRUSTING, Phase.ISSUING, Phase.RETIRING):
        async with controlling(kube) as controller:
            assert phase(kube) is wanted
            await request(kube, wait_until, "skip", names=(f"{STORE}/{STORE}-1",))
            await wait_until(lambda wanted=wanted: phase(kube) is not wanted, f"{wanted} ends", 10)
            assert controller.rotator.problem == ""
    async with controlling(kube) as controller:
        proxy = await kept(controller)
        await wait_until(lambda: proxy.version)
        assert read_state(secret(kube)).current.signer not in signers


async def test_aborting_brings_the_old_root_back(kube, kept, wait_until):
    install(kube)
    workload(kube, STORE, "10.244.0.2")
    async with controlling(kube) as controller:
        await wait_until(lambda: spread_roots(kube, STORE))
        before = read_state(secret(kube)).current
        await request(kube, wait_until, "rotate")
        await request(kube, wait_until, "skip", names=(f"{STORE}/{STORE}-1",))
        await wait_until(lambda: phase(kube) is Phase.ISSUING, "the new root to sign", 10)
        answer = await request(kube, wait_until, "abort")
        assert answer["ok"], answer
        await kept(controller)
        await wait_until(lambda: phase(kube) is Phase.STABLE, "the way back", 20)
        assert read_state(secret(kube)).current == before
        assert "aborted" in read_state(secret(kube)).last
        refused = await request(kube, wait_until, "abort")
        assert refused == {"id": refused["id"], "ok": False, "message": "no rotation is under way"}


async def test_a_root_that_has_expired_is_replaced_and_proxies_come_back_with_their_tokens(
    kube, kept, wait_until
):
    install(kube)
    workload(kube, STORE, "10.244.0.2")
    certificate, key = new_root(datetime.now(UTC) - timedelta(days=3651))
    encoded = {"ca.crt": certificate, "private.key": key}
    kube.put(
        SECRETS,
        {
            "metadata": {"name": PLACE[1], "namespace": PLACE[0]},
            "data": {k: base64.b64encode(v.encode()).decode() for k, v in encoded.items()},
        },
    )
    async with controlling(kube) as controller:
        state = read_state(secret(kube))
        assert state.current.signer != read_root(certificate, key).signer
        assert "replaced a root that had expired" in state.last
        await wait_until(lambda: spread_roots(kube, STORE) == "".join(state.current.roots))
        proxy = await kept(controller)
        await wait_until(lambda: proxy.version, "a configuration")


async def test_a_root_that_is_put_into_the_secret_by_hand_is_gone_over_to_with_overlap(
    kube, kept, wait_until
):
    install(kube)
    workload(kube, STORE, "10.244.0.2")
    certificate, key = new_root(datetime.now(UTC))
    wanted = read_root(certificate, key).signer
    async with controlling(kube) as controller:
        await wait_until(lambda: spread_roots(kube, STORE))
        proxy = await kept(controller, follows=False)
        await proxy.poll()
        encoded = {"ca.crt": certificate, "private.key": key}
        data = {k: base64.b64encode(v.encode()).decode() for k, v in encoded.items()}
        await kube.patch(SECRETS, PLACE[1], {"data": data}, PLACE[0])
        await wait_until(lambda: phase(kube) is Phase.TRUSTING, "a rotation to begin")
        assert read_state(secret(kube)).other.signer == wanted
        assert controller.rotator.informer


async def test_a_secret_that_turns_unusable_changes_nothing_and_is_told_of(kube, kept, wait_until):
    install(kube)
    workload(kube, STORE, "10.244.0.2")
    async with controlling(kube) as controller:
        await wait_until(lambda: spread_roots(kube, STORE))
        data = {"ca.crt": base64.b64encode(b"rubbish").decode()}
        await kube.patch(SECRETS, PLACE[1], {"data": data}, PLACE[0])
        await wait_until(lambda: controller.rotator.problem, "the problem to be noticed")
        _, report = await ask(controller, "/certs")
        assert "not usable PEM" in report["problem"]
        proxy = await kept(controller)
        await wait_until(lambda: proxy.version, "service as before")


async def test_a_deleted_secret_is_stored_again(kube, kept, wait_until):
    install(kube)
    async with controlling(kube) as controller:
        before = read_state(secret(kube)).current
        kube.remove(SECRETS, PLACE[1], PLACE[0])

        def same() -> bool:
            found = kube.objects[SECRETS].get(PLACE)
            return found is not None and read_state(found).current == before

        await wait_until(same, "the Secret to come back")
        assert controller.rotator is not None


async def test_a_leaf_names_its_signer(tresor):
    now = datetime.now(UTC)
    issued = tresor.issue_server(["x"], lifetime=timedelta(hours=1), now=now)
    assert signer_of(ssl.PEM_cert_to_DER_cert(issued.chain[0])) == tresor.signer
    assert signer_of(b"rubbish") == ""


def root_secret(kube, name: str) -> str:
    """Put a root into a Secret; return its signer."""
    certificate, key = new_root(datetime.now(UTC))
    encoded = {"ca.crt": certificate, "private.key": key}
    kube.put(
        SECRETS,
        {
            "metadata": {"name": name, "namespace": PLACE[0]},
            "data": {k: base64.b64encode(v.encode()).decode() for k, v in encoded.items()},
        },
    )
    return read_root(certificate, key).signer


def declare(kube, name: str, intent: str, **provider: object) -> None:
    ref = {"secretRef": {"name": name, "namespace": PLACE[0]}}
    kube.put(
        RESOURCE,
        {
            "metadata": {"name": name, "namespace": PLACE[0], "generation": 1},
            "spec": {
                "trustDomain": "cluster.local",
                "intent": intent,
                "provider": provider or {"tresor": {"ca": ref}},
            },
        },
    )


def state_of(kube, name: str) -> tuple[str, str]:
    status = kube.objects[RESOURCE][PLACE[0], name].get("status") or {}
    return status.get("state", ""), status.get("message", "")


async def test_a_declared_root_is_believed_then_signs_then_goes(kube, kept, wait_until):
    install(kube)
    workload(kube, STORE, "10.244.0.2")
    async with controlling(kube) as controller:
        await wait_until(lambda: spread_roots(kube, STORE))
        await kept(controller)
        signer = root_secret(kube, "root-2")
        declare(kube, "root-2", "passive")
        await wait_until(lambda: state_of(kube, "root-2")[0] == "inactive", "it to be known")
        await wait_until(lambda: spread_roots(kube, STORE).count("BEGIN") == 2, "both believed")
        await wait_until(lambda: "is believed" in state_of(kube, "root-2")[1])
        declare(kube, "root-2", "active")
        await wait_until(lambda: state_of(kube, "root-2")[0] == "active", "it to sign", 20)
        await wait_until(lambda: phase(kube) is Phase.STABLE, "the end", 20)
        assert read_state(secret(kube)).current.signer == signer
        refused = await request(kube, wait_until, "rotate")
        assert not refused["ok"]
        assert "MeshRootCertificate fsm-system/root-2 decides" in refused["message"]
        root_secret(kube, "root-3")
        declare(kube, "root-3", "active")
        await wait_until(lambda: "is active too" in state_of(kube, "root-3")[1])
        assert read_state(secret(kube)).current.signer == signer, "who signs goes on"


@pytest.mark.parametrize(
    ("provider", "words"),
    [
        ({}, "there is no Secret fsm-system/root-2"),
        (
            {"certManager": {"issuerName": "a", "issuerKind": "Issuer", "issuerGroup": "b"}},
            "the provider certManager is not supported yet",
        ),
        ({"tresor": {"ca": {}}}, "spec.provider.tresor.ca.secretRef"),
    ],
)
async def test_a_declared_root_that_cannot_be_used_says_so_and_changes_nothing(
    kube, wait_until, provider, words
):
    install(kube)
    async with controlling(kube):
        before = read_state(secret(kube))
        declare(kube, "root-2", "active", **provider)
        await wait_until(lambda: state_of(kube, "root-2")[0] == "error", "it to be judged")
        assert words in state_of(kube, "root-2")[1]
        assert read_state(secret(kube)) == before
