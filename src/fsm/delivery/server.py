"""The HTTPS server that proxies talk to: ``docs/reference/delivery.md``, call by call.

What comes in: requests of proxies. What goes out: certificates, configurations, 304s; and, for the
registry, what proxies say.

    POST /v1/certificates   token ──► reviewed by the API ──► fits the Pod ──► certificate
    GET  /v1/config         certificate ──► fits the Pod ──► newer version? send : wait ──► 304
                                                                  200 the whole | 226 the difference
    POST /v1/acks           certificate ──► fits the Pod ──► noted
    POST /v1/reports        certificate ──► fits the Pod ──► what fails in plugins, noted

Invariants: every refusal has a status and a sentence (JSON ``{"error": …}``); a waiting poll costs
one event and one connection, nothing periodic; a poll whose client has left is cancelled at once.
Not done here: whether a caller may (``credentials``), what is known of it (``registry``), the
content of configurations (``fsm.compile``).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import orjson
from aiohttp import web

from fsm.ca import Authority, CaError, CsrError, signer_of
from fsm.delivery.body import SLICE_BYTES, SlicedBody
from fsm.delivery.credentials import (
    AUDIENCE,
    Denied,
    Member,
    PodFacts,
    World,
    claimed_pod,
    identity_of_peer,
    pod_of_peer,
    pod_of_token,
)
from fsm.delivery.failing import BadReport, FailingPlugins
from fsm.delivery.metrics import DeliveryMetrics
from fsm.delivery.registry import ProxyRecord, ProxyRegistry
from fsm.kube import ApiError, TokenIdentity, Unauthenticated

log = logging.getLogger("fsm.delivery")

# LIMIT: a request holds at most a signing request or a reason; see csr.CSR_BYTES_MAX.
REQUEST_BYTES_MAX = 64 * 1024
# LIMIT: a reason is shown to people; more than this is a stack trace gone astray.
REASON_CHARS_MAX = 2000
# LIMIT: of the version strings that proxies send back; ours are 16 characters.
VERSION_CHARS_MAX = 128

MANIPULATION = "fsm-difference"
"""What proxies call a difference in place of a whole configuration (RFC 3229)."""

# LIMIT: certificates that are asked to be renewed within one second.
RENEWALS_PER_S = 100
# A certificate that lives so much longer than it would if issued now is called in.
LIFETIME_SLACK = 1.1

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class TokenReviewer(Protocol):
    """What this server needs of a ``KubeClient``."""

    async def review_token(self, token: str, audiences: list[str] | None = None) -> TokenIdentity:
        """Say whose token it is, or raise ``Unauthenticated``."""
        ...


class DeliveryServer:
    """Serves one mesh; ``start`` binds, ``stop`` ends the waiting polls first."""

    def __init__(
        self,
        *,
        authority: Authority,
        registry: ProxyRegistry,
        reviewer: TokenReviewer,
        world: World,
        metrics: DeliveryMetrics,
        leaf_lifetime: Callable[[], timedelta],
        now: Callable[[], datetime],
        on_new_proxy: Callable[[ProxyRecord], None],
        on_ack: Callable[[], None] = lambda: None,
        on_credentials: Callable[[], None] = lambda: None,
        failing: FailingPlugins | None = None,
        wait_max_s: float = 55.0,
        review_timeout_s: float = 10.0,
    ) -> None:
        """Put the server together.

        Args:
            authority: signs.
            registry: remembers.
            reviewer: asks the API whose a token is.
            world: knows the Pods.
            metrics: counts.
            leaf_lifetime: of certificates issued now.
            now: the wall clock.
            on_new_proxy: is told of a proxy that has no configuration yet; must not block.
            on_ack: is called after each acknowledgement; must not block.
            on_credentials: is called when a proxy shows another certificate, or believes other
                roots, than before; must not block.
            failing: takes what proxies report of their plugins.
            wait_max_s: the longest that a poll waits, seconds.
            review_timeout_s: the longest that a token review may take, seconds.
        """
        self._authority = authority
        self._registry = registry
        self._reviewer = reviewer
        self._world = world
        self._metrics = metrics
        self._leaf_lifetime = leaf_lifetime
        self._now = now
        self._on_new_proxy = on_new_proxy
        self._on_ack = on_ack
        self._on_credentials = on_credentials
        self._failing = failing
        self._wait_max_s = wait_max_s
        self._review_timeout_s = review_timeout_s
        self._closing = False
        # WHY: reading a certificate costs as much as the rest of a poll, and it does not change.
        self._shown: WeakKeyDictionary[ssl.SSLObject, Member] = WeakKeyDictionary()
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self, context: ssl.SSLContext, host: str, port: int) -> None:
        """Listen; ``port`` then says where, also if 0 was asked for.

        Raises:
            OSError: the address cannot be bound.
        """
        app = web.Application(client_max_size=REQUEST_BYTES_MAX, middlewares=[_answer_in_words])
        app.add_routes(
            [
                web.post("/v1/certificates", self._certificates),
                web.get("/v1/config", self._config),
                web.post("/v1/acks", self._acks),
                web.post("/v1/reports", self._reports),
            ]
        )
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=2)
        await runner.setup()
        listener = socket.create_server((host, port), backlog=4096, reuse_port=False)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._runner = runner
        await web.SockSite(runner, listener, ssl_context=context, backlog=4096).start()
        log.info("serving certificates and configurations address=%s:%d", host, self.port)

    async def stop(self) -> None:
        """Send waiting polls away, then close."""
        self._closing = True
        for record in self._registry.records():
            record.wake()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _certificates(self, request: web.Request) -> web.StreamResponse:
        begun = time.monotonic()
        try:
            answer = await self._certify(request)
        except Denied as denied:
            self._metrics.denied.labels(str(denied.status)).inc()
            raise
        self._metrics.issued.inc()
        self._metrics.issue_time.observe(time.monotonic() - begun)
        return answer

    async def _certify(self, request: web.Request) -> web.StreamResponse:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Denied(401, "a ServiceAccount token is needed (Authorization: Bearer …)")
        body = await _json_object(request)
        claim = claimed_pod(body.get("pod"))
        csr = body.get("csr")
        if not isinstance(csr, str):
            raise Denied(400, "the field csr must hold a signing request in PEM")
        try:
            async with asyncio.timeout(self._review_timeout_s):
                identity = await self._reviewer.review_token(token.strip(), [AUDIENCE])
                facts = await pod_of_token(self._world, identity, claim)
        except Unauthenticated as error:
            raise Denied(401, f"the token is refused: {error}") from error
        except (ApiError, TimeoutError) as error:
            log.warning("cannot review the token of proxy=%s: %s", claim, error)
            raise Denied(503, "the Kubernetes API cannot review the token now") from error
        try:
            issued = self._authority.issue(
                csr,
                facts.key.namespace,
                facts.service_account,
                lifetime=self._leaf_lifetime(),
                now=self._now(),
            )
        except CsrError as error:
            raise Denied(400, str(error)) from error
        except CaError as error:
            log.error("cannot issue a certificate to proxy=%s: %s", claim, error)
            raise Denied(503, f"the certificate authority cannot sign: {error}") from error
        log.info(
            "issued a certificate proxy=%s identity=%s not_after=%s",
            claim,
            issued.identity,
            issued.not_after.isoformat(timespec="seconds"),
        )
        return _json(
            {
                "chain": issued.chain,
                "roots": issued.roots,
                "identity": issued.identity,
                "not_after": issued.not_after.isoformat(timespec="seconds").replace("+00:00", "Z"),
                "renew_after_s": issued.renew_after_s,
            }
        )

    async def _config(self, request: web.Request) -> web.StreamResponse:
        status = 500
        try:
            answer = await self._poll(request)
            status = answer.status
            return answer
        except Denied as denied:
            status = denied.status
            raise
        finally:
            self._metrics.polls.labels(str(status)).inc()

    async def _poll(self, request: web.Request) -> web.StreamResponse:
        facts, member = self._member(request)
        version = request.query.get("version", "")[:VERSION_CHARS_MAX]
        wait_s = min(_seconds(request.query.get("wait_s", "0")), self._wait_max_s)
        record = self._known(facts, member)
        self._believes(record, request.headers.get("fsm-trust", "")[:VERSION_CHARS_MAX])
        applied = request.headers.get("fsm-applied", "")[:VERSION_CHARS_MAX]
        if self._registry.polled(record, version, applied):
            log.debug("configuration applied proxy=%s version=%s", record.key, version)
            self._on_ack()
        record.polls += 1
        try:
            async with asyncio.timeout(wait_s):
                while not self._closing and self._registry.get(record.key) is record:
                    if record.target is not None and record.target.version != version:
                        return self._send(request, record, member, version)
                    if self._hasten(record, member):
                        break
                    await record.changed.wait()
        except TimeoutError:
            pass
        finally:
            record.polls -= 1
            self._registry.touch_if_known(record)
        if self._closing:
            raise Denied(503, "the control plane is shutting down")
        if self._registry.get(record.key) is not record:
            raise Denied(404, f"Pod {record.key} is gone")
        if record.target is None:
            why = record.compile_error or "it is not compiled yet"
            raise Denied(503, f"there is no configuration for {record.key}: {why}")
        headers = {"ETag": f'"{version}"'} | self._renewal(member)
        return web.Response(status=304, headers=headers)

    def _hasten(self, record: ProxyRecord, member: Member) -> bool:
        """Whether to end a poll early, once per certificate, so that it is renewed now."""
        fresh = f"{self._authority.signer} {member.not_after}"
        if not self._renewal(member) or record.hastened == fresh:
            return False
        record.hastened = fresh
        return True

    def _renewal(self, member: Member) -> dict[str, str]:
        """Return the header that asks for a renewal, where it should come before its time.

        That is so when another root signs now, or when certificates shall live shorter.
        """
        longest = self._now() + self._leaf_lifetime() * LIFETIME_SLACK
        too_long = member.not_after > longest.timestamp()
        if member.signer == self._authority.signer and not too_long:
            return {}
        # A second per hundred proxies: each renewal costs a token review and a signature.
        return {"fsm-renew": str(1 + len(self._registry) // RENEWALS_PER_S)}

    def _send(
        self, request: web.Request, record: ProxyRecord, member: Member, version: str
    ) -> web.StreamResponse:
        assert record.target is not None
        held = record.held
        self._registry.sent(record, record.target)
        self._metrics.sent.labels(record.identity).inc()
        log.debug("sent a configuration proxy=%s version=%s", record.key, record.target.version)
        headers = {"ETag": f'"{record.target.version}"'} | self._renewal(member)
        if held is not None and held.version == version and _takes_differences(request):
            text = record.target.difference(held)
            if text is not None:
                headers |= {"IM": MANIPULATION, "Delta-Base": f'"{version}"'}
                return web.Response(
                    status=226, body=text, content_type="application/json", headers=headers
                )
        if record.target.size > SLICE_BYTES:
            if request.transport is not None:
                request.transport.set_write_buffer_limits(SLICE_BYTES)
            return web.Response(body=SlicedBody(record.target), headers=headers)
        return web.Response(
            body=record.target.body, content_type="application/json", headers=headers
        )

    async def _acks(self, request: web.Request) -> web.StreamResponse:
        facts, member = self._member(request)
        body = await _json_object(request)
        version, outcome = body.get("version"), body.get("outcome")
        reason = body.get("reason") or ""
        if not isinstance(version, str) or not 0 < len(version) <= VERSION_CHARS_MAX:
            raise Denied(400, "the field version must be the version that was received")
        if not isinstance(reason, str):
            raise Denied(400, "the field reason must be a text")
        record = self._known(facts, member)
        if outcome == "applied":
            self._registry.acknowledge(record, version, "applied", "")
            log.debug("configuration applied proxy=%s version=%s", record.key, version)
        elif outcome == "refused":
            reason = reason[:REASON_CHARS_MAX] or "no reason given"
            self._registry.acknowledge(record, version, "refused", reason)
            self._metrics.refused.labels(record.identity).inc()
            log.warning(
                "a proxy refused its configuration and goes on with the last one"
                " proxy=%s version=%s: %s",
                record.key,
                version,
                reason,
            )
        else:
            raise Denied(400, 'the field outcome must be "applied" or "refused"')
        self._on_ack()
        return web.Response(status=204)

    async def _reports(self, request: web.Request) -> web.StreamResponse:
        facts, member = self._member(request)
        body = await _json_object(request)
        record = self._known(facts, member)
        if self._failing is not None:
            try:
                self._failing.report(record.key, body)
            except BadReport as error:
                raise Denied(400, str(error)) from error
        return web.Response(status=204)

    def _member(self, request: web.Request) -> tuple[PodFacts, Member]:
        """Find out which Pod a mesh member speaks for, and what its certificate says.

        Raises:
            Denied: it is no member, or may not speak for that Pod.
        """
        tls = request.transport.get_extra_info("ssl_object") if request.transport else None
        wall = self._now().timestamp()
        member = self._shown.get(tls) if tls is not None else None
        # A connection outlives its certificate; who has an old one is told why, as at first.
        if member is None or member.not_after <= wall:
            peer = tls.getpeercert() if tls is not None else None
            member = identity_of_peer(peer, self._authority.trust_domain, wall)
            assert tls is not None, "only TLS shows a certificate"
            member = replace(member, signer=signer_of(tls.getpeercert(True) or b""))
            self._shown[tls] = member
        claim = claimed_pod(request.headers.get("fsm-pod", ""))
        return pod_of_peer(self._world, member, claim), member

    def _believes(self, record: ProxyRecord, trust: str) -> None:
        if trust != record.trust:
            record.trust = trust
            self._on_credentials()

    def _known(self, facts: PodFacts, member: Member) -> ProxyRecord:
        domain = self._authority.trust_domain
        identity = f"spiffe://{domain}/ns/{facts.key.namespace}/sa/{facts.service_account}"
        before = self._registry.get(facts.key)
        reconnects = before.reconnects if before else 0
        record, new = self._registry.touch(facts.key, identity)
        record.certificate_not_after = member.not_after
        if record.signer != member.signer:
            record.signer = member.signer
            self._on_credentials()
        if record.reconnects > reconnects:
            self._metrics.reconnected.inc()
        if new:
            log.info("a proxy connected proxy=%s identity=%s", facts.key, identity)
        if record.target is None:
            self._on_new_proxy(record)
        return record


@web.middleware
async def _answer_in_words(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn refusals and faults into JSON; a fault of ours is logged and costs one request."""
    try:
        return await handler(request)
    except Denied as denied:
        log.debug("denied %s %s status=%d: %s", request.method, request.path, denied.status, denied)
        return _json({"error": denied.reason}, denied.status)
    except web.HTTPException as error:
        return _json({"error": error.reason}, error.status)
    except Exception:
        log.exception("a request failed %s %s", request.method, request.path)
        return _json({"error": "the control plane failed to answer this request"}, 500)


def _takes_differences(request: web.Request) -> bool:
    """Source: RFC 3229 section 10.5.3, without its preferences."""
    wanted = request.headers.get("A-IM", "")
    return any(word.strip() == MANIPULATION for word in wanted.split(","))


async def _json_object(request: web.Request) -> dict[str, Any]:
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise Denied(400, f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise Denied(400, "the body must be a JSON object")
    return body


def _json(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    # Written so that NaN is refused too.
    if not 0 <= seconds < 1e6:
        raise Denied(400, f"wait_s must be a number of seconds, not {text[:20]!r}")
    return seconds
