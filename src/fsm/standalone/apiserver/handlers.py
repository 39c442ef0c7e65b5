"""HTTP in front of the objects: get, list, watch, create, replace, patch, delete.

What comes in: requests below /api and /apis that name a resource. What goes out: objects, lists,
tables, watch streams, and a ``Status`` for every refusal.

Invariants: authorization comes before anything else is looked up; every answer of one list carries
one resourceVersion, so a watch that starts there misses nothing; nothing here changes an object.
Not done here: reviews and tokens (``reviews``), logs and proxies (``relay``), discovery.
Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import web

from fsm.standalone.apiserver import apply, bodies, patch, selectors, tables, watch
from fsm.standalone.apiserver.bodies import Accepted, json_response
from fsm.standalone.apiserver.calls import Call
from fsm.standalone.apiserver.decoding import version_of
from fsm.standalone.apiserver.errors import (
    Cause,
    StatusError,
    bad_request,
    expired,
    invalid,
    unsupported_media,
)
from fsm.standalone.apiserver.lifecycle import Lifecycle, present
from fsm.standalone.apiserver.store import KubeObject

Json = dict[str, Any]


class Handlers:
    """The verbs on resources."""

    def __init__(self, lifecycle: Lifecycle, closing: asyncio.Event) -> None:
        self._lifecycle = lifecycle
        self._store = lifecycle.store
        self._closing = closing

    async def get(self, call: Call, request: web.Request) -> web.StreamResponse:
        """Answer GET: one object, a list, or a watch."""
        if call.name:
            if _flag(request, "watch"):
                return await self._watch(call, request, f"metadata.name={call.name}")
            obj = self._lifecycle.read(call)
            return json_response(_shown(obj, call, _accept(request), request))
        if _flag(request, "watch"):
            return await self._watch(call, request)
        return self._list(call, request)

    def _list(self, call: Call, request: web.Request) -> web.Response:
        query = request.query
        test = _test(call, request)
        position = _continued(query.get("continue", ""))
        limit = _number(query.get("limit"), "limit") or 0
        objects = self._store.list(call.resource.gr, call.namespace or None)
        # The version of the first page serves for all: what changes between pages is told again
        # by the watch that starts from it.
        rv = position[0] if position else self._store.rv
        found: list[KubeObject] = []
        following = ""
        for obj in objects:
            key = (obj["metadata"].get("namespace") or "", obj["metadata"]["name"])
            if position and key <= position[1]:
                continue
            if test is not None and not test(obj):
                continue
            if limit and len(found) == limit:
                last = found[-1]["metadata"]
                following = _token(rv, last.get("namespace") or "", last["name"])
                break
            found.append(obj)
        meta: Json = {"resourceVersion": str(rv)}
        if following:
            meta["continue"] = following
        return json_response(self._listed(call, found, meta, request))

    def _listed(
        self, call: Call, found: list[KubeObject], meta: Json, request: web.Request
    ) -> Json:
        accept, shown = _accept(request), [present(obj, call) for obj in found]
        if accept.form == "table":
            include = request.query.get("includeObject", "Metadata")
            return tables.table(call, shown, meta, accept.version, include)
        if accept.form in ("metadata", "metadata-list"):
            return {
                "kind": "PartialObjectMetadataList",
                "apiVersion": f"meta.k8s.io/{accept.version}",
                "metadata": meta,
                "items": [bodies.partial(obj, accept.version) for obj in shown],
            }
        return {
            "kind": f"{call.resource.kind}List",
            "apiVersion": call.api_version,
            "metadata": meta,
            "items": shown,
        }

    async def _watch(self, call: Call, request: web.Request, only: str = "") -> web.StreamResponse:
        query = request.query
        given = query.get("resourceVersion") or "0"
        if not given.isdigit():
            raise bad_request(f"resourceVersion {given!r} is not a number")
        seconds = _number(query.get("timeoutSeconds"), "timeoutSeconds")
        options = watch.WatchOptions(
            after=int(given),
            namespace=call.namespace,
            test=_test(call, request, only),
            bookmarks=_flag(request, "allowWatchBookmarks"),
            # Without a wish of the client: long, and spread, so that not all resume at once.
            timeout_s=float(seconds) if seconds else random.uniform(1800, 3600),
            initial=_flag(request, "sendInitialEvents"),
        )
        accept, include = _accept(request), query.get("includeObject", "Metadata")
        changes = watch.follow(self._store, call.resource.gr, options, self._closing)
        response = web.StreamResponse()
        response.content_type = "application/json"
        response.enable_chunked_encoding()
        await response.prepare(request)
        try:
            async with contextlib.aclosing(changes) as batches:  # type: ignore[type-var]
                async for batch in batches:
                    lines = [_line(change, call, accept, include) for change in batch]
                    await response.write(b"".join(lines))
        except StatusError as error:
            # The headers are gone, so the refusal travels as the last event.
            await response.write(orjson.dumps(watch.expired_event(error)) + b"\n")
        except ConnectionResetError:
            return response
        await response.write_eof()
        return response

    async def post(self, call: Call, request: web.Request) -> web.StreamResponse:
        """Answer POST: create."""
        obj = await self._lifecycle.create(call, await bodies.read_object(request))
        shown = _shown(obj, call, _accept(request), request)
        return json_response(shown, 201, call.warnings)

    async def put(self, call: Call, request: web.Request) -> web.StreamResponse:
        """Answer PUT: replace; an object that does not exist is not created."""
        raw = await bodies.read_object(request)
        if not isinstance(raw, dict):
            raise bad_request(f"the body must be a {call.resource.kind} object")
        meta = raw.get("metadata")
        version = meta.get("resourceVersion") if isinstance(meta, dict) else None
        if call.resource.definition is not None and not version:
            cause = Cause(
                "metadata.resourceVersion",
                "Invalid value: 0x0: must be specified for an update",
            )
            raise invalid(call.resource.group, call.resource.kind, call.name, [cause])
        obj = await self._lifecycle.update(call, lambda _: raw, pinned=bool(version))
        return json_response(_shown(obj, call, _accept(request), request), 200, call.warnings)

    async def patch(self, call: Call, request: web.Request) -> web.StreamResponse:
        """Answer PATCH in any of the four formats."""
        raw = await bodies.read_body(request)
        if request.content_type == apply.MEDIA_TYPE:
            config = bodies.decode_body(raw, request.content_type)
            obj, created = await apply.apply(self._lifecycle, call, config)
            shown = _shown(obj, call, _accept(request), request)
            return json_response(shown, 201 if created else 200, call.warnings)
        change, pinned = patch_function(call, raw, request.content_type)
        obj = await self._lifecycle.update(call, change, pinned=pinned)
        return json_response(_shown(obj, call, _accept(request), request), 200, call.warnings)

    async def delete(self, call: Call, request: web.Request) -> web.StreamResponse:
        """Answer DELETE: one object, or all that selectors choose."""
        options = await bodies.read_object(request) or {}
        if not isinstance(options, dict):
            raise bad_request("the body must be a DeleteOptions object")
        for name in ("gracePeriodSeconds", "propagationPolicy"):
            if name in request.query:
                value = request.query[name]
                options[name] = _number(value, name) if name.startswith("grace") else value
        if "All" in (options.get("dryRun") or []):
            call.dry_run = True
        grace = options.get("gracePeriodSeconds")
        if grace is not None and (not isinstance(grace, int) or isinstance(grace, bool)):
            raise bad_request("gracePeriodSeconds must be a whole number")
        if call.name:
            return json_response(await self._lifecycle.delete(call, options), 200, call.warnings)
        return await self._delete_all(call, request, options)

    async def _delete_all(
        self, call: Call, request: web.Request, options: Json
    ) -> web.StreamResponse:
        test = _test(call, request)
        objects = self._store.list(call.resource.gr, call.namespace or None)
        chosen = [obj for obj in objects if test is None or test(obj)]
        for obj in chosen:
            meta = obj["metadata"]
            one = Call(
                call.user,
                call.resource,
                call.version,
                meta.get("namespace") or "",
                meta["name"],
                dry_run=call.dry_run,
            )
            try:
                await self._lifecycle.delete(one, options)
            except StatusError as error:
                # Someone else was faster: the aim is reached.
                if error.code != 404:
                    raise
        meta = {"resourceVersion": str(self._store.rv)}
        return json_response(self._listed(call, chosen, meta, request))


def patch_function(
    call: Call, raw: bytes, content_type: str
) -> tuple[Callable[[KubeObject], Any], bool]:
    """Turn a patch body into the function that applies it.

    Returns:
        The function, and whether the patch names the exact version that it is meant for.

    Raises:
        StatusError: 400 unreadable, 415 unknown format.
    """
    if content_type == "application/json-patch+json":
        operations = bodies.decode_body(raw, content_type)
        return (lambda current: patch.json_patch(current, operations)), False
    body = bodies.decode_body(raw, content_type)
    meta = body.get("metadata") if isinstance(body, dict) else None
    pinned = isinstance(meta, dict) and bool(meta.get("resourceVersion"))
    if not isinstance(body, dict):
        raise bad_request("the patch must be an object")
    if content_type == "application/merge-patch+json":
        return (lambda current: patch.merge_patch(current, body)), pinned
    if content_type == "application/strategic-merge-patch+json":
        if version_of(call) is not None:
            raise unsupported_media(
                content_type, "application/merge-patch+json for custom resources"
            )
        kind = call.resource.kind
        return (lambda current: patch.strategic_merge(current, body, kind)), pinned
    raise unsupported_media(
        content_type,
        "application/merge-patch+json, application/json-patch+json,"
        " application/strategic-merge-patch+json, application/apply-patch+yaml",
    )


def _accept(request: web.Request) -> Accepted:
    return bodies.accepted(request.headers.get("Accept", ""))


def _shown(obj: KubeObject, call: Call, accept: Accepted, request: web.Request) -> Json:
    if accept.form == "table" and obj.get("kind") != "Status":
        meta = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
        include = request.query.get("includeObject", "Metadata")
        return tables.table(call, [obj], meta, accept.version, include)
    if accept.form == "metadata":
        return bodies.partial(obj, accept.version)
    return obj


def _line(change: watch.Change, call: Call, accept: Accepted, include: str) -> bytes:
    obj: Json
    if change.object is None:
        meta: Json = {"resourceVersion": str(change.rv)}
        if change.initial_end:
            meta["annotations"] = {"k8s.io/initial-events-end": "true"}
        obj = {"kind": call.resource.kind, "apiVersion": call.api_version, "metadata": meta}
        if accept.form == "table":
            obj = tables.table(call, [], meta, accept.version, include)
        elif accept.form != "object":
            obj = bodies.partial(obj, accept.version)
    else:
        obj = present(change.object, call)
        if accept.form == "table":
            meta = {"resourceVersion": str(change.rv)}
            obj = tables.table(call, [obj], meta, accept.version, include)
        elif accept.form != "object":
            obj = bodies.partial(obj, accept.version)
    return orjson.dumps({"type": change.type, "object": obj}) + b"\n"


def _flag(request: web.Request, name: str) -> bool:
    return request.query.get(name, "") in ("1", "true", "True")


def _number(text: str | None, name: str) -> int | None:
    if text is None or text == "":
        return None
    if not text.isdigit() or len(text) > 10:
        raise bad_request(f"{name} {text[:40]!r} is not a whole number")
    return int(text)


def _test(call: Call, request: web.Request, only: str = "") -> selectors.ObjectTest | None:
    query = request.query
    fields = ",".join(filter(None, (query.get("fieldSelector", ""), only)))
    return selectors.compile_selectors(query.get("labelSelector", ""), fields, call.resource.gr)


def _token(rv: int, namespace: str, name: str) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([rv, namespace, name])).decode()


def _continued(token: str) -> tuple[int, tuple[str, str]] | None:
    if not token:
        return None
    try:
        rv, namespace, name = orjson.loads(base64.urlsafe_b64decode(token))
        return int(rv), (str(namespace), str(name))
    except (ValueError, TypeError) as error:
        raise expired("the continue token cannot be read; start the list again") from error
