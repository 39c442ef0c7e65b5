"""Admission webhooks: ask those that want a say about a change.

What comes in: an operation, the new and the old object. What goes out: the object as the mutating
webhooks want it, or a refusal with the webhook's words.

    matching rules, namespace and object selectors ─► AdmissionReview v1 over TLS ─► patch / verdict

Invariants: mutating webhooks run one after the other in order of configuration name, validating
ones all at the same time; a webhook that does not answer in its time counts by its failurePolicy;
webhook configurations themselves are never sent to webhooks, so none can lock everyone out.
Not done here: ``matchConditions`` (CEL), reinvocation.
Source: https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from fsm.standalone.apiserver import patch, registry
from fsm.standalone.apiserver.calls import Call
from fsm.standalone.apiserver.errors import StatusError
from fsm.standalone.apiserver.selectors import matches_label_selector, object_labels
from fsm.standalone.apiserver.store import KubeObject, Store, copy_object

Json = dict[str, Any]

# LIMIT of an answer: a patch of an object is no larger than objects may be.
ANSWER_BYTES_MAX = 3 * 1024 * 1024
_REASONS = {400: "BadRequest", 409: "Conflict", 422: "Invalid", 500: "InternalError"}
_NEVER = (registry.MUTATING, registry.VALIDATING)


class _CallFailed(Exception):
    """A webhook could not be asked, or its answer makes no sense."""


@dataclass(frozen=True, slots=True)
class _Hook:
    configuration: str
    spec: Json

    @property
    def name(self) -> str:
        return str(self.spec["name"])


class Webhooks:
    """Calls the webhooks that are configured in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[str, ssl.SSLContext] = {}

    async def close(self) -> None:
        """Close the connections to webhooks."""
        if self._session is not None:
            await self._session.close()

    async def mutate(
        self, call: Call, operation: str, new: KubeObject, old: KubeObject | None
    ) -> KubeObject:
        """Let the mutating webhooks change an object; the same object when none does.

        Raises:
            StatusError: a webhook refuses, or one that must answer does not.
        """
        current = new
        for hook in self._matching(registry.MUTATING, call, operation, new, old):
            answer = await self._ask(hook, call, operation, current, old)
            if answer is None or not answer.get("patch"):
                continue
            try:
                if answer.get("patchType") != "JSONPatch":
                    raise _CallFailed(f"patchType {answer.get('patchType')!r} is not JSONPatch")
                operations = orjson.loads(base64.b64decode(answer["patch"], validate=True))
                current = patch.json_patch(copy_object(current), operations)
            except (_CallFailed, StatusError, ValueError, binascii.Error, TypeError) as error:
                self._failed(hook, f"its patch cannot be applied: {error}", call)
        return current

    async def validate(
        self, call: Call, operation: str, new: KubeObject | None, old: KubeObject | None
    ) -> None:
        """Ask the validating webhooks.

        Raises:
            StatusError: one refuses, or one that must answer does not.
        """
        hooks = list(self._matching(registry.VALIDATING, call, operation, new, old))
        if not hooks:
            return
        asked = (self._ask(hook, call, operation, new, old) for hook in hooks)
        # All run to their end, so that the first refusal (in order) is what the caller reads.
        for result in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    def _matching(
        self,
        gr: tuple[str, str],
        call: Call,
        operation: str,
        new: KubeObject | None,
        old: KubeObject | None,
    ) -> Iterator[_Hook]:
        if call.resource.gr in _NEVER:
            return
        for configuration in self._store.list(gr):
            for spec in configuration.get("webhooks") or []:
                if _rules_match(spec, call, operation) and self._selected(spec, call, new, old):
                    yield _Hook(configuration["metadata"]["name"], spec)

    def _selected(
        self, spec: Json, call: Call, new: KubeObject | None, old: KubeObject | None
    ) -> bool:
        selector = spec.get("namespaceSelector")
        if selector:
            if call.namespace:
                namespace = self._store.get(registry.NAMESPACES, "", call.namespace)
            else:
                # A namespace is selected by its own labels; other cluster-scoped kinds always.
                namespace = (new or old) if call.resource.gr == registry.NAMESPACES else None
            if namespace is not None and not matches_label_selector(
                selector, object_labels(namespace)
            ):
                return False
        wanted = spec.get("objectSelector")
        either = [obj for obj in (new, old) if obj is not None]
        return not wanted or any(
            matches_label_selector(wanted, object_labels(obj)) for obj in either
        )

    async def _ask(
        self,
        hook: _Hook,
        call: Call,
        operation: str,
        new: KubeObject | None,
        old: KubeObject | None,
    ) -> Json | None:
        """Ask one webhook; ``None`` when it does not answer and may be ignored."""
        if call.dry_run and hook.spec.get("sideEffects") not in ("None", "NoneOnDryRun"):
            raise StatusError(
                400, "BadRequest", f'admission webhook "{hook.name}" does not support dry run'
            )
        review = _review(call, operation, new, old)
        try:
            async with asyncio.timeout(hook.spec.get("timeoutSeconds") or 10):
                answer = await self._post(hook, review)
            response = answer.get("response")
            if not isinstance(response, dict) or response.get("uid") != review["request"]["uid"]:
                raise _CallFailed("the answer has no response with the uid of the request")
        except TimeoutError:
            self._failed(hook, f"no answer within {hook.spec['timeoutSeconds']} s", call)
            return None
        except (_CallFailed, aiohttp.ClientError, OSError, ssl.SSLError) as error:
            self._failed(hook, str(error) or type(error).__name__, call)
            return None
        call.warnings += [str(text) for text in response.get("warnings") or []]
        if response.get("allowed") is not True:
            raise _refusal(hook, response.get("status") or {})
        return response

    def _failed(self, hook: _Hook, why: str, call: Call) -> None:
        text = f'failed calling webhook "{hook.name}" ({hook.configuration}): {why}'
        if hook.spec.get("failurePolicy") != "Ignore":
            raise StatusError(500, "InternalError", f"Internal error occurred: {text}")
        call.warnings.append(f"{text}; ignored, as its failurePolicy says")

    async def _post(self, hook: _Hook, review: Json) -> Json:
        client = hook.spec["clientConfig"]
        context = self._context(client.get("caBundle") or "")
        url, server_name = self._address(client)
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), auto_decompress=True
            )
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if server_name:
            headers["Host"] = server_name
        async with self._session.post(
            url,
            data=orjson.dumps(review),
            headers=headers,
            ssl=context,
            server_hostname=server_name or None,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None),
        ) as response:
            raw = await response.content.read(ANSWER_BYTES_MAX + 1)
            while not response.content.at_eof() and len(raw) <= ANSWER_BYTES_MAX:
                raw += await response.content.read(ANSWER_BYTES_MAX + 1 - len(raw))
            if response.status != 200:
                raise _CallFailed(f"HTTP {response.status}: {raw[:200].decode(errors='replace')}")
        try:
            answer = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise _CallFailed(f"the answer is not JSON: {error}") from error
        if not isinstance(answer, dict):
            raise _CallFailed("the answer is no object")
        return answer

    def _context(self, bundle: str) -> ssl.SSLContext:
        context = self._contexts.get(bundle)
        if context is None:
            try:
                authority = base64.b64decode(bundle).decode() if bundle else None
                context = ssl.create_default_context(cadata=authority)
            except (ssl.SSLError, ValueError) as error:
                raise _CallFailed(f"its caBundle cannot be used: {error}") from error
            # LIMIT: authorities change seldom; a runaway rotation must not fill memory.
            if len(self._contexts) >= 64:
                self._contexts.clear()
            self._contexts[bundle] = context
        return context

    def _address(self, client: Json) -> tuple[str, str]:
        """Return the URL to post to, and the name that the certificate must have."""
        if client.get("url"):
            return str(client["url"]), ""
        reference = client["service"]
        namespace, name = reference["namespace"], reference["name"]
        port, path = reference.get("port") or 443, reference.get("path") or "/"
        service = self._store.get(registry.SERVICES, namespace, name)
        if service is None:
            raise _CallFailed(f"Service {namespace}/{name} does not exist")
        ports = service["spec"].get("ports") or []
        if not any(item.get("port") == port for item in ports):
            raise _CallFailed(f"Service {namespace}/{name} has no port {port}")
        address = service["spec"].get("clusterIP")
        if not address or address == "None":
            raise _CallFailed(f"Service {namespace}/{name} has no cluster IP")
        host = f"[{address}]" if ":" in address else address
        return f"https://{host}:{port}/{path.lstrip('/')}", f"{name}.{namespace}.svc"


