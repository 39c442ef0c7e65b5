"""The admission webhooks: AdmissionReview in, AdmissionReview out.

What comes in: over HTTPS from the API server, Pods to be created (``/mutate-pod-creation``) and
objects of ours to be written (``/validate``). What goes out: a patch, or "allowed", or "no" with
every problem at once.

Invariants: an answer always carries the uid of its question; a fault of ours refuses (the webhook
configuration says Fail, and an uninjected Pod would be a hole in the mesh) and is logged; nothing
is remembered between two questions.
Not done here: the decisions (``inject``, ``fsm.policies``).
Source: https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/
"""

from __future__ import annotations

import base64
import logging
import socket
import ssl
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter

from fsm.injector.inject import inject
from fsm.injector.options import InjectionSettings, Refusal
from fsm.kube import ApiError
from fsm.model.mesh_config import MeshConfig

log = logging.getLogger("fsm.injector")

# LIMIT: the API server accepts objects of up to 3 MiB and sends old and new together.
REVIEW_BYTES_MAX = 8 * 1024 * 1024
# LIMIT: problems that one answer lists; they go into a terminal.
PROBLEMS_MAX = 100

JsonObject = dict[str, Any]


class Problem(Protocol):
    """One thing that is wrong with an object; ``fsm.policies`` makes these."""

    @property
    def path(self) -> str:
        """Where in the object."""
        ...

    @property
    def message(self) -> str:
        """What is wrong."""
        ...

    @property
    def hint(self) -> str:
        """What to do about it; may be empty."""
        ...


