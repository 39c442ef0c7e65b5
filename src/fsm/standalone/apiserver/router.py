"""Every request's way: who asks, what for, may they; then the handler; then an answer in any case.

What comes in: HTTP. What goes out: the handler's answer, or a ``Status``; an unexpected exception
becomes a 500 ``Status`` and a log line with its trace, never a lost connection.

Order: authentication, path, authorization, handler. An unknown kind is told only to those who may
ask for it.
Source: https://kubernetes.io/docs/concepts/security/controlling-access/
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiohttp import web

from fsm.standalone.apiserver import auth, bodies, discovery, openapi_v2, scale
from fsm.standalone.apiserver.auth import Tokens
from fsm.standalone.apiserver.bodies import json_response
from fsm.standalone.apiserver.calls import ADMIN, Call, User
from fsm.standalone.apiserver.errors import (
    StatusError,
    bad_request,
    forbidden,
    unauthorized,
    unknown_path,
)
from fsm.standalone.apiserver.handlers import Handlers
from fsm.standalone.apiserver.kubelet import NodeAgent
from fsm.standalone.apiserver.lifecycle import Lifecycle
from fsm.standalone.apiserver.openapi import OpenApi
from fsm.standalone.apiserver.proxy import Proxy
from fsm.standalone.apiserver.rbac import Authorizer, Request
from fsm.standalone.apiserver.registry import PODS, ApiResource
from fsm.standalone.apiserver.reviews import Reviews
from fsm.standalone.apiserver.urls import ResourcePath, parse

logger = logging.getLogger(__name__)

TRUSTED = web.AppKey("trusted", bool)
"""Set on the application of the unix socket: whoever may open it is the administrator."""

# Clients ask with `@v1.0` and get `.v1.0`: an at sign is not allowed in a content type.
_NO_KIND_HINT = "`kubectl api-resources` lists what is served"


class Router:
    """Answers all requests."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        tokens: Tokens,
        authorizer: Authorizer,
        agent: NodeAgent,
        closing: asyncio.Event,
    ) -> None:
        self._lifecycle = lifecycle
        self._registry = lifecycle.registry
        self._tokens = tokens
        self._authorizer = authorizer
        self._agent = agent
        self._closing = closing
        self._handlers = Handlers(lifecycle, closing)
        self._reviews = Reviews(lifecycle.store, tokens, authorizer)
        self._openapi = OpenApi(lifecycle.registry)
        self._proxy = Proxy(lifecycle.store)
        self.address = ""

    async def close(self) -> None:
        """Close the connections that requests opened."""
        await self._proxy.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        try:
            user = self._user(request)
            path = parse(request.rel_url.raw_path)
            if path is None:
                return self._plain(user, request)
            return await self._resource(user, path, request)
        except StatusError as error:
            return _refusal(error)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:
            logger.exception("a request failed: %s %s", request.method, request.rel_url.path)
            return _refusal(
                StatusError(
                    500,
                    "InternalError",
                    "Internal error occurred: a bug in the embedded API server",
                    hint="its log has the details; please report it",
                )
            )

    def _user(self, request: web.Request) -> User:
        if request.app[TRUSTED]:
            user = ADMIN
        else:
            transport = request.transport
            certificate = transport.get_extra_info("peercert") if transport else None
            header = request.headers.get("Authorization")
            user = auth.authenticate(self._tokens, header, certificate)
        if other := request.headers.get("Impersonate-User"):
            return auth.impersonate(user, other, request.headers.getall("Impersonate-Group", []))
        return user

    def _plain(self, user: User, request: web.Request) -> web.Response:
        """Answer paths that are no resources."""
        path = request.rel_url.path.rstrip("/") or "/"
        if not self._authorizer.may_path(user, path, request.method.lower().replace("head", "get")):
            raise _forbidden_path(user, request.method, path)
        if request.method not in ("GET", "HEAD"):
            raise StatusError(405, "MethodNotAllowed", f"{request.method} is not allowed on {path}")
        if path.startswith(("/healthz", "/livez", "/readyz")):
            if self._closing.is_set():
                raise StatusError(503, "ServiceUnavailable", "shutting down")
            return web.Response(text="ok")
        if path == "/openapi/v2":
            if "protobuf" in request.headers.get("Accept", ""):
                body = openapi_v2.document(self._registry)
                return web.Response(body=body, content_type=openapi_v2.CONTENT_TYPE)
            info = {"title": "fsm embedded Kubernetes API", "version": "v1"}
            return json_response({"swagger": "2.0", "info": info, "paths": {}, "definitions": {}})
        if path in ("/api", "/apis") and (version := _aggregated(request)):
            document = discovery.aggregated(self._registry, core=path == "/api", api=version)
            # The content type is how a client knows that it got the aggregated form.
            media = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
            return web.Response(
                body=bodies.encode(document), headers={"Content-Type": media, "Vary": "Accept"}
            )
        body = self._document(path)
        if body is None:
            raise unknown_path(path)
        if isinstance(body, bytes):
            return web.Response(body=body, content_type="application/json")
        return json_response(body)

    def _document(self, path: str) -> Any:
        parts = path.strip("/").split("/")
        known = self._registry
        match parts:
            case ["version"]:
                return discovery.version()
            case ["api"]:
                return discovery.api_versions(self.address)
            case ["apis"]:
                return discovery.group_list(known)
            case ["api", version]:
                return discovery.resource_list(known, "", version)
            case ["apis", group]:
                return discovery.group(known, group)
            case ["apis", group, version]:
                return discovery.resource_list(known, group, version)
            case ["openapi", "v3"]:
                return self._openapi.index()
            case ["openapi", "v3", "api", version]:
                return self._openapi.document("", version)
            case ["openapi", "v3", "apis", group, version]:
                return self._openapi.document(group, version)
            case ["openid", "v1", "jwks"]:
                return self._tokens.key_set()
            case [".well-known", "openid-configuration"]:
                return {
                    "issuer": auth.ISSUER,
                    "jwks_uri": f"https://{self.address}/openid/v1/jwks",
                    "response_types_supported": ["id_token"],
                    "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["ES256"],
                }
        return None

    async def _resource(
        self, user: User, path: ResourcePath, request: web.Request
    ) -> web.StreamResponse:
        verb = _verb(request, path)
        asked = _asked(verb, path, request)
        if not self._authorizer.may(user, asked):
            raise _forbidden(user, verb, path)
        resource = self._registry.find(path.group, path.version, path.plural)
        if resource is None:
            known = self._registry.by_gr((path.group, path.plural))
            raise unknown_path(request.rel_url.path, _other_version(known) or _NO_KIND_HINT)
        if path.namespace and not resource.namespaced:
            raise unknown_path(request.rel_url.path, f"{resource.qualified} have no namespace")
        if path.name and resource.namespaced and not path.namespace:
            raise unknown_path(request.rel_url.path, f"{resource.qualified} need a namespace")
        if path.subresource and path.subresource not in resource.subresources:
            raise unknown_path(request.rel_url.path, _missing(path))
        call = _call(user, resource, path, request)
        if resource.verbs == ("create",):
            if verb != "create":
                raise StatusError(405, "MethodNotAllowed", f"{resource.qualified} are only created")
            raw = await bodies.read_object(request)
            return json_response(self._reviews.answer(call, raw), 201)
        if verb == "create" and not path.subresource and resource.namespaced and not path.namespace:
            raise bad_request("an empty namespace may not be set during creation")
        return await self._dispatch(call, verb, path, request)

    async def _dispatch(
        self, call: Call, verb: str, path: ResourcePath, request: web.Request
    ) -> web.StreamResponse:
        match path.subresource:
            case "" | "status" | "finalize":
                pass
            case "scale":
                return await scale.handle(self._lifecycle, call, request)
            case "token":
                raw = await bodies.read_object(request)
                return json_response(self._reviews.issue_token(call, raw), 201)
            case "proxy":
                return await self._proxy.relay(
                    path.plural, path.namespace, path.name, path.rest, request
                )
            case "log":
                return await self._agent.logs(call, self._pod(call), request)
            case "portforward":
                return await self._agent.forward(call, self._pod(call), request)
            case "exec" | "attach":
                return await self._agent.session(call, self._pod(call), request)
            case "binding" | "eviction":
                return await scale.pod_action(self._lifecycle, call, request)
        match verb:
            case "get" | "list" | "watch":
                return await self._handlers.get(call, request)
            case "create" if not call.name:
                return await self._handlers.post(call, request)
            case "update" if call.name:
                return await self._handlers.put(call, request)
            case "patch" if call.name:
                return await self._handlers.patch(call, request)
            case "delete" | "deletecollection" if not call.subresource:
                return await self._handlers.delete(call, request)
        raise StatusError(
            405, "MethodNotAllowed", "the server does not allow this method on this resource"
        )

    def _pod(self, call: Call) -> dict[str, Any]:
        plain = Call(call.user, call.resource, call.version, call.namespace, call.name)
        assert call.resource.gr == PODS
        return self._lifecycle.read(plain)


