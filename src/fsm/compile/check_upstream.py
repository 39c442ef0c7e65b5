"""Whether retries, circuit breakers and rate limits of a configuration make sense.

In: one of them. Out: its faults, as (path below it, message). The proxy asks the same questions
(``proxy/pipy-config/src/upstream.rs``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fsm.compile.contract import CircuitBreaker, RateLimit, Retry

Fault = tuple[str, str]

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"(?:[\t -~\x80-\U0010ffff]*[!-~\x80-\U0010ffff])?")


def retry_faults(retry: Retry) -> Iterator[Fault]:
    """Yield what is wrong with a retry rule."""
    for index, found in enumerate(retry.statuses):
        if not 100 <= found.first <= found.last <= 599:
            text = f"{found.first} to {found.last} is no range of statuses"
            yield f"statuses[{index}]", text
    if not retry.statuses and not retry.connect_failure and not retry.reset:
        yield "statuses", "is empty, nothing would ever be retried"


def breaker_faults(breaker: CircuitBreaker) -> Iterator[Fault]:
    """Yield what is wrong with a circuit breaker."""
    for name in ("slow_permille", "error_permille"):
        permille = getattr(breaker, name)
        if permille > 1_000:
            yield name, f"{permille} is more than a thousand"
    if breaker.window_ms == 0:
        yield "window_ms", "is 0, nothing could be counted"
    yield from _status(breaker.status)


def limit_faults(limit: RateLimit) -> Iterator[Fault]:
    """Yield what is wrong with a rate limit."""
    yield from _status(limit.status)
    if limit.window_ms == 0:
        yield "window_ms", "is 0"
    for index, header in enumerate(limit.headers):
        if not _TOKEN.fullmatch(header.name):
            yield f"headers[{index}].name", f"{header.name!r} is no header name"
        if not _VALUE.fullmatch(header.value) or header.value.strip() != header.value:
            yield f"headers[{index}].value", f"{header.value!r} is no header value"


def _status(status: int) -> Iterator[Fault]:
    if not 200 <= status <= 599:
        yield "status", f"{status} is not a final status"