def _rules_match(spec: Json, call: Call, operation: str) -> bool:
    resource = call.resource
    wanted = f"{resource.plural}/{call.subresource}" if call.subresource else resource.plural
    for rule in spec.get("rules") or []:
        scope = rule.get("scope") or "*"
        if (
            _listed(rule.get("operations"), operation)
            and _listed(rule.get("apiGroups"), resource.group)
            # An object is the same whatever version it is sent in (matchPolicy Equivalent).
            and any(_listed(rule.get("apiVersions"), version) for version in resource.versions)
            and any(_resource_fits(entry, wanted) for entry in rule.get("resources") or [])
            and scope in ("*", "Namespaced" if resource.namespaced else "Cluster")
        ):
            return True
    return False


def _listed(allowed: list[str] | None, value: str) -> bool:
    return "*" in (allowed or []) or value in (allowed or [])


def _resource_fits(entry: str, wanted: str) -> bool:
    if entry in ("*/*", wanted):
        return True
    name, _, sub = wanted.partition("/")
    if entry == "*":
        return not sub
    return entry in (f"{name}/*", f"*/{sub}" if sub else "")


def _review(call: Call, operation: str, new: KubeObject | None, old: KubeObject | None) -> Json:
    resource = call.resource
    kind = {"group": resource.group, "version": call.version, "kind": resource.kind}
    what = {"group": resource.group, "version": call.version, "resource": resource.plural}
    shown = new or old or {}
    request: Json = {
        "uid": str(uuid.uuid4()),
        "kind": kind,
        "resource": what,
        "requestKind": kind,
        "requestResource": what,
        "name": (shown.get("metadata") or {}).get("name", ""),
        "operation": operation,
        "userInfo": {
            "username": call.user.name,
            "uid": call.user.uid,
            "groups": list(call.user.groups),
            "extra": call.user.extra,
        },
        "object": new,
        "oldObject": old,
        "dryRun": call.dry_run,
        "options": {"kind": f"{operation.capitalize()}Options", "apiVersion": "meta.k8s.io/v1"},
    }
    if call.namespace:
        request["namespace"] = call.namespace
    if call.subresource:
        request["subResource"] = request["requestSubResource"] = call.subresource
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def _refusal(hook: _Hook, status: Json) -> StatusError:
    given = status.get("code")
    code = given if isinstance(given, int) and 400 <= given < 600 else 403
    message = status.get("message") or status.get("reason") or "without explanation"
    return StatusError(
        code,
        str(status.get("reason") or _REASONS.get(code, "Forbidden")),
        f'admission webhook "{hook.name}" denied the request: {message}',
        details=status.get("details") if isinstance(status.get("details"), dict) else None,
    )