def _other_version(known: ApiResource | None) -> str | None:
    if known is None:
        return None
    served = " and ".join(known.api_version(version) for version in known.versions)
    return f"{known.qualified} are served in {served}: `kubectl apply` a manifest of that"


def _missing(path: ResourcePath) -> str | None:
    if path.plural == "pods" and path.subresource == "ephemeralcontainers":
        return "Pods get no containers later here; `kubectl exec` reaches those that run"
    if path.subresource == "resize":
        return "there are no resource limits here, so there is nothing to resize"
    return None


def _aggregated(request: web.Request) -> str | None:
    """Return the version of aggregated discovery that a client prefers, if it knows it."""
    for option in request.headers.get("Accept", "").replace(" ", "").split(","):
        parts = option.split(";")
        if "as=APIGroupDiscoveryList" in parts and "g=apidiscovery.k8s.io" in parts:
            return next((v for v in ("v2", "v2beta1") if f"v={v}" in parts), None)
    return None


def _verb(request: web.Request, path: ResourcePath) -> str:
    match request.method:
        case "GET" | "HEAD":
            if request.query.get("watch") in ("1", "true", "True"):
                return "watch"
            return "get" if path.name else "list"
        case "POST":
            return "create"
        case "PUT":
            return "update"
        case "PATCH":
            return "patch"
        case "DELETE":
            return "delete" if path.name else "deletecollection"
    raise StatusError(405, "MethodNotAllowed", f"{request.method[:20]} is not served")


