"""Requests made up from the server's own OpenAPI documents: none of them is a server's error.

Invariants: every answer is below 500; a refusal is a ``Status`` that says why; the server lives.
The examples are the same in each run; a failure prints the request, as a curl command.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, given, settings

#: LIMIT requests per operation: half a minute in all. ``FSM_EXAMPLES=100`` looks longer.
_EXAMPLES = int(os.environ.get("FSM_EXAMPLES", "3"))
_GROUPS = (
    "api/v1",
    "apis/apps/v1",
    "apis/batch/v1",
    "apis/rbac.authorization.k8s.io/v1",
    "apis/admissionregistration.k8s.io/v1",
    "apis/apiextensions.k8s.io/v1",
    "apis/authorization.k8s.io/v1",
    "apis/discovery.k8s.io/v1",
)


class Door:
    """The server as ``requests`` reaches it, as the administrator."""

    def __init__(self, server: Any, directory: Path) -> None:
        config = yaml.safe_load(server.kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.url = str(cluster["server"])
        files = {
            "ca": cluster["certificate-authority-data"],
            "crt": user["client-certificate-data"],
            "key": user["client-key-data"],
        }
        for name, data in files.items():
            (directory / name).write_bytes(base64.b64decode(data))
        self.session = requests.Session()
        # Variables of the environment would name other authorities, or a proxy.
        self.session.trust_env = False
        self.session.verify = str(directory / "ca")
        self.session.cert = (str(directory / "crt"), str(directory / "key"))

    def get(self, path: str) -> Any:
        answer = self.session.get(f"{self.url}/{path}", timeout=10)
        answer.raise_for_status()
        return answer.json()


@pytest.fixture(scope="module")
def door(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    made = Door(server, tmp_path_factory.mktemp("keys"))
    yield made
    made.session.close()


@pytest.mark.parametrize("group", _GROUPS)
def test_no_request_of_the_documented_shape_is_an_internal_error(door: Door, group: str) -> None:
    schema = schemathesis.openapi.from_dict(door.get(f"openapi/v3/{group}"))
    results: list[Any] = list(schema.get_all_operations())
    operations = [found.ok() for found in results]
    assert operations
    for operation in operations:
        _try(operation, door)
    assert door.session.get(f"{door.url}/readyz", timeout=10).text == "ok"


def _try(operation: Any, door: Door) -> None:
    @settings(
        max_examples=_EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def check(case: Any) -> None:
        answer = case.call(
            base_url=door.url, session=door.session, verify=door.session.verify, timeout=20
        )
        where = case.as_curl_command()
        assert answer.status_code < 500, f"{answer.status_code}: {answer.text}\n{where}"
        if answer.status_code >= 400:
            status = json.loads(answer.text)
            assert status["kind"] == "Status", where
            assert status["message"], where

    check()
