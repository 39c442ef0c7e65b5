"""A whole controller keeps certificates for clients outside of the mesh in Secrets.

The API is in memory; what a client would do with its Secret is done here with a TLS library.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from controlworld import STORE, workload
from controlworld.rotating import kept, phase, request, spread_roots
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from fsm.ca import Tresor, new_root, read_state
from fsm.ca.kept import Kept, read_kept, secret_data
from fsm.ca.rotation import Phase
from fsm.controllers.world import POLICY_KINDS
from fsm.kube.resources import MESHCONFIGS, NAMESPACES, SECRETS

__all__ = ["kept"]

ACCESS_CERTS = next(found for found in POLICY_KINDS if found.kind == "AccessCert")
PLACE = ("curl", "curl-mtls")


def enabled(kube, *, on: bool = True, **spec) -> None:
    meta = {"name": "fsm-mesh-config", "namespace": "fsm-system", "generation": 1}
    flags = {"enableAccessCertPolicy": on}
    kube.put(MESHCONFIGS, {"metadata": meta, "spec": {"featureFlags": flags, **spec}})


def wants(kube, name: str = "curl", *names: str, secret: str = PLACE[1]) -> None:
    spec = {
        "subjectAltNames": list(names) or ["curl.curl.cluster.local"],
        "secret": {"name": secret, "namespace": PLACE[0]},
    }
    meta = {"name": name, "namespace": STORE, "generation": 1}
    kube.put(ACCESS_CERTS, {"metadata": meta, "spec": spec})


@pytest.fixture
async def town(kube):
    """A namespace of the mesh, one outside of it."""
    enabled(kube)
    workload(kube, STORE, "10.244.0.2")
    kube.put(NAMESPACES, {"metadata": {"name": PLACE[0]}})
    return kube


def held(kube, name: str = PLACE[1]) -> Kept | None:
    found = kube.objects.get(SECRETS, {}).get((PLACE[0], name))
    return read_kept(found) if found else None


def told(kube, name: str = "curl") -> tuple[str, str]:
    status = kube.objects[ACCESS_CERTS][STORE, name].get("status") or {}
    return status.get("currentStatus", ""), status.get("reason", "")


async def test_a_certificate_is_made_and_kept_with_its_key_and_the_roots(town, running, wait_until):
    wants(town, "curl", "curl.curl.cluster.local", "192.0.2.7", "https://curl.example/x")
    await wait_until(lambda: held(town), "the Secret")
    secret = town.objects[SECRETS][PLACE]
    assert secret["type"] == "kubernetes.io/tls"
    assert sorted(secret["data"]) == ["ca.crt", "tls.crt", "tls.key"]
    texts = {key: base64.b64decode(value) for key, value in secret["data"].items()}
    leaf = x509.load_pem_x509_certificate(texts["tls.crt"])
    roots = x509.load_pem_x509_certificates(texts["ca.crt"])
    verifier = PolicyBuilder().store(Store(roots)).build_client_verifier()
    verified = verifier.verify(leaf, [])
    assert [str(name.value) for name in verified.subjects or ()] == [
        "curl.curl.cluster.local",
        "192.0.2.7",
        "https://curl.example/x",
    ]
    assert leaf.subject.rfc4514_string() == "CN=curl.curl.cluster.local"
    await wait_until(lambda: told(town)[0] == "Programmed", "the status")
    assert "Secret curl/curl-mtls is good until" in told(town)[1]


async def test_nothing_is_made_while_it_is_switched_off(town, running, wait_until):
    enabled(town, on=False)
    wants(town)
    await wait_until(lambda: told(town)[0] == "NotEnabled", "the status")
    assert held(town) is None
    enabled(town)
    await wait_until(lambda: held(town), "the Secret")
    enabled(town, on=False)
    await wait_until(lambda: told(town)[0] == "NotEnabled", "the status")
    assert held(town) is not None, "whoever uses it is not cut off by a switch"


async def test_other_names_make_another_certificate(town, running, wait_until):
    wants(town)
    first = await wait_until(lambda: held(town), "the Secret")
    wants(town, "curl", "other.example")
    await wait_until(lambda: (held(town) or first).names == ("other.example",), "the new names")


async def test_what_becomes_of_a_secret_when_it_is_wanted_no_more(town, running, wait_until):
    wants(town)
    await wait_until(lambda: held(town), "the Secret")
    wants(town, secret="elsewhere")
    await wait_until(lambda: held(town, "elsewhere") and not held(town), "it to move")
    town.remove(ACCESS_CERTS, "curl", STORE)
    await wait_until(lambda: not held(town, "elsewhere"), "it to go")
    assert ("fsm-system", "fsm-ca-bundle") in town.objects[SECRETS], "and nothing else goes"


async def test_a_secret_of_somebody_else_is_left_alone(town, running, wait_until):
    mine = {"data": {"tls.key": "eA=="}, "metadata": {"name": PLACE[1], "namespace": PLACE[0]}}
    town.put(SECRETS, mine)
    wants(town)
    await wait_until(lambda: told(town)[0] == "SecretInTheWay", "the status")
    assert town.objects[SECRETS][PLACE]["data"] == mine["data"]
    town.remove(ACCESS_CERTS, "curl", STORE)
    wants(town)
    town.remove(SECRETS, PLACE[1], PLACE[0])
    await wait_until(lambda: told(town)[0] == "Programmed", "it to take its place", 15)


async def test_of_two_that_name_one_secret_the_first_is_followed(town, running, wait_until):
    wants(town, "b", "b.example")
    await wait_until(lambda: held(town), "the Secret")
    wants(town, "a", "a.example")
    await wait_until(lambda: told(town, "b")[0] == "Conflicted", "the conflict")
    # Of the other it is still the Secret, and an AccessCert may only write its own.
    await wait_until(lambda: told(town, "a")[0] == "SecretInTheWay", "the status")
    town.remove(ACCESS_CERTS, "b", STORE)
    await wait_until(lambda: (held(town) or Kept).names == ("a.example",), "it to be a's")


async def test_a_secret_that_was_spoilt_or_deleted_is_made_again(town, running, wait_until):
    wants(town)
    await wait_until(lambda: held(town), "the Secret")

    def leaf() -> str:
        found = town.objects[SECRETS].get(PLACE)
        return found["data"]["tls.crt"] if found and held(town) else ""

    first = leaf()
    spoilt = town.objects[SECRETS][PLACE]
    spoilt["data"]["tls.key"] = base64.b64encode(b"garbage").decode()
    town.put(SECRETS, spoilt)
    await wait_until(lambda: leaf() not in ("", first), "it to be mended")
    second = leaf()
    town.remove(SECRETS, PLACE[1], PLACE[0])
    await wait_until(lambda: leaf() not in ("", second), "it to be there again")


async def follower(kube, running, kept, wait_until) -> None:
    """A proxy of the mesh, without which a rotation waits for ever."""
    await wait_until(lambda: spread_roots(kube, STORE), "roots in the namespace")
    await kept(running)


async def test_what_may_not_be_written_is_said_and_stops_no_other(town, running, kept, wait_until):
    await follower(town, running, kept, wait_until)
    town.forbidden.add(PLACE)
    wants(town)
    wants(town, "other", secret="allowed")
    await wait_until(lambda: held(town, "allowed"), "the other Secret")
    await wait_until(lambda: told(town)[0] == "NotKept", "the status")
    assert "may not create" in told(town)[1]
    answer = await request(town, wait_until, "rotate")
    assert answer["ok"]
    await wait_until(lambda: phase(town) is Phase.STABLE, "a rotation all the same", 20)
    town.forbidden.clear()
    await wait_until(lambda: held(town), "it to be tried again", 20)


async def test_a_rotation_of_the_root_makes_it_anew_and_waits_for_it(
    town, running, kept, wait_until
):
    await follower(town, running, kept, wait_until)
    wants(town)
    before = await wait_until(lambda: held(town), "the Secret")
    seen: list[tuple[Phase, str, str]] = []

    def note() -> bool:
        now = held(town)
        assert now is not None, "it is never gone meanwhile"
        state = read_state(town.objects[SECRETS]["fsm-system", "fsm-ca-bundle"])
        seen.append((state.phase, now.signer, now.roots))
        return state.phase is Phase.STABLE and now.signer != before.signer

    assert (await request(town, wait_until, "rotate"))["ok"]
    await wait_until(note, "the end", 30)
    after = held(town)
    state = read_state(town.objects[SECRETS]["fsm-system", "fsm-ca-bundle"])
    assert after.signer == state.current.signer
    await wait_until(lambda: held(town).roots == "".join(state.bundle), "the roots of the moment")
    # While the old root signs nothing any more and is believed, the Secret has the new one.
    assert {signer for p, signer, _ in seen if p is Phase.RETIRING} <= {after.signer}


async def test_a_certificate_is_renewed_after_two_thirds_of_its_life(kube, wait_until):
    now = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    tresor = Tresor(*new_root(now), trust_domain="cluster.local")
    made = tresor.issue_server(["a.example"], lifetime=timedelta(hours=24), now=now)
    found = read_kept({"data": secret_data(made, tresor.roots)})
    assert found is not None

    def outdated(hours: float) -> str:
        when = now + timedelta(hours=hours)
        return found.outdated(["a.example"], tresor.roots, tresor.signer, when)

    assert outdated(15.9) == ""
    assert outdated(16.1) == "two thirds of its life are over"
    assert outdated(30) == "two thirds of its life are over"
    assert found.outdated(["b.example"], tresor.roots, tresor.signer, now)
    assert found.outdated(["a.example"], ("x",), tresor.signer, now)
    assert found.outdated(["a.example"], tresor.roots, "00", now)


@pytest.mark.parametrize("data", [None, {}, {"tls.crt": "!"}, {"tls.crt": 1}, []])
def test_what_cannot_be_read_is_no_certificate(data):
    assert read_kept({"data": data}) is None


def test_a_key_that_does_not_belong_to_the_certificate_is_found():
    now = datetime.now(UTC)
    tresor = Tresor(*new_root(now), trust_domain="cluster.local")
    one, other = (
        secret_data(
            tresor.issue_server(["a.example"], lifetime=timedelta(hours=1), now=now), tresor.roots
        )
        for _ in range(2)
    )
    assert read_kept({"data": one}) is not None
    assert read_kept({"data": one | {"tls.key": other["tls.key"]}}) is None