def _asked(verb: str, path: ResourcePath, request: web.Request) -> Request:
    """Write a request as rules see it."""
    namespace, name = path.namespace, path.name
    if (path.group, path.plural) == ("", "namespaces"):
        # A namespace is in itself, so that a binding in it counts.
        namespace = name
    if not name and verb in ("list", "watch", "deletecollection"):
        # Asking for one object by a selector is asking for that object.
        key, _, value = request.query.get("fieldSelector", "").partition("=")
        if key == "metadata.name" and "," not in value:
            name = value.removeprefix("=")
    return Request(verb, path.group, path.plural, path.subresource, namespace, name)


def _call(user: User, resource: Any, path: ResourcePath, request: web.Request) -> Call:
    query = request.query
    dry_run = query.get("dryRun", "")
    if dry_run not in ("", "All"):
        raise bad_request(f"dryRun: {dry_run[:40]!r} is not supported; only All is")
    validation = query.get("fieldValidation") or "Warn"
    if validation not in ("Strict", "Warn", "Ignore"):
        raise bad_request(f"fieldValidation: {validation[:40]!r} is none of Strict, Warn, Ignore")
    return Call(
        user=user,
        resource=resource,
        version=path.version,
        namespace=path.namespace,
        name=path.name,
        subresource=path.subresource,
        dry_run=dry_run == "All",
        manager=query.get("fieldManager", "")[:128],
        validation=validation,  # type: ignore[arg-type]
        force=query.get("force") in ("1", "true"),
    )


def _forbidden(user: User, verb: str, path: ResourcePath) -> StatusError:
    if "system:unauthenticated" in user.groups:
        return unauthorized()
    what = f"{path.plural}/{path.subresource}" if path.subresource else path.plural
    named = f'{path.plural} "{path.name}" is' if path.name else f"{path.plural} is"
    scope = f'in the namespace "{path.namespace}"' if path.namespace else "at the cluster scope"
    return forbidden(
        path.group,
        path.plural,
        path.name,
        f'{named} forbidden: User "{user.name}" cannot {verb} resource "{what}" in API group'
        f' "{path.group}" {scope}',
    )


def _forbidden_path(user: User, method: str, path: str) -> StatusError:
    if "system:unauthenticated" in user.groups:
        return unauthorized()
    return StatusError(
        403,
        "Forbidden",
        f'forbidden: User "{user.name}" cannot {method.lower()} path "{path}"',
    )


def _refusal(error: StatusError) -> web.Response:
    response = json_response(error.status(), error.code)
    if error.code == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="kubernetes"'
    return response
