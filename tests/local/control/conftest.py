"""Helpers of these tests: a Kubernetes API in memory, proxies that speak the delivery protocol.

The API keeps objects in dictionaries and serves list and watch like a real one (resourceVersions,
labels and field selectors by name); it can be switched off to play an outage.
"""

from __future__ import annotations

import asyncio
import copy
import os
import ssl
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import jsonpatch
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fsm.ca import Tresor, new_root
from fsm.kube import (
    AlreadyExists,
    Conflict,
    Forbidden,
    NotFound,
    ObjectList,
    Resource,
    TokenIdentity,
    Unauthenticated,
    Unavailable,
    WatchEvent,
)

sys.path.insert(0, str(Path(__file__).parent / "support"))
from controlworld import follow, running

__all__ = ["follow", "running"]


async def until(state: Callable[[], Any], what: str = "", deadline_s: float = 10.0) -> Any:
    """Wait for a state; looks often, and says what it waited for when it gives up."""
    end = time.monotonic() + deadline_s
    while not (found := state()):
        assert time.monotonic() < end, f"waited {deadline_s} s in vain for {what or state}"
        await asyncio.sleep(0.002)
    return found


class FakeKube:
    """The part of ``KubeClient`` that the control plane uses, in memory."""

    def __init__(self) -> None:
        self.objects: dict[Resource, dict[tuple[str, str], dict[str, Any]]] = {}
        self.version = 100
        self.watchers: list[tuple[Resource, asyncio.Queue[WatchEvent | None]]] = []
        self.tokens: dict[str, TokenIdentity] = {}
        self.down = False
        self.forbidden: set[tuple[str, str]] = set()
        """Places where nothing may be created."""
        self.writes: list[tuple[str, str, str]] = []

    def _check(self) -> None:
        if self.down:
            raise Unavailable(0, "Unavailable", "cannot reach the API: it is switched off")

    def _key(self, res: Resource, obj: dict[str, Any], namespace: str | None) -> tuple[str, str]:
        meta = obj["metadata"]
        where = (namespace or meta.get("namespace") or "") if res.namespaced else ""
        return where, meta["name"]

    def _store(
        self, change: Any, res: Resource, key: tuple[str, str], obj: dict[str, Any]
    ) -> dict[str, Any]:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        if change == "DELETED":
            del self.objects[res][key]
        else:
            self.objects.setdefault(res, {})[key] = obj
        self.writes.append((change, res.kind, "/".join(key)))
        for watched, queue in self.watchers:
            if watched == res:
                queue.put_nowait(WatchEvent(change, copy.deepcopy(obj)))
        return copy.deepcopy(obj)

    def put(self, res: Resource, obj: dict[str, Any]) -> dict[str, Any]:
        """Create or replace, as a user would."""
        obj = copy.deepcopy(obj)
        obj = {"apiVersion": res.api_version, "kind": res.kind, **obj}
        key = self._key(res, obj, None)
        old = self.objects.get(res, {}).get(key)
        obj["metadata"].setdefault("uid", old["metadata"]["uid"] if old else str(uuid.uuid4()))
        if res.namespaced:
            obj["metadata"].setdefault("namespace", key[0])
        return self._store("MODIFIED" if old else "ADDED", res, key, obj)

    def remove(self, res: Resource, name: str, namespace: str = "") -> None:
        self._store("DELETED", res, (namespace, name), self.objects[res][(namespace, name)])

    async def get(self, res: Resource, name: str, namespace: str | None = None) -> dict[str, Any]:
        self._check()
        key = (namespace or "" if res.namespaced else "", name)
        found = self.objects.get(res, {}).get(key)
        if found is None:
            raise NotFound(404, "NotFound", f"cannot get {res.describe(namespace, name)}")
        return copy.deepcopy(found)

    async def list(
        self,
        res: Resource,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
    ) -> ObjectList:
        self._check()
        items = [
            copy.deepcopy(obj)
            for key, obj in self.objects.get(res, {}).items()
            if self._selected(obj, namespace, fields, labels)
        ]
        return ObjectList(items, str(self.version))

    @staticmethod
    def _selected(
        obj: dict[str, Any], namespace: str | None, fields: str | None, labels: str | None
    ) -> bool:
        meta = obj["metadata"]
        name, _, value = (labels or "").partition("=")
        if labels and (meta.get("labels") or {}).get(name) != value:
            return False
        named = fields.removeprefix("metadata.name=") if fields else meta["name"]
        return meta["name"] == named and (not namespace or meta.get("namespace") == namespace)

    async def watch(
        self,
        res: Resource,
        namespace: str | None = None,
        resource_version: str = "",
        labels: str | None = None,
        fields: str | None = None,
    ) -> AsyncIterator[WatchEvent]:
        self._check()
        queue: asyncio.Queue[WatchEvent | None] = asyncio.Queue()
        entry = (res, queue)
        # Nothing happens between list and watch here but what other tasks did meanwhile.
        for obj in self.objects.get(res, {}).values():
            if int(obj["metadata"]["resourceVersion"]) > int(resource_version or 0):
                queue.put_nowait(WatchEvent("MODIFIED", copy.deepcopy(obj)))
        self.watchers.append(entry)
        try:
            while (event := await queue.get()) is not None:
                if self._selected(event.object, namespace, fields, labels):
                    yield event
        finally:
            self.watchers.remove(entry)

    def cut_watches(self) -> None:
        for _, queue in self.watchers:
            queue.put_nowait(None)

    async def create(
        self, res: Resource, obj: dict[str, Any], namespace: str | None = None
    ) -> dict[str, Any]:
        self._check()
        obj = {"apiVersion": res.api_version, "kind": res.kind, **copy.deepcopy(obj)}
        key = self._key(res, obj, namespace)
        if key in self.objects.get(res, {}):
            raise AlreadyExists(409, "AlreadyExists", f"{res.describe(*key)} already exists")
        if key in self.forbidden:
            raise Forbidden(403, "Forbidden", f"may not create {res.describe(*key)}")
        obj["metadata"].setdefault("uid", str(uuid.uuid4()))
        return self._store("ADDED", res, key, obj)

    async def delete(
        self, res: Resource, name: str, namespace: str | None = None, *, uid: str | None = None
    ) -> dict[str, Any]:
        found = await self.get(res, name, namespace)
        if uid is not None and found["metadata"]["uid"] != uid:
            raise Conflict(409, "Conflict", f"{res.describe(namespace, name)} is another one")
        key = (namespace or "" if res.namespaced else "", name)
        return self._store("DELETED", res, key, self.objects[res][key])

    async def patch(
        self,
        res: Resource,
        name: str,
        body: Any,
        namespace: str | None = None,
        *,
        kind: str = "merge",
        field_manager: str = "fsm",
        subresource: str | None = None,
        force: bool = True,
    ) -> dict[str, Any]:
        old = await self.get(res, name, namespace)
        read = (body.get("metadata") or {}).get("resourceVersion") if kind == "merge" else None
        if read not in (None, old["metadata"]["resourceVersion"]):
            raise Conflict(409, "Conflict", f"{res.describe(namespace, name)} has been changed")
        new = jsonpatch.apply_patch(old, body) if kind == "json" else merged(old, body)
        key = (namespace or "" if res.namespaced else "", name)
        return self._store("MODIFIED", res, key, new)

    async def patch_status(
        self, res: Resource, name: str, status: Any, namespace: str | None = None
    ) -> dict[str, Any]:
        return await self.patch(res, name, {"status": status}, namespace, subresource="status")

    async def review_token(self, token: str, audiences: Any = None) -> TokenIdentity:
        self._check()
        assert audiences == ["fsm-controller"]
        if token not in self.tokens:
            raise Unauthenticated("the token is not valid")
        return self.tokens[token]


