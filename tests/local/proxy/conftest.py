"""Makes ``proxyrig`` importable; gives each test proxies, backends and certificates."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent / "support"))

from proxyrig.backend import Backend, Script
from proxyrig.certs import Authority
from proxyrig.process import Pipy


class Rig:
    """Starts what a test needs; all of it ends with the test."""

    def __init__(self, directory: Path, stack: AsyncExitStack) -> None:
        self.directory = directory
        self.stack = stack
        self.proxies: list[Pipy] = []

    async def backend(self, script: Script | None = None, name: str = "app") -> Backend:
        """Start a backend on a free port."""
        return await self.stack.enter_async_context(Backend(name, script))

    async def pipy(self, **options: Any) -> Pipy:
        """Start a proxy that has no rules yet."""
        directory = self.directory / f"pipy-{len(self.proxies)}"
        proxy = await self.stack.enter_async_context(Pipy(directory, **options))
        self.proxies.append(proxy)
        return proxy

    async def plain(self, backend: Backend, **changes: Any) -> Pipy:
        """Start a proxy that carries every outbound request to a backend, in plain text."""
        from proxyrig import config

        proxy = await self.pipy()
        await proxy.apply(config.plain(proxy.outbound.port, backend.address, **changes))
        return proxy


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        yield Rig(tmp_path, stack)


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority("the mesh")


@pytest.fixture(scope="session")
def stranger() -> Authority:
    return Authority("another mesh")


@pytest.fixture
def make_rig() -> Callable[..., Rig]:
    return Rig
