"""One session with a Kubernetes API: read, write, watch.

What comes in: a ``Connection`` and calls that name a ``Resource``. What goes out: plain decoded
JSON objects, exactly as the server sent them, or an ``ApiError`` that names the object.

Invariants: every call ends, by its answer or its timeout; a watch ends by the server's timeout, a
lost connection (both silently: the caller resumes) or an ``ApiError``; nothing is retried here,
because only the caller knows what is safe to repeat (``informer`` does for list and watch).
Not done here: HTTP itself (``session``), caching (``informer``), byte streams (``streams``).
Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import builtins
import ssl
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import aiohttp
import orjson

from fsm.kube import connection as connections
from fsm.kube.connection import Connection
from fsm.kube.errors import ConfigError, Unauthenticated, Unavailable, from_status
from fsm.kube.resources import PODS, SERVICEACCOUNTS, TOKENREVIEWS, Resource
from fsm.kube.session import ClientSettings, KubeObject, Session
from fsm.kube.streams import LogStream, PortForwardReader, PortForwardWriter, open_port_forward

PatchKind = Literal["merge", "json", "strategic", "apply"]
WatchType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]

_PATCH_TYPES: Mapping[str, str] = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}


@dataclass(frozen=True, slots=True)
class ObjectList:
    """All objects of a list and the version from which a watch continues it."""

    items: list[KubeObject]
    resource_version: str


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One change; a ``BOOKMARK`` carries only ``metadata.resourceVersion``."""

    type: WatchType
    object: KubeObject


@dataclass(frozen=True, slots=True)
class TokenIdentity:
    """Whom a ServiceAccount token speaks for; the Pod is known for Pod-bound tokens only."""

    namespace: str
    service_account: str
    pod_name: str | None = None
    pod_uid: str | None = None


