"""Certificates and the root are replaced under continuous calls, and no request is lost.

A caller with a connection per request makes a TLS handshake with each, so whoever believes too
little, or shows what nobody believes, fails at once. Another keeps its connection.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from meshworld import actors
from meshworld.ledger import Ledger
from meshworld.shell import Shell, namespace, traffic
from meshworld.waiting import until

pytestmark = pytest.mark.box

SHOP, LAB = "shop", "lab"
CALLERS = ("fresh", "kept")
SIDECARS = 4


@pytest.fixture(scope="module")
def town(mesh: Shell) -> Shell:
    traffic(mesh, enablePermissiveTrafficPolicyMode=False)
    mesh.apply(*map(namespace, (SHOP, LAB)))
    mesh.fsm("namespace", "add", SHOP, LAB)
    rules = [{"kind": "HTTPRouteGroup", "name": "sales", "matches": ["buy"]}]
    url = {"buy": f"http://web.{SHOP}/buy"}
    mesh.apply(
        actors.routes("sales", SHOP, buy="/buy"),
        actors.target("web", SHOP, "web", rules, *((LAB, name) for name in CALLERS)),
        *actors.server("web", SHOP, replicas=2),
        *actors.caller("fresh", LAB, url, pause=0.02),
        *actors.caller("kept", LAB, url, keep=True, pause=0.02),
    )
    mesh.kubectl("rollout", "status", "deployment/web", "-n", SHOP, "--timeout=60s")
    return mesh


@pytest.fixture(scope="module")
def ledgers(town: Shell) -> list[Ledger]:
    found = [Ledger.of(town, LAB, name) for name in CALLERS]
    for ledger in found:
        ledger.flows("buy", 0.0)
    return found


def report(shell: Shell) -> Any:
    return json.loads(shell.fsm("certs", "list", "-o", "json").stdout)


def signing(shell: Shell) -> str:
    (root,) = [root for root in report(shell)["roots"] if root["role"] == "signs"]
    return str(root["fingerprint"])


def ends(shell: Shell) -> dict[str, float]:
    return {one["name"]: one["not_after"] for one in report(shell)["proxies"]}


def nothing_was_lost(ledgers: list[Ledger], moment: float) -> None:
    for ledger in ledgers:
        ledger.many("buy", time.time(), 20)
        done = ledger.since("buy", moment)
        lost = [call for call in done if not call.ok]
        assert not lost, f"{len(lost)} of {len(done)} requests were lost: {lost[:4]}"


def validity(shell: Shell, duration: str) -> None:
    patch = {"spec": {"certificate": {"serviceCertValidityDuration": duration}}}
    shell.kubectl(
        *("patch", "meshconfig", "fsm-mesh-config", "-n", "fsm-system", "--type=merge"),
        *("-p", json.dumps(patch)),
    )


def test_a_shorter_life_is_in_effect_at_once_and_leafs_rotate_without_loss(
    town: Shell, ledgers: list[Ledger]
) -> None:
    moment, long = time.time(), ends(town)
    assert all(end > moment + 3600 for end in long.values())
    validity(town, "60s")
    seen: dict[str, set[float]] = {}

    def look() -> bool:
        for name, end in ends(town).items():
            seen.setdefault(name, set()).add(end)
        # The long one, the first short one, and the one that follows it after 40 s.
        return len(seen) == SIDECARS and all(len(found) >= 3 for found in seen.values())

    seen |= {name: {end} for name, end in long.items()}
    until(look, "every sidecar to have had three certificates", 80)
    nothing_was_lost(ledgers, moment)


def test_the_root_is_rotated_and_no_request_is_lost(town: Shell, ledgers: list[Ledger]) -> None:
    moment, before = time.time(), signing(town)
    # Certificates live longer again from their next renewal on, which the rotation asks for.
    validity(town, "24h")
    done = town.fsm("certs", "rotate", "--timeout", "60s")
    assert "rotated at" in done.stdout
    after = report(town)
    assert [root["role"] for root in after["roots"]] == ["signs"]
    assert after["roots"][0]["fingerprint"] != before
    assert {one["signer"] for one in after["proxies"]} == {after["roots"][0]["signer"]}
    assert {one["signer"] for one in after["servers"]} == {after["roots"][0]["signer"]}
    assert {one["trust"] for one in after["proxies"]} == {after["trust"]}
    assert len(after["proxies"]) == SIDECARS
    assert all(one["not_after"] > moment + 3600 for one in after["proxies"])
    nothing_was_lost(ledgers, moment)


def test_a_pod_that_is_born_after_a_rotation_is_served(town: Shell, ledgers: list[Ledger]) -> None:
    moment = time.time()
    town.kubectl("rollout", "restart", "deployment/web", "-n", SHOP)
    town.kubectl("rollout", "status", "deployment/web", "-n", SHOP, "--timeout=60s")
    until(lambda: len(town.pods(SHOP, "web")) == 2, "the old ones end")
    nothing_was_lost(ledgers, moment)


def test_a_control_plane_that_is_killed_goes_on_where_it_was(
    town: Shell, ledgers: list[Ledger]
) -> None:
    moment, before = time.time(), signing(town)
    town.fsm("certs", "rotate", "--no-wait")
    for pod in town.pods("fsm-system", "fsm-controller"):
        town.kubectl(
            *("delete", "pod", pod["metadata"]["name"], "-n", "fsm-system"),
            *("--grace-period=0", "--force"),
        )
    town.kubectl("rollout", "status", "deployment/fsm-controller", "-n", "fsm-system")

    def over() -> bool:
        status = town.status()
        up = all(proxy.get("connected", True) for proxy in status["proxies"])
        return up and report(town)["phase"] == "stable"

    until(over, "the rotation to end", 60)
    assert signing(town) != before
    nothing_was_lost(ledgers, moment)


def test_a_rehearsal_leaves_everything_as_it_was(town: Shell, ledgers: list[Ledger]) -> None:
    moment, before = time.time(), signing(town)
    done = town.fsm("certs", "rehearse", "--live", "--timeout", "60s", "-o", "json")
    found = json.loads(done.stdout)
    assert found["ok"]
    assert found["live"]["ok"]
    assert "rehearsed at" in found["live"]["outcome"]
    assert f"{SIDECARS} of {SIDECARS} sidecars would follow" in found["plays"][0]["verdict"]
    assert signing(town) == before
    nothing_was_lost(ledgers, moment)


def test_nobody_is_told_a_key(town: Shell, ledgers: list[Ledger]) -> None:
    pod = town.ready(LAB, "fresh")
    shown = json.loads(town.fsm("proxy", "get", "certs", pod, "-n", LAB).stdout)
    assert shown["chain"].startswith("-----BEGIN CERTIFICATE")
    assert shown["identity"] == f"spiffe://cluster.local/ns/{LAB}/sa/fresh"
    for text in (json.dumps(shown), town.fsm("certs", "list", "-o", "yaml").stdout):
        assert "PRIVATE" not in text
        assert "BEGIN EC" not in text


def short_lived_root(lifetime: timedelta) -> tuple[str, str]:
    """Make a root as a user would, that ends soon."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a user's own root")])
    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    root = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return root.public_bytes(Encoding.PEM).decode(), private.decode()


