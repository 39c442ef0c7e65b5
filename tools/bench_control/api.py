"""A Kubernetes API in memory, as much of it as a controller asks of one.

In: objects. Out: get, list, watch, create, merge patch and token reviews over HTTP. Invariants:
every write has a new resourceVersion and reaches every watch that began before it. A token is the
name of its Pod: whoever can reach the loopback may be anyone, which is right for a bench only.

Not here: admission, validation, paging, history (a watch begins now).
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from aiohttp import web

from fsm.kube import Resource
from tools.bench_control.mesh import Json

Place = tuple[str, str]
"""Group and plural name of a kind."""


class Api:
    """The objects and who watches them."""

    def __init__(self) -> None:
        self._objects: dict[Place, dict[tuple[str, str], Json]] = {}
        self._watches: dict[Place, list[asyncio.Queue[bytes]]] = {}
        self._version = 1
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self) -> None:
        """Serve on the loopback; ``port`` says where."""
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close."""
        if self._runner is not None:
            await self._runner.cleanup()

    def put(self, res: Resource, obj: Json) -> None:
        """Create or replace an object, as a user would."""
        typed = {"apiVersion": res.api_version, "kind": res.kind, **obj}
        self._store((res.group, res.plural), typed)

    def remove(self, res: Resource, namespace: str, name: str) -> None:
        """Delete an object."""
        place = (res.group, res.plural)
        obj = self._objects[place].pop((namespace, name))
        self._version += 1
        obj = obj | {"metadata": obj["metadata"] | {"resourceVersion": str(self._version)}}
        self._tell(place, "DELETED", obj)

    def get(self, res: Resource, namespace: str, name: str) -> Json | None:
        """Return an object."""
        return self._objects.get((res.group, res.plural), {}).get((namespace, name))

    def objects(self, res: Resource) -> list[Json]:
        """Return all objects of a kind."""
        return list(self._objects.get((res.group, res.plural), {}).values())

    def _store(self, place: Place, obj: Json) -> Json:
        self._version += 1
        meta = obj["metadata"] | {"resourceVersion": str(self._version)}
        meta.setdefault("uid", f"uid-{self._version}")
        obj = obj | {"metadata": meta}
        found = self._objects.setdefault(place, {})
        key = (meta.get("namespace", ""), meta["name"])
        change = "MODIFIED" if key in found else "ADDED"
        found[key] = obj
        self._tell(place, change, obj)
        return obj

    def _tell(self, place: Place, change: str, obj: Json) -> None:
        watches = self._watches.get(place)
        if watches:
            line = orjson.dumps({"type": change, "object": obj}) + b"\n"
            for queue in watches:
                queue.put_nowait(line)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        parts = request.path.strip("/").split("/")
        group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        place = (group, rest[0])
        name = rest[1] if len(rest) > 1 else ""
        if request.method == "POST":
            body = orjson.loads(await request.read())
            if place[1] == "tokenreviews":
                return _json(_review(body))
            if (namespace, body["metadata"]["name"]) in self._objects.get(place, {}):
                return _status(409, "AlreadyExists")
            body["metadata"].setdefault("namespace", namespace)
            return _json(self._store(place, body), 201)
        if name:
            found = self._objects.get(place, {}).get((namespace, name))
            if found is None:
                return _status(404, "NotFound")
            if request.method == "PATCH":
                found = self._store(place, _merged(found, orjson.loads(await request.read())))
            return _json(found)
        if request.query.get("watch"):
            return await self._watch(request, place)
        wanted = request.query.get("fieldSelector", "").removeprefix("metadata.name=")
        items = [
            obj
            for (where, called), obj in self._objects.get(place, {}).items()
            if wanted in ("", called) and namespace in ("", where)
        ]
        return _json({"metadata": {"resourceVersion": str(self._version)}, "items": items})

    async def _watch(self, request: web.Request, place: Place) -> web.StreamResponse:
        response = web.StreamResponse()
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        version = int(request.query.get("resourceVersion") or 0)
        for obj in self._objects.get(place, {}).values():
            if int(obj["metadata"]["resourceVersion"]) > version:
                queue.put_nowait(orjson.dumps({"type": "MODIFIED", "object": obj}) + b"\n")
        watches = self._watches.setdefault(place, [])
        watches.append(queue)
        try:
            await response.prepare(request)
            while True:
                await response.write(await queue.get())
        finally:
            watches.remove(queue)


def _review(body: Json) -> Json:
    namespace, account, pod, uid = body["spec"]["token"].split("/")
    return body | {
        "status": {
            "authenticated": True,
            "audiences": body["spec"].get("audiences", []),
            "user": {
                "username": f"system:serviceaccount:{namespace}:{account}",
                "extra": {
                    "authentication.kubernetes.io/pod-name": [pod],
                    "authentication.kubernetes.io/pod-uid": [uid],
                },
            },
        }
    }


def _merged(old: Any, patch: Any) -> Any:
    """Apply a merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


def _json(body: Json, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


def _status(code: int, reason: str) -> web.Response:
    return _json({"kind": "Status", "code": code, "reason": reason, "message": reason}, code)
