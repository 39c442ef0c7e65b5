"""Polls: who waits for a configuration, and what each is answered.

In: requests for configurations, of callers that are known (``server``); wake-ups of the registry.
Out: configurations, differences, 304s, refusals.

    newer version? send : wait ──► woken: look again ──► 200 the whole | 226 the difference
                             └──► time is up, another root signs ──► 304
                             └──► its Pod is gone 404 · shutting down, none compiled 503

Invariants: a waiting poll is an entry in its record and a timer, nothing that runs; its client may
leave at any moment. Not here: who may ask (``credentials``), HTTP (``http``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import orjson
from prometheus_client import Counter

from fsm.ca import Authority
from fsm.delivery.credentials import Denied, Member
from fsm.delivery.http import SLICE_BYTES, Exchange
from fsm.delivery.metrics import DeliveryMetrics
from fsm.delivery.registry import Compiled, ProxyRecord, ProxyRegistry

log = logging.getLogger("fsm.delivery")

# LIMIT: of the version strings that proxies send back; ours are 16 characters.
VERSION_CHARS_MAX = 128

MANIPULATION = "fsm-difference"
"""What proxies call a difference in place of a whole configuration (RFC 3229)."""

# LIMIT: certificates that are asked to be renewed within one second.
RENEWALS_PER_S = 100
# A certificate that lives so much longer than it would if issued now is called in.
LIFETIME_SLACK = 1.1


class Polls:
    """All polls of one server."""

    def __init__(
        self,
        *,
        authority: Authority,
        registry: ProxyRegistry,
        metrics: DeliveryMetrics,
        leaf_lifetime: Callable[[], timedelta],
        now: Callable[[], datetime],
        on_ack: Callable[[], None],
        wait_max_s: float,
    ) -> None:
        """Put it together; see ``DeliveryServer``."""
        self._authority = authority
        self.registry = registry
        self._metrics = metrics
        self._leaf_lifetime = leaf_lifetime
        self._now = now
        self._on_ack = on_ack
        self._wait_max_s = wait_max_s
        self._counted: dict[int, Counter] = {}
        self.closing = False

    def begin(self, exchange: Exchange, record: ProxyRecord, member: Member) -> None:
        """Answer a poll, now or later.

        Raises:
            Denied: it is malformed.
        """
        version = _version(exchange.query.get("version", ""))
        wait_s = min(_seconds(exchange.query.get("wait_s", "0")), self._wait_max_s)
        applied = _version(exchange.headers.get("fsm-applied", ""))
        if self.registry.polled(record, version, applied):
            log.debug("configuration applied proxy=%s version=%s", record.key, version)
            self._on_ack()
        _Poll(self, exchange, record, member, version).wait(wait_s)

    def close(self) -> None:
        """Send those that wait away, and whoever comes."""
        self.closing = True
        self.registry.wake_all()

    def answer(
        self,
        exchange: Exchange,
        status: int,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer, and count."""
        self._count(status)
        exchange.reply(status, body, headers=headers)

    def deny(self, exchange: Exchange, denied: Denied) -> None:
        """Say no, in words."""
        log.debug("denied a poll status=%d: %s", denied.status, denied)
        self.answer(exchange, denied.status, orjson.dumps({"error": denied.reason}))

    def hasten(self, record: ProxyRecord, member: Member) -> bool:
        """Whether to end a poll early, once per certificate, so that it is renewed now."""
        fresh = f"{self._authority.signer} {member.not_after}"
        if not self.renewal(member) or record.hastened == fresh:
            return False
        record.hastened = fresh
        return True

    def renewal(self, member: Member) -> dict[str, str]:
        """Return the header that asks for a renewal, where it should come before its time.

        That is so when another root signs now, or when certificates shall live shorter.
        """
        left_s = member.not_after - self._now().timestamp()
        too_long = left_s > self._leaf_lifetime().total_seconds() * LIFETIME_SLACK
        if member.signer == self._authority.signer and not too_long:
            return {}
        # A second per hundred proxies: each renewal costs a token review and a signature.
        return {"fsm-renew": str(1 + len(self.registry) // RENEWALS_PER_S)}

    def send(
        self,
        exchange: Exchange,
        record: ProxyRecord,
        target: Compiled,
        member: Member,
        version: str,
    ) -> None:
        """Send what the proxy shall have; ``version`` is what it says to hold."""
        held = record.held
        self.registry.sent(record, target)
        self._metrics.sent.labels(record.identity).inc()
        log.debug("sent a configuration proxy=%s version=%s", record.key, target.version)
        headers = {"ETag": f'"{target.version}"'} | self.renewal(member)
        if held is not None and held.version == version and _takes_differences(exchange):
            text = target.difference(held)
            if text is not None:
                headers |= {"IM": MANIPULATION, "Delta-Base": f'"{version}"'}
                self.answer(exchange, 226, text, headers)
                return
        if target.size <= SLICE_BYTES:
            self.answer(exchange, 200, target.body, headers)
            return
        self._count(200)
        exchange.reply(200, target.slices(SLICE_BYTES), size=target.size, headers=headers)

    def _count(self, status: int) -> None:
        counted = self._counted.get(status)
        if counted is None:
            counted = self._counted[status] = self._metrics.polls.labels(str(status))
        counted.inc()


class _Poll:
    """One poll that has not been answered yet."""

    __slots__ = ("_ended", "_exchange", "_member", "_polls", "_record", "_timer", "_version")

    def __init__(
        self, polls: Polls, exchange: Exchange, record: ProxyRecord, member: Member, version: str
    ) -> None:
        self._polls, self._exchange = polls, exchange
        self._record, self._member, self._version = record, member, version
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False

    def wait(self, wait_s: float) -> None:
        self._record.polls += 1
        self._look()
        if self._ended:
            return
        if wait_s <= 0:
            self._conclude()
            return
        self._record.waiting.add(self._look)
        self._exchange.left = self._end
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._conclude)

    def _look(self) -> None:
        """Answer if there is something to say; whoever wakes may do so once too often."""
        record, polls = self._record, self._polls
        if self._ended:
            return
        target = record.target
        if polls.closing or polls.registry.get(record.key) is not record:
            self._conclude()
        elif target is not None and target.version != self._version:
            self._end()
            polls.send(self._exchange, record, target, self._member, self._version)
        elif polls.hasten(record, self._member):
            self._conclude()

    def _conclude(self) -> None:
        """Answer that there is nothing new, or why there never will be."""
        record, polls = self._record, self._polls
        self._end()
        if polls.closing:
            denied = Denied(503, "the control plane is shutting down")
        elif polls.registry.get(record.key) is not record:
            denied = Denied(404, f"Pod {record.key} is gone")
        elif record.target is None:
            why = record.compile_error or "it is not compiled yet"
            denied = Denied(503, f"there is no configuration for {record.key}: {why}")
        else:
            headers = {"ETag": f'"{self._version}"'} | polls.renewal(self._member)
            polls.answer(self._exchange, 304, headers=headers)
            return
        polls.deny(self._exchange, denied)

    def _end(self) -> None:
        if self._ended:
            return
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._record.waiting.discard(self._look)
        self._record.polls -= 1
        self._polls.registry.touch_if_known(self._record)


def _takes_differences(exchange: Exchange) -> bool:
    """Source: RFC 3229 section 10.5.3, without its preferences."""
    wanted = exchange.headers.get("a-im", "")
    return any(word.strip() == MANIPULATION for word in wanted.split(","))


def _version(text: str) -> str:
    # It goes back as an ETag, which is no place for a line break.
    if not (text.isascii() and text.isprintable()) or '"' in text:
        raise Denied(400, "a version is printable ASCII without quotation marks")
    return text[:VERSION_CHARS_MAX]


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    # Written so that NaN is refused too.
    if not 0 <= seconds < 1e6:
        raise Denied(400, f"wait_s must be a number of seconds, not {text[:20]!r}")
    return seconds
