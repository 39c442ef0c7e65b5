"""One real box per module, one namespace per test."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from box_world import Box, open_box, why_not

from fsm.standalone.box import lifecycle


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    if reason := why_not():
        pytest.skip(reason)
    # Not under pytest's own directory: paths of unix sockets must be short.
    state_dir = Path(tempfile.mkdtemp(prefix="fsm-box-"))
    made = open_box(state_dir)
    try:
        yield made
    finally:
        asyncio.run(lifecycle.down(made.settings, purge=True))
        shutil.rmtree(state_dir, ignore_errors=True)


@pytest.fixture
def namespace(box: Box, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own; it is deleted, but nobody waits for that."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:55].strip("-")
    document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    box.kubectl("create", "-f", "-", feed=json.dumps(document))
    yield name
    box.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")
