"""What fails in plugins while they run, as proxies report it.

What comes in: reports, each the whole of what one proxy knows: errors by plugin since its script is
what it is, and the last words about them. What goes out: a counter, and for statuses which plugins
fail of late, on how many proxies.

Invariants: an error is counted once, however often a proxy reports it; a proxy that is gone, and a
failure that is ``RECENT_S`` old, are in no status. All state is this process's own: after a restart
proxies report again when something new fails. Not done here: what proxies of other replicas report
(``fsm.controllers.replicas`` tells the one that leads).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, Counter

from fsm.delivery.registry import ProxyKey

RECENT_S = 600.0
"""How long after its last failure a plugin is called failing, seconds."""
PLUGINS_MAX = 64
"""LIMIT: plugins of one report, as the proxy has it too."""
NAME_CHARS_MAX = 253
WORDS_CHARS_MAX = 400
"""LIMIT: characters of the last words; they go into a status."""


class BadReport(ValueError):
    """What a proxy sent is no report."""


class Failing(NamedTuple):
    """How a plugin is doing."""

    proxies: tuple[ProxyKey, ...]
    """On which it has failed of late, in order; at least one."""
    words: str
    """What the first of them said last."""
    more: int = 0
    """Further ones, whose names are not known."""

    def __str__(self) -> str:
        known = len(self.proxies) + self.more
        count = "1 proxy" if known == 1 else f"{known} proxies"
        return f"fails on {count}; on {self.proxies[0]}: {self.words}"

    def joined(self, other: Failing) -> Failing:
        """Add what another replica knows; a proxy that both name counts once."""
        first = min(self, other, key=lambda one: one.proxies[0])
        both = tuple(sorted({*self.proxies, *other.proxies}))
        return Failing(both, first.words, self.more + other.more)


@dataclass(slots=True)
class _Entry:
    errors: int
    words: str
    at: float


class FailingPlugins:
    """The reports of all proxies."""

    def __init__(
        self,
        metrics: CollectorRegistry,
        *,
        clock: Callable[[], float],
        alive: Callable[[ProxyKey], bool],
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Make an empty one.

        Args:
            metrics: where errors are counted.
            clock: monotonic seconds.
            alive: tells whether a proxy is there.
            on_change: is called after each report; must not block.
        """
        self._clock = clock
        self._alive = alive
        self.on_change = on_change
        self._entries: dict[str, dict[ProxyKey, _Entry]] = {}
        self._errors = Counter(
            "fsm_plugin_errors_total",
            "Errors of plugins while they ran, as proxies report them.",
            ["plugin"],
            registry=metrics,
        )

    def report(self, proxy: ProxyKey, body: Mapping[str, Any]) -> None:
        """Take a report.

        Raises:
            BadReport: it is none; nothing has changed.
        """
        found = _read(body)
        for name, (errors, words) in found.items():
            entries = self._entries.setdefault(name, {})
            before = entries.get(proxy)
            known = before.errors if before is not None else 0
            # Less than before: the proxy began anew, and so did its count.
            new = errors - known if errors >= known else errors
            if new:
                self._errors.labels(name).inc(new)
                entries[proxy] = _Entry(errors, words, self._clock())
        for name in [name for name in self._entries if name not in found]:
            self._entries[name].pop(proxy, None)
            if not self._entries[name]:
                del self._entries[name]
        self.on_change()

    def failing(self, plugin: str) -> Failing | None:
        """Say how a plugin is doing; ``None``: nothing failed of late."""
        entries = self._entries.get(plugin, {})
        for proxy in [proxy for proxy in entries if not self._alive(proxy)]:
            del entries[proxy]
        now = self._clock()
        recent = sorted(proxy for proxy, e in entries.items() if now - e.at < RECENT_S)
        if not recent:
            return None
        # The same one again and again, so that a status changes no more often than it must.
        return Failing(tuple(recent), entries[recent[0]].words)

    def all(self) -> dict[str, Failing]:
        """Say of every plugin that fails how it is doing."""
        found = {name: self.failing(name) for name in sorted(self._entries)}
        return {name: failing for name, failing in found.items() if failing is not None}


def _read(body: Mapping[str, Any]) -> dict[str, tuple[int, str]]:
    plugins = body.get("plugins")
    if not isinstance(plugins, Mapping) or len(plugins) > PLUGINS_MAX:
        raise BadReport(f"the field plugins must be an object of at most {PLUGINS_MAX} plugins")
    found: dict[str, tuple[int, str]] = {}
    for name, said in plugins.items():
        errors = said.get("errors") if isinstance(said, Mapping) else None
        words = said.get("last") if isinstance(said, Mapping) else None
        if not isinstance(errors, int) or isinstance(errors, bool) or errors < 0:
            raise BadReport("the field errors must be a number")
        if not isinstance(words, str) or len(name) > NAME_CHARS_MAX:
            raise BadReport("the field last must be a text")
        found[name] = errors, " ".join(words.split())[:WORDS_CHARS_MAX]
    return found
