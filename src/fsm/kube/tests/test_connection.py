"""How we find an API server and prove who we are."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fsm.kube import ConfigError, KubeClient
from fsm.kube.connection import Connection, TokenFile, from_kubeconfig, in_cluster


def authority() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    start = datetime(2020, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=36500))
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def kubeconfig(path: Path, **changes: Any) -> Path:
    document: dict[str, Any] = {
        "current-context": "one",
        "clusters": [{"name": "c", "cluster": {"server": "http://api.example.com:80/"}}],
        "users": [{"name": "u", "user": {"token": "secret-token"}}],
        "contexts": [
            {"name": "one", "context": {"cluster": "c", "user": "u", "namespace": "shop"}},
            {"name": "two", "context": {"cluster": "gone", "user": "u"}},
        ],
    }
    path.write_text(yaml.safe_dump(document | changes))
    return path


def test_a_kubeconfig_names_server_token_and_namespace(tmp_path: Path) -> None:
    found = from_kubeconfig(kubeconfig(tmp_path / "k"))
    assert found.server == "http://api.example.com:80"
    assert found.namespace == "shop"
    assert found.authorization() == {"Authorization": "Bearer secret-token"}
    assert "secret-token" not in repr(found)


@pytest.mark.parametrize(
    ("changes", "context", "words"),
    [
        ({}, "three", r"no context 'three' \(it has: one, two\)"),
        ({}, "two", "does not define"),
        ({"current-context": ""}, None, "no current-context"),
        ({"users": [{"name": "u", "user": {"exec": {"command": "x"}}}]}, None, "plugin"),
        ({"users": ["nonsense"]}, None, "broken entry in users"),
        (
            {
                "clusters": [
                    {
                        "name": "c",
                        "cluster": {"server": "https://x", "certificate-authority-data": "bm8="},
                    }
                ]
            },
            None,
            "unusable TLS material",
        ),
        (
            {
                "clusters": [
                    {
                        "name": "c",
                        "cluster": {"server": "https://x", "certificate-authority": "absent.crt"},
                    }
                ]
            },
            None,
            "absent.crt",
        ),
    ],
)
def test_what_is_wrong_with_a_kubeconfig_is_said(
    tmp_path: Path, changes: Any, context: str | None, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        from_kubeconfig(kubeconfig(tmp_path / "k", **changes), context)


@pytest.mark.parametrize("text", ["a: [", "- list", "\x00"])
def test_a_broken_kubeconfig_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "k").write_text(text)
    with pytest.raises(ConfigError, match="kubeconfig"):
        from_kubeconfig(tmp_path / "k")


def test_among_several_kubeconfigs_the_first_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeconfig(tmp_path / "a", users=[{"name": "u", "user": {"token": "first"}}])
    kubeconfig(tmp_path / "b")
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'absent'}:{tmp_path / 'a'}:{tmp_path / 'b'}")
    assert from_kubeconfig().token == "first"


def test_nowhere_to_connect_says_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigError, match=r"(?s)no kubeconfig.*fsm up.*not in a Pod"):
        KubeClient.connect()


def test_in_a_pod_the_token_is_read_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ca.crt").write_bytes(authority())
    (tmp_path / "namespace").write_text("fsm-system\n")
    (tmp_path / "token").write_text("old\n")
    monkeypatch.setenv("FSM_SERVICEACCOUNT_DIR", str(tmp_path))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    found = in_cluster()
    assert (found.server, found.namespace) == ("https://[fd00::1]:443", "fsm-system")
    assert found.authorization() == {"Authorization": "Bearer old"}
    # The kubelet writes a new file and renames it into place.
    (tmp_path / "next").write_text("new\n")
    os.replace(tmp_path / "next", tmp_path / "token")
    assert found.authorization() == {"Authorization": "Bearer new"}
    (tmp_path / "token").unlink()
    assert found.authorization() == {"Authorization": "Bearer new"}


def test_a_token_file_that_never_was_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the token"):
        Connection("http://x", token=TokenFile(tmp_path / "absent")).authorization()
