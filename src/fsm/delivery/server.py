"""The HTTPS server that proxies talk to: ``docs/reference/delivery.md``, call by call.

What comes in: requests of proxies. What goes out: certificates, configurations, 304s; and, for the
registry, what proxies say.

    POST /v1/certificates   token ──► reviewed by the API ──► fits the Pod ──► certificate
    GET  /v1/config         certificate ──► fits the Pod ──► a poll (``polls``)
    POST /v1/acks           certificate ──► fits the Pod ──► noted
    POST /v1/reports        certificate ──► fits the Pod ──► what fails in plugins, noted

Invariants: every refusal has a status and a sentence (JSON ``{"error": …}``).
Not done here: whether a caller may (``credentials``), what is known of it (``registry``), HTTP and
TLS (``http``, ``channel``), the content of configurations (``fsm.compile``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import orjson

from fsm.ca import Authority, CaError, CsrError, signer_of
from fsm.delivery.channel import READ_BYTES, Channels
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
from fsm.delivery.http import Connection, Exchange, Handler
from fsm.delivery.metrics import DeliveryMetrics
from fsm.delivery.polls import VERSION_CHARS_MAX, Polls
from fsm.delivery.registry import ProxyRecord, ProxyRegistry
from fsm.kube import ApiError, TokenIdentity, Unauthenticated

log = logging.getLogger("fsm.delivery")

# LIMIT: a reason is shown to people; more than this is a stack trace gone astray.
REASON_CHARS_MAX = 2000
# LIMIT: connections that wait to be accepted; a fleet may start at once.
BACKLOG = 4096
# LIMIT: until connections are cut off that do not end by themselves, seconds.
STOP_S = 2.0


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
        self._review_timeout_s = review_timeout_s
        self._polls = Polls(
            authority=authority,
            registry=registry,
            metrics=metrics,
            leaf_lifetime=leaf_lifetime,
            now=now,
            on_ack=on_ack,
            wait_max_s=wait_max_s,
        )
        # WHY: reading a certificate costs as much as the rest of a poll, and it does not change.
        self._shown: WeakKeyDictionary[ssl.SSLObject, Member] = WeakKeyDictionary()
        self._routes: dict[str, tuple[str, Handler]] = {
            "/v1/certificates": ("POST", self._certificates),
            "/v1/config": ("GET", self._config),
            "/v1/acks": ("POST", self._acks),
            "/v1/reports": ("POST", self._reports),
        }
        self._channels = Channels()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self.port = 0

    async def start(self, context: ssl.SSLContext, host: str, port: int) -> None:
        """Listen; ``port`` then says where, also if 0 was asked for.

        Raises:
            OSError: the address cannot be bound.
        """
        listener = socket.create_server((host, port), backlog=BACKLOG, reuse_port=False)
        listener.setblocking(False)
        # A peer whose machine has gone says nothing more, and its poll would wait for ever.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.port = listener.getsockname()[1]
        buffer = memoryview(bytearray(READ_BYTES))
        self._listener = await asyncio.get_running_loop().create_server(
            lambda: Connection(self._serve, context, buffer, self._channels),
            sock=listener,
            backlog=BACKLOG,
        )
        self._channels.sweep()
        log.info("serving certificates and configurations address=%s:%d", host, self.port)

    async def stop(self) -> None:
        """Send waiting polls away, then close."""
        if self._listener is not None:
            self._listener.close()
        for channel in self._channels:
            if isinstance(channel, Connection):
                channel.finish()
        self._polls.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await self._channels.ended()
        for task in self._tasks:
            task.cancel()
        self._channels.stop()

    def _serve(self, exchange: Exchange) -> None:
        """Lead a request to what answers it; refusals are told in words."""
        method, handler = self._routes.get(exchange.path, ("", None))
        try:
            if handler is None:
                raise Denied(404, "there is nothing here; see docs/reference/delivery.md")
            if exchange.method != method:
                raise Denied(405, f"{exchange.path} takes {method} only")
            handler(exchange)
        except Denied as denied:
            _deny(exchange, denied)

    def _certificates(self, exchange: Exchange) -> None:
        # The API is asked meanwhile.
        task = asyncio.get_running_loop().create_task(self._certified(exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        exchange.left = task.cancel

    async def _certified(self, exchange: Exchange) -> None:
        begun = time.monotonic()
        try:
            answer = await self._certify(exchange)
        except Denied as denied:
            self._metrics.denied.labels(str(denied.status)).inc()
            _deny(exchange, denied)
            return
        except Exception:
            log.exception("a request for a certificate failed")
            _deny(exchange, Denied(500, "the control plane failed to answer this request"))
            return
        self._metrics.issued.inc()
        self._metrics.issue_time.observe(time.monotonic() - begun)
        exchange.reply(200, orjson.dumps(answer))

    async def _certify(self, exchange: Exchange) -> dict[str, Any]:
        scheme, _, token = exchange.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Denied(401, "a ServiceAccount token is needed (Authorization: Bearer …)")
        body = _json_object(exchange)
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
        return {
            "chain": issued.chain,
            "roots": issued.roots,
            "identity": issued.identity,
            "not_after": issued.not_after.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "renew_after_s": issued.renew_after_s,
        }

    def _config(self, exchange: Exchange) -> None:
        try:
            facts, member = self._member(exchange)
            record = self._known(facts, member)
            self._believes(record, exchange.headers.get("fsm-trust", "")[:VERSION_CHARS_MAX])
            self._polls.begin(exchange, record, member)
        except Denied as denied:
            self._polls.deny(exchange, denied)

    def _acks(self, exchange: Exchange) -> None:
        facts, member = self._member(exchange)
        body = _json_object(exchange)
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
        exchange.reply(204)

    def _reports(self, exchange: Exchange) -> None:
        facts, member = self._member(exchange)
        body = _json_object(exchange)
        record = self._known(facts, member)
        if self._failing is not None:
            try:
                self._failing.report(record.key, body)
            except BadReport as error:
                raise Denied(400, str(error)) from error
        exchange.reply(204)

    def _member(self, exchange: Exchange) -> tuple[PodFacts, Member]:
        """Find out which Pod a mesh member speaks for, and what its certificate says.

        Raises:
            Denied: it is no member, or may not speak for that Pod.
        """
        tls = exchange.tls
        wall = self._now().timestamp()
        member = self._shown.get(tls)
        # A connection outlives its certificate; who has an old one is told why, as at first.
        if member is None or member.not_after <= wall:
            member = identity_of_peer(tls.getpeercert(), self._authority.trust_domain, wall)
            member = replace(member, signer=signer_of(tls.getpeercert(True) or b""))
            self._shown[tls] = member
        claim = claimed_pod(exchange.headers.get("fsm-pod", ""))
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


def _deny(exchange: Exchange, denied: Denied) -> None:
    log.debug("denied %s %s status=%d: %s", exchange.method, exchange.path, denied.status, denied)
    exchange.reply(denied.status, orjson.dumps({"error": denied.reason}))


def _json_object(exchange: Exchange) -> dict[str, Any]:
    try:
        body = orjson.loads(exchange.body)
    except orjson.JSONDecodeError as error:
        raise Denied(400, f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise Denied(400, "the body must be a JSON object")
    return body