class Webhook:
    """The server of both webhooks."""

    def __init__(
        self,
        settings: InjectionSettings,
        *,
        mesh: Callable[[], MeshConfig],
        namespace: Callable[[str], Awaitable[Mapping[str, Any]]],
        validate: Callable[[JsonObject], Sequence[Problem]],
        warn: Callable[[JsonObject], Sequence[Problem]],
        examine: Callable[[JsonObject], Awaitable[tuple[Sequence[Problem], Sequence[Problem]]]],
        metrics: CollectorRegistry,
    ) -> None:
        """Put the server together.

        Args:
            settings: of injection.
            mesh: the MeshConfig of now.
            namespace: finds a Namespace object by name; may raise ``ApiError``.
            validate: finds everything that is wrong with an object of ours.
            warn: finds what is allowed in it and probably not meant.
            examine: finds both, where that takes longer than to look; asked of what is valid.
            metrics: where answers are counted.
        """
        self._settings = settings
        self._mesh = mesh
        self._namespace = namespace
        self._validate = validate
        self._warn = warn
        self._examine = examine
        self._answers = Counter(
            "fsm_admission_webhook_response_total",
            "Answers of the admission webhooks.",
            ["kind", "success"],
            registry=metrics,
        )
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self, context: ssl.SSLContext, host: str, port: int) -> None:
        """Listen; ``port`` then says where, also if 0 was asked for.

        Raises:
            OSError: the address cannot be bound.
        """
        app = web.Application(client_max_size=REVIEW_BYTES_MAX)
        app.add_routes(
            [
                web.post("/mutate-pod-creation", self._serve(self._mutate)),
                web.post("/validate", self._serve(self._check)),
                web.get("/healthz", _healthz),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=2)
        await runner.setup()
        listener = socket.create_server((host, port), backlog=256)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._runner = runner
        await web.SockSite(runner, listener, ssl_context=context).start()
        log.info("serving admission webhooks address=%s:%d", host, self.port)

    async def stop(self) -> None:
        """Close."""
        if self._runner is not None:
            await self._runner.cleanup()

    def _serve(
        self, decide: Callable[[JsonObject], Awaitable[JsonObject]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handler(request: web.Request) -> web.Response:
            try:
                review = orjson.loads(await request.read())
                question = review["request"]
                uid = question["uid"]
                if not isinstance(question, dict) or not isinstance(uid, str):
                    raise TypeError("request.uid must be a text")
            except (orjson.JSONDecodeError, KeyError, TypeError) as error:
                return web.Response(status=400, text=f"this is no AdmissionReview: {error}\n")
            try:
                answer = await decide(question)
            except Exception as error:
                log.exception("the webhook failed %s", request.path)
                answer = _no(500, f"fsm could not decide ({type(error).__name__}): {error}")
            kind = str((question.get("kind") or {}).get("kind", ""))[:64]
            self._answers.labels(kind, str(answer["allowed"]).lower()).inc()
            body = {
                "apiVersion": "admission.k8s.io/v1",
                "kind": "AdmissionReview",
                "response": {"uid": uid, **answer},
            }
            return web.Response(body=orjson.dumps(body), content_type="application/json")

        return handler

    async def _mutate(self, question: JsonObject) -> JsonObject:
        kind = (question.get("kind") or {}).get("kind")
        if kind != "Pod" or question.get("operation") != "CREATE":
            return {"allowed": True}
        pod, where = question.get("object") or {}, str(question.get("namespace") or "")
        try:
            namespace = await self._namespace(where)
        except ApiError as error:
            return _no(503, f"fsm cannot read the namespace of this Pod: {error}")
        meta = pod.get("metadata") or {}
        name = f"{where}/{meta.get('name') or str(meta.get('generateName', '')) + '*'}"
        made = inject(pod, namespace, self._mesh(), self._settings, str(uuid.uuid4()))
        if made is None:
            log.debug("no sidecar wanted pod=%s", name)
            return {"allowed": True}
        if isinstance(made, Refusal):
            log.warning("refused a Pod pod=%s: %s", name, made.reason)
            return _no(422, f"fsm cannot inject a sidecar into this Pod: {made.reason}")
        log.info("injected a sidecar pod=%s", name)
        patch = base64.b64encode(orjson.dumps(made)).decode()
        return {"allowed": True, "patchType": "JSONPatch", "patch": patch}

    async def _check(self, question: JsonObject) -> JsonObject:
        obj = question.get("object")
        if not isinstance(obj, dict):
            return {"allowed": True}
        problems = self._validate(obj)
        more: Sequence[Problem] = ()
        if not problems:
            problems, more = await self._examine(obj)
        if not problems:
            doubts = [_in_words(doubt) for doubt in (*self._warn(obj), *more)]
            return {"allowed": True, "warnings": doubts} if doubts else {"allowed": True}
        lines = [_in_words(problem) for problem in problems[:PROBLEMS_MAX]]
        if len(problems) > PROBLEMS_MAX:
            lines.append(f"and {len(problems) - PROBLEMS_MAX} more")
        kind = str(obj.get("kind", "object"))
        meta = obj.get("metadata") or {}
        log.info(
            "refused %s %s/%s: %s", kind, meta.get("namespace"), meta.get("name"), "; ".join(lines)
        )
        if not any(problem.path for problem in problems):
            # Not what is written is wrong, but that it comes at all.
            answer = _no(403, "; ".join(lines))
            answer["status"]["reason"] = "Forbidden"
            return answer
        answer = _no(422, "\n".join(lines) if len(lines) == 1 else "\n".join(["", *lines]))
        answer["status"]["reason"] = "Invalid"
        answer["status"]["details"] = {
            "name": meta.get("name"),
            "kind": kind,
            "causes": [
                # kubectl shows these and not the message of the whole.
                {
                    "reason": "FieldValueInvalid",
                    "message": _with_hint(problem),
                    "field": problem.path,
                }
                for problem in problems[:PROBLEMS_MAX]
            ],
        }
        return answer


def _in_words(problem: Problem) -> str:
    where = f"{problem.path}: " if problem.path else ""
    return f"{where}{_with_hint(problem)}"


def _with_hint(problem: Problem) -> str:
    return f"{problem.message} (hint: {problem.hint})" if problem.hint else problem.message


def _no(code: int, message: str) -> JsonObject:
    return {"allowed": False, "status": {"code": code, "message": message}}


async def _healthz(request: web.Request) -> web.Response:
    return web.Response(text="ok\n")
