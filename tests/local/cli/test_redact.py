"""Nothing secret leaves with a bug report, and what is not secret stays readable."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm.cli import redact

KEY = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0\n-----END PRIVATE KEY-----"
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"a\n{KEY}\nb", "MIIEvQ"),
        ("-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE cut off", "MHcCAQEE"),
        (f"token is {TOKEN}.", "c2lnbmF0dXJl"),
        ("Authorization: Bearer abcdef0123456789", "abcdef0123456789"),
        ("authorization: basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("mysql://root:hunter2@db:3306/x", "hunter2"),
        ("DB_PASSWORD=hunter2 next", "hunter2"),
        ("run --db-password hunter2 --port 1", "hunter2"),
        ("run --api-key=hunter2", "hunter2"),
    ],
)
def test_secrets_in_text_are_replaced(text, secret):
    cleaned = redact.text(text)
    assert secret not in cleaned
    assert redact.MARK in cleaned
    assert redact.text(cleaned) == cleaned


@pytest.mark.parametrize(
    "text",
    [
        "GET /books?token_count HTTP/1.1",
        "spiffe://cluster.local/ns/bookstore/sa/bookstore-v1",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "http://bookstore.bookstore:14001/buy-a-book/new",
        "the secret fsm-ca-bundle is missing",
    ],
)
def test_text_without_secrets_stays_as_it_is(text):
    assert redact.text(text) == text


def test_secrets_keep_their_keys_and_lose_their_values():
    secret = {
        "kind": "Secret",
        "metadata": {
            "name": "ca",
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": '{"data":"x"}'},
        },
        "data": {"ca.crt": "QUJD", "private.key": "U0VDUkVU"},
        "stringData": {"password": "hunter2"},
    }
    told = json.dumps(redact.obj([secret]))
    for hidden in ("QUJD", "U0VDUkVU", "hunter2", '{\\"data'):
        assert hidden not in told
    for kept in ("ca.crt", "private.key", '"name": "ca"'):
        assert kept in told


def test_environment_and_fields_with_telling_names_are_hidden_and_their_neighbours_are_not():
    pod = {
        "containers": [
            {
                "env": [
                    {"name": "DB_PASSWORD", "value": "hunter2"},
                    {"name": "DB_HOST", "value": "mysql"},
                    {"name": "API_TOKEN", "valueFrom": {"secretKeyRef": {"name": "t", "key": "k"}}},
                ],
                "args": ["--token=hunter2", "--port=80"],
            }
        ],
        "volumes": [{"secret": {"secretName": "tls"}}],
        "automountServiceAccountToken": True,
        "token": "hunter2",
    }
    told = json.dumps(redact.obj(pod))
    assert "hunter2" not in told
    for kept in ("mysql", "secretKeyRef", "--port=80", '"secretName": "tls"', '"name": "t"'):
        assert kept in told


@given(st.text(max_size=300))
def test_any_text_is_redacted_once_and_for_all(text):
    cleaned = redact.text(text)
    assert redact.text(cleaned) == cleaned