def test_a_root_that_expires_is_replaced_and_sidecars_come_back_by_themselves(
    town: Shell, ledgers: list[Ledger]
) -> None:
    moment = time.time()
    files = [town.home / "root.pem", town.home / "root.key"]
    # Certificates know whole seconds.
    end = int(moment) + 30
    for file, text in zip(files, short_lived_root(timedelta(seconds=30)), strict=True):
        file.write_text(text)
    town.fsm("certs", "rotate", "--cert", str(files[0]), "--key", str(files[1]))
    mine = signing(town)
    nothing_was_lost(ledgers, moment)
    until(lambda: signing(town) != mine, "the control plane to make a root", 45)
    assert time.time() >= end, "not before it had expired"
    assert "replaced a root that had expired" in report(town)["last"]
    # The sidecars read their ConfigMap again, which takes the node up to 20 s.
    for ledger in ledgers:
        ledger.flows("buy", end, limit_s=60)
    wanted = report(town)["roots"][0]["signer"]
    until(
        lambda: {one["signer"] for one in report(town)["proxies"]} == {wanted},
        "every sidecar to hold a certificate of the new root",
        60,
    )
    moment = time.time()
    nothing_was_lost(ledgers, moment)


def test_a_root_that_cannot_be_used_is_refused_in_words(town: Shell, ledgers: list[Ledger]) -> None:
    bad = town.home / "bad.pem"
    bad.write_text("no certificate")
    done = town.fsm("certs", "rotate", "--cert", str(bad), "--key", str(bad), fails=True)
    assert "this root cannot be used" in done.stderr
    done = town.fsm("certs", "abort", fails=True)
    assert "no rotation is under way" in done.stderr