def merged(old: Any, patch: Any) -> Any:
    """Apply a merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


_KEY = ec.generate_private_key(ec.SECP256R1())


def _csr(key: ec.EllipticCurvePrivateKey) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def client_tls(roots: str, pair: bytes | None = None) -> ssl.SSLContext:
    """Make the TLS side of a proxy; ``pair`` is key and chain, PEM."""
    context = ssl.create_default_context(cadata=roots)
    if pair:
        descriptor = os.memfd_create("pair")
        try:
            os.write(descriptor, pair)
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
    return context


SERVER_NAME = "fsm-controller.fsm-system.svc"


@dataclass
class FakeProxy:
    """Speaks the delivery protocol like pipy does, over one connection."""

    port: int
    roots: str
    namespace: str
    pod: str
    uid: str
    token: str = ""
    tls: ssl.SSLContext | None = None
    session: aiohttp.ClientSession | None = None
    version: str = ""
    applied: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    @property
    def base(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def open(self) -> FakeProxy:
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60))
        self.tls = self.tls or client_tls(self.roots)
        return self

    async def close(self) -> None:
        if self.session:
            await self.session.close()

    async def certify(self, **changes: Any) -> tuple[int, dict[str, Any]]:
        body = {
            "csr": _csr(_KEY),
            "pod": {"namespace": self.namespace, "name": self.pod, "uid": self.uid},
        } | changes
        headers = {"Authorization": f"Bearer {self.token}"}
        status, answer = await self.post("/v1/certificates", body, headers)
        if status == 200:
            key = _KEY.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            self.tls = client_tls(self.roots, key + "".join(answer["chain"]).encode())
        return status, answer

    async def post(
        self, path: str, body: Any, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        sent = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with self.session.post(
            self.base + path,
            ssl=self.tls,
            server_hostname=SERVER_NAME,
            headers=headers or self.headers(),
            **sent,
        ) as response:
            return response.status, (await response.json() if response.status != 204 else {})

    def headers(self) -> dict[str, str]:
        return {"fsm-pod": f"{self.namespace}/{self.pod}/{self.uid}"}

    async def poll(
        self, wait_s: float = 0, version: str | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        query = {"version": self.version if version is None else version, "wait_s": str(wait_s)}
        async with self.session.get(
            self.base + "/v1/config",
            params=query,
            ssl=self.tls,
            server_hostname=SERVER_NAME,
            headers=headers or self.headers(),
        ) as response:
            body = await response.json() if response.status != 304 else {}
            return response.status, body

    async def ack(
        self, version: str, outcome: str = "applied", reason: str = ""
    ) -> tuple[int, dict[str, Any]]:
        body = {"version": version, "outcome": outcome, "reason": reason}
        return await self.post("/v1/acks", body | {"received_ms": 0, "applied_ms": 1})

    async def follow(self) -> None:
        """Poll and apply for ever, coming back after every loss."""
        while True:
            try:
                status, config = await self.poll(wait_s=50)
                if status == 200:
                    self.version = config["version"]
                    self.applied.append((time.monotonic(), config))
                    await self.ack(self.version)
                elif status != 304:
                    await asyncio.sleep(0.02)
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(0.02)


@pytest.fixture
def kube() -> FakeKube:
    return FakeKube()


@pytest.fixture(scope="session")
def tresor() -> Tresor:
    return Tresor(*new_root(datetime.now(UTC)), trust_domain="cluster.local")


@pytest.fixture
async def make_proxy() -> AsyncIterator[Callable[..., Any]]:
    """Make proxies that are closed when the test ends."""
    made: list[FakeProxy] = []

    async def make(*args: Any, **options: Any) -> FakeProxy:
        proxy = await FakeProxy(*args, **options).open()
        made.append(proxy)
        return proxy

    yield make
    for proxy in made:
        await proxy.close()


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    return until