class KubeClient(Session):
    """A session with one API server; use it as ``async with``."""

    @classmethod
    def from_kubeconfig(
        cls,
        path: Path | str | None = None,
        context: str | None = None,
        settings: ClientSettings | None = None,
    ) -> Self:
        """Make a client from a kubeconfig; see ``connection.from_kubeconfig``."""
        found = connections.from_kubeconfig(Path(path) if path else None, context)
        return cls(found, settings or ClientSettings())

    @classmethod
    def in_cluster(cls, settings: ClientSettings | None = None) -> Self:
        """Make a client from the files that every Pod has."""
        return cls(connections.in_cluster(), settings or ClientSettings())

    @classmethod
    def from_unix_socket(cls, path: Path, settings: ClientSettings | None = None) -> Self:
        """Make a client of the embedded API server's administrative unix socket."""
        found = Connection("http://localhost", unix_socket=path)
        return cls(found, settings or ClientSettings())

    @classmethod
    def connect(cls, settings: ClientSettings | None = None) -> Self:
        """Make a client for wherever this process runs: in a Pod, or beside a kubeconfig.

        Raises:
            ConfigError: neither works; the message says why for both.
        """
        try:
            return cls.in_cluster(settings)
        except ConfigError as first:
            try:
                return cls.from_kubeconfig(settings=settings)
            except ConfigError as second:
                raise ConfigError(f"{second}\n({first})") from second

    @property
    def namespace(self) -> str:
        """The namespace that the kubeconfig or the Pod means by default."""
        return self.connection.namespace

    async def get(self, res: Resource, name: str, namespace: str | None = None) -> KubeObject:
        """Read one object.

        Raises:
            NotFound: the object, its namespace or its kind does not exist.
        """
        action = f"get {res.describe(namespace, name)}"
        return await self.request("GET", res.path(namespace, name), action)

    async def list(
        self,
        res: Resource,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
    ) -> ObjectList:
        """Read all objects of a kind, page by page; each item gets its apiVersion and kind.

        Args:
            res: the kind.
            namespace: ``None`` means all namespaces.
            labels: a label selector, such as ``app=web,tier in (a, b)``.
            fields: a field selector, such as ``spec.nodeName=box``.

        Raises:
            Gone: the list changed so much while paging that it must be started again.
        """
        action = f"list {res.describe(namespace)}"
        items: list[KubeObject] = []
        query = _selectors(labels, fields) | {"limit": str(self.settings.page_size)}
        while True:
            page = await self.request("GET", res.path(namespace), action, query=query)
            for item in page.get("items") or []:
                items.append({"apiVersion": res.api_version, "kind": res.kind} | item)
            meta = page.get("metadata") or {}
            if not meta.get("continue"):
                return ObjectList(items, str(meta.get("resourceVersion", "")))
            query["continue"] = meta["continue"]

    async def watch(
        self,
        res: Resource,
        namespace: str | None = None,
        resource_version: str = "",
        labels: str | None = None,
        fields: str | None = None,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Follow changes after a version, until the server ends the watch.

        Use ``contextlib.aclosing`` around it when leaving the loop early.

        Raises:
            Gone: the version is too old; list again.
        """
        action = f"watch {res.describe(namespace)}"
        seconds = self.settings.watch_timeout_s
        query = _selectors(labels, fields) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(seconds),
        }
        timeout = aiohttp.ClientTimeout(
            total=None,
            connect=self.settings.connect_timeout_s,
            sock_read=seconds + self.settings.watch_grace_s,
        )
        response = await self.send("GET", res.path(namespace), action, query, timeout=timeout)
        async with response:
            rest = b""
            try:
                async for chunk in response.content.iter_any():
                    *lines, rest = (
                        (rest + chunk).split(b"\n") if b"\n" in chunk else (rest + chunk,)
                    )
                    for line in lines:
                        if line.strip():
                            yield _event(line, action)
            except (aiohttp.ClientError, ConnectionError, TimeoutError, ssl.SSLError):
                return

    async def create(
        self, res: Resource, obj: KubeObject, namespace: str | None = None
    ) -> KubeObject:
        """Create an object; its namespace is ``namespace`` or the one in its metadata.

        Raises:
            AlreadyExists: there is one of that name.
            Invalid: the server refuses its content.
        """
        meta = obj.get("metadata") or {}
        namespace = namespace or meta.get("namespace")
        if res.namespaced and not namespace:
            raise ValueError(f"creating a {res.kind} needs a namespace")
        name = str(meta.get("name") or f"{meta.get('generateName', '')}*")
        action = f"create {res.describe(namespace, name)}"
        return await self.request("POST", res.path(namespace), action, body=_typed(res, obj))

    async def replace(
        self,
        res: Resource,
        obj: KubeObject,
        namespace: str | None = None,
        *,
        subresource: str | None = None,
    ) -> KubeObject:
        """Replace an object; with a ``resourceVersion`` in it, only if it is still that version.

        Raises:
            Conflict: it changed in between.
        """
        meta = obj.get("metadata") or {}
        namespace, name = namespace or meta.get("namespace"), str(meta.get("name", ""))
        action = f"replace {res.describe(namespace, name)}"
        path = res.path(namespace, name, subresource)
        return await self.request("PUT", path, action, body=_typed(res, obj))

    async def patch(
        self,
        res: Resource,
        name: str,
        body: Any,
        namespace: str | None = None,
        *,
        kind: PatchKind = "merge",
        field_manager: str = "fsm",
        subresource: str | None = None,
        force: bool = True,
    ) -> KubeObject:
        """Change part of an object.

        Args:
            res: the kind.
            name: the object.
            body: a merge patch, a list of JSON patch operations, or for ``apply`` the whole
                intent of ``field_manager`` (its apiVersion and kind are filled in).
            namespace: of the object.
            kind: which of the four patch formats ``body`` is.
            field_manager: who is changing the object, for server-side apply.
            subresource: such as ``status``.
            force: for ``apply``: take over fields that others own.
        """
        action = f"patch {res.describe(namespace, name)}"
        query = {"fieldManager": field_manager}
        if kind == "apply":
            query["force"] = "true" if force else "false"
            body = _typed(res, body)
        headers = {"Content-Type": _PATCH_TYPES[kind]}
        path = res.path(namespace, name, subresource)
        return await self.request("PATCH", path, action, query=query, body=body, headers=headers)

    async def patch_status(
        self, res: Resource, name: str, status: Any, namespace: str | None = None
    ) -> KubeObject:
        """Merge ``status`` into the status of an object, by its status subresource."""
        body = {"status": status}
        return await self.patch(res, name, body, namespace, subresource="status")

    async def delete(
        self,
        res: Resource,
        name: str,
        namespace: str | None = None,
        *,
        grace_seconds: int | None = None,
        propagation: Literal["Background", "Foreground", "Orphan"] | None = None,
        uid: str | None = None,
    ) -> KubeObject:
        """Delete an object; returns it, or a ``Status``, as the server chooses.

        Args:
            res: the kind.
            name: the object.
            namespace: of the object.
            grace_seconds: seconds that a Pod gets to end; 0 removes it at once.
            propagation: what becomes of its dependents.
            uid: delete only if it is still this very object (else ``Conflict``).
        """
        action = f"delete {res.describe(namespace, name)}"
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        if propagation is not None:
            options["propagationPolicy"] = propagation
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        return await self.request("DELETE", res.path(namespace, name), action, body=options)

    async def create_token(
        self, namespace: str, service_account: str, audiences: builtins.list[str], seconds: int
    ) -> str:
        """Issue a token for a ServiceAccount, valid for ``seconds`` for the given audiences."""
        action = f"issue a token for ServiceAccount {namespace}/{service_account}"
        spec = {"audiences": audiences, "expirationSeconds": seconds}
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {},
            "spec": spec,
        }
        path = SERVICEACCOUNTS.path(namespace, service_account, "token")
        return str((await self.request("POST", path, action, body=body))["status"]["token"])

    async def review_token(
        self, token: str, audiences: builtins.list[str] | None = None
    ) -> TokenIdentity:
        """Ask the API server whose token this is.

        Args:
            token: the bearer token that someone presented to us.
            audiences: the token must be meant for one of these; ``None``: for the API server.

        Raises:
            Unauthenticated: it is not valid, not for us, or not a ServiceAccount's.
            ApiError: the server could not be asked.
        """
        spec: dict[str, Any] = {"token": token}
        if audiences:
            spec["audiences"] = audiences
        body = _typed(TOKENREVIEWS, {"metadata": {}, "spec": spec})
        answer = await self.request("POST", TOKENREVIEWS.path(), "review a token", body=body)
        status = answer.get("status") or {}
        if not status.get("authenticated"):
            raise Unauthenticated(status.get("error") or "the token is not valid")
        if audiences and not set(audiences) & set(status.get("audiences") or []):
            raise Unauthenticated(f"the token is not meant for {' or '.join(audiences)}")
        user = status.get("user") or {}
        parts = str(user.get("username", "")).split(":")
        if parts[:2] != ["system", "serviceaccount"] or len(parts) != 4:
            raise Unauthenticated("the token does not belong to a ServiceAccount")
        extra = user.get("extra") or {}
        pod_name = extra.get("authentication.kubernetes.io/pod-name") or [None]
        pod_uid = extra.get("authentication.kubernetes.io/pod-uid") or [None]
        return TokenIdentity(parts[2], parts[3], pod_name[0], pod_uid[0])

    async def logs(
        self,
        namespace: str,
        pod: str,
        container: str | None = None,
        *,
        follow: bool = False,
        tail: int | None = None,
    ) -> LogStream:
        """Open the log of a container; iterate the result (``async with``) for chunks of bytes."""
        query = {"follow": "true"} if follow else {}
        if container is not None:
            query["container"] = container
        if tail is not None:
            query["tailLines"] = str(tail)
        path = PODS.path(namespace, pod, "log")
        timeout = aiohttp.ClientTimeout(
            total=None if follow else self.settings.request_timeout_s,
            connect=self.settings.connect_timeout_s,
        )
        action = f"read the log of Pod {namespace}/{pod}"
        return LogStream(await self.send("GET", path, action, query, timeout=timeout), action)

    async def port_forward(
        self, namespace: str, pod: str, port: int
    ) -> tuple[PortForwardReader, PortForwardWriter]:
        """Open one TCP connection to a port inside a Pod, through the API server.

        Raises:
            ApiError: the Pod or the way to it does not exist.
        """
        path = PODS.path(namespace, pod, "portforward")
        timeout = self.settings.request_timeout_s
        url, headers = self.connection.server + path, self.connection.authorization()
        return await open_port_forward(
            self.opened(), url, port, headers, f"forward to Pod {namespace}/{pod}", timeout
        )


def _event(line: bytes, action: str) -> WatchEvent:
    try:
        event = orjson.loads(line)
        kind, obj = event["type"], event["object"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise Unavailable(0, "BadAnswer", f"cannot {action}: broken event") from error
    if kind == "ERROR":
        raise from_status(0, obj, action)
    return WatchEvent(kind, obj)


def _selectors(labels: str | None, fields: str | None) -> dict[str, str]:
    chosen = {"labelSelector": labels, "fieldSelector": fields}
    return {key: value for key, value in chosen.items() if value}


def _typed(res: Resource, obj: KubeObject) -> KubeObject:
    return {"apiVersion": res.api_version, "kind": res.kind} | obj
