"""``fsm certs``: what a rehearsal says of whom, and how a rotation is told in one sentence."""

from __future__ import annotations

from typing import Any

import pytest

from fsm.cli import certs_rehearse, certs_wait


def report(*proxies: dict[str, Any], **changes: Any) -> dict[str, Any]:
    root = {
        "role": "signs",
        "subject": "CN=fsm-ca.flomesh.io",
        "fingerprint": "ab" * 32,
        "signer": "old",
        "not_before": "2026-03-01T12:00:00Z",
        "not_after": "2036-02-27T12:00:00Z",
        "expired": False,
        "ours": True,
    }
    return {
        "now": "2026-03-02T12:00:00Z",
        "phase": "stable",
        "forward": True,
        "rehearsal": False,
        "last": "",
        "problem": "",
        "leaf_lifetime_s": 86_400,
        "roots": [root | changes.pop("root", {})],
        "waits": [],
        "proxies": list(proxies),
    } | changes


def sidecar(name: str, *, connected: bool = True, trust: str = "known") -> dict[str, Any]:
    return {
        "name": name,
        "connected": connected,
        "trust": trust,
        "signer": "old",
        "not_after": 1_772_539_200.0,
    }


def test_a_mesh_that_follows_is_through_in_a_moment() -> None:
    found = certs_rehearse.rehearse(report(sidecar("shop/a"), sidecar("shop/b")))
    rotation, expiry = found["plays"]
    assert found["ok"]
    assert rotation["verdict"] == "2 of 2 sidecars would follow at once; over after 6s"
    assert [line["what"].split(":")[0] for line in rotation["timeline"]] == [
        "trusting",
        "issuing",
        "retiring",
        "done",
    ]
    assert rotation["concerns"] == []
    assert "a rotation starts by itself, 365d before" in expiry["timeline"][0]["what"]
    assert [one["name"] for one in expiry["concerns"]] == ["shop/a", "shop/b"]


def test_one_that_is_not_connected_holds_each_phase_up_for_the_life_of_a_certificate() -> None:
    found = certs_rehearse.rehearse(
        report(sidecar("shop/a"), sidecar("shop/gone", connected=False))
    )
    rotation = found["plays"][0]
    assert not found["ok"]
    assert rotation["verdict"].startswith("1 of 2 sidecars would follow at once; over after 3d")
    (concern,) = rotation["concerns"]
    assert concern["name"] == "shop/gone"
    assert "up to 24h" in concern["what"]
    assert any(line["what"] == "waits for shop/gone" for line in rotation["timeline"])


def test_an_older_sidecar_would_hold_it_up_for_ever() -> None:
    found = certs_rehearse.rehearse(report(sidecar("shop/old", trust="")))
    rotation = found["plays"][0]
    assert rotation["verdict"] == "0 of 1 sidecars would follow at once; it would not end by itself"
    assert "an older sidecar" in rotation["concerns"][0]["what"]


def test_a_root_of_a_user_is_said_to_be_theirs_to_renew() -> None:
    expiry = certs_rehearse.rehearse(report(root={"ours": False}))["plays"][1]
    assert "nobody renews this root" in expiry["timeline"][0]["what"]
    assert expiry["verdict"].endswith("calls between sidecars fail from then")


def test_a_rotation_under_way_is_not_rehearsed_over() -> None:
    found = certs_rehearse.rehearse(report(phase="issuing"))
    assert not found["ok"]
    assert "under way (issuing)" in found["plays"][0]["verdict"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "the root abababababababab is good until 2036-02-27T12:00:00Z"),
        (
            {"root": {"expired": True}, "last": "rotated"},
            "the root abababababababab HAS EXPIRED since 2036-02-27T12:00:00Z; rotated",
        ),
        ({"problem": "no key"}, "a problem: no key"),
        (
            {"phase": "trusting", "waits": [{"name": f"shop/{n}"} for n in range(5)]},
            "rotating: 1 of 3, everyone learns to believe the new root;"
            " waits for shop/0, shop/1, shop/2 and 2 more",
        ),
        (
            {"phase": "issuing", "forward": False},
            "going back: 2 of 3, everyone gets a certificate of the old root",
        ),
    ],
)
def test_how_it_is_told_in_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    assert certs_wait.verdict(report(**changes)) == sentence
