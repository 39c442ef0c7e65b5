"""Sends every case through a proxy to a server, and compares what each of them read.

In: the corpus, a running server. Out: for each case a verdict, with findings where there should be
none. Three things are compared for each case: what the client was told and what the corpus demands;
what the server wrote down and what the corpus demands; what the server wrote down and what the
proxy wrote down, request by request, with the length of each body. After each case an honest
request goes over a kept connection, and must be answered by its own response: that shows bytes left
behind on the connection between proxy and server.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxyrig import config, h2wire
from proxyrig.process import Pipy
from proxyrig.waiting import until
from proxyrig.wire import Address, Wire, request

from differential.corpus import Case, Family
from differential.servers import Seen, Server

_TAG = re.compile(r"x\d+x")
# What a server makes of a case that is left to it may be to wait for more.
_PATIENCE_S = 1.0


@dataclass
class Verdict:
    """What became of a case with one server."""

    case: Case
    # Of the answers that came, in their order; 0 for an end without one.
    answers: list[int] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    # How many requests the server read.
    read: int = 0


async def through(families: list[Family], server: Server, directory: Path) -> list[Verdict]:
    """Run all cases with one server."""
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(Pipy(directory))
        await proxy.apply(config.plain(proxy.outbound.port, server.address))
        prober = _Prober(proxy.outbound)
        verdicts = []
        for case in (case for family in families for case in family.cases):
            verdict = Verdict(case)
            verdicts.append(verdict)
            try:
                await _exchange(proxy.outbound, verdict)
            except (AssertionError, ValueError, EOFError, TimeoutError) as error:
                verdict.findings.append(f"no readable answer: {error!r}")
            verdict.findings += await prober.ask(case.tag)
        prober.close()
        last = f"/probe/{verdicts[-1].case.tag}"
        await until(lambda: any(s.target == last for s in server.seen()), "the server's last line")
        await proxy.log(1, path=last)
        assert proxy.process.returncode is None, f"pipy ended: {proxy.errors[-20:]}"
        _compare(verdicts, server.seen(), proxy.all_log())
        return verdicts


class _Prober:
    """Asks an honest request after each case, over one connection."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._wire: Wire | None = None

    async def ask(self, tag: str) -> list[str]:
        """Give what was wrong with the answer."""
        if self._wire is None:
            self._wire = await Wire.open(self._address)
        target = f"/probe/{tag}"
        try:
            response = await self._wire.ask(request("GET", target))
        except (AssertionError, ValueError, EOFError, OSError, TimeoutError) as error:
            self.close()
            return [f"the next request had no answer: {error!r}"]
        if response.header("connection") == "close":
            self.close()
        if response.status != 200 or target.encode() not in response.body:
            shown = response.body[:60]
            return [f"the next request was answered with {response.status} {shown!r}"]
        return []

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None


async def _exchange(address: Address, verdict: Verdict) -> None:
    case = verdict.case
    if case.h2 is not None:
        return await _exchange_h2(address, verdict)
    async with await Wire.open(address) as wire:
        wire.writer.write(case.raw)
        if case.finish or case.open:
            wire.finish()
        try:
            if case.open:
                await _read_all(wire, verdict)
            else:
                await _read_expected(wire, verdict)
        except (ConnectionError, asyncio.IncompleteReadError, EOFError):
            verdict.answers.append(0)
    _judge(verdict)


async def _read_all(wire: Wire, verdict: Verdict) -> None:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                verdict.answers.append((await wire.response()).status)
    except TimeoutError:
        pass


async def _read_expected(wire: Wire, verdict: Verdict) -> None:
    case = verdict.case
    for expected in case.seen:
        verdict.answers.append((await wire.response(expected.method)).status)
    if case.refused:
        verdict.answers.append((await wire.response()).status)
        if rest := await wire.rest():
            verdict.findings.append(f"after the refusal came {rest[:60]!r}")


def _judge(verdict: Verdict) -> None:
    """Compare the answers with those that the corpus demands."""
    case, answers = verdict.case, verdict.answers
    if case.open:
        return
    if not case.refused:
        if len(answers) != len(case.seen) or 0 in answers:
            verdict.findings.append(f"answered with {answers}")
    elif len(answers) != len(case.seen) + 1:
        verdict.findings.append(f"answered with {answers}, not {case.refused}")
    elif answers[-1] not in case.refused and not case.begun:
        verdict.findings.append(f"refused with {answers[-1]}, not {case.refused}")


async def _exchange_h2(address: Address, verdict: Verdict) -> None:
    case, asked = verdict.case, verdict.case.h2
    assert asked is not None
    async with h2wire.Frames(address) as frames:
        await frames.begin()
        wire = h2wire.headers(1, *asked.fields, ends=asked.data is None and not asked.trailers)
        if asked.data is not None:
            flags = 0 if asked.trailers else h2wire.END_STREAM
            wire += h2wire.frame(h2wire.DATA, flags, 1, asked.data)
        if asked.trailers:
            wire += h2wire.headers(1, *asked.trailers)
        await frames.send(wire)
        message = await frames.message(1)
    verdict.answers.append(message.status)
    if case.refused and not case.begun and message.status not in case.refused:
        verdict.findings.append(f"refused with {message.status}, not {case.refused}")
    if case.seen and message.status == 0:
        verdict.findings.append(f"reset with {message.reset}, {frames.goaway}")


def _compare(verdicts: list[Verdict], seen: list[Seen], log: list[dict[str, Any]]) -> None:
    """Compare what the server read with what was demanded, and with what the proxy wrote down."""
    read, forwarded = _by_tag(seen), _forwarded(log)
    for verdict in verdicts:
        case = verdict.case
        mine = read.pop(case.tag, [])
        probes = [one for one in mine if one.target == f"/probe/{case.tag}"]
        others = [one for one in mine if one not in probes]
        verdict.read = len(others)
        if len(probes) != 1 or probes[0].length:
            verdict.findings.append(f"the server read the next request as {probes}")
        if not case.open and not _fits(case, others, verdict.answers):
            verdict.findings.append(f"the server read {others}")
        unknown = Counter(map(_key, others)) - Counter(forwarded.get(case.tag, []))
        if unknown:
            verdict.findings.append(f"the server read what the proxy did not: {list(unknown)}")
    if read:
        verdicts[-1].findings.append(f"the server read what no case sent: {read}")


def _fits(case: Case, others: list[Seen], answers: list[int]) -> bool:
    """Say whether these are the requests of the case, apart from those that the server refused."""
    left = list(others)
    for expected, answer in zip(case.seen, answers, strict=False):
        if left and _same(left[0], expected):
            del left[0]
        elif answer < 400 and answer != 101:
            return False
    return not left


def _same(one: Seen, expected: Any) -> bool:
    return (
        _key(one) == (expected.method.upper(), expected.target, len(expected.body))
    ) and one.body in (None, expected.body)


def _key(one: Seen) -> tuple[str, str, int]:
    # Some servers give methods in upper case.
    return one.method.upper(), one.target, one.length


def _by_tag(seen: Iterable[Seen]) -> dict[str, list[Seen]]:
    found: dict[str, list[Seen]] = {}
    for one in seen:
        tag = _TAG.search(one.target)
        found.setdefault(tag.group() if tag else "", []).append(one)
    return found


def _forwarded(log: Iterable[dict[str, Any]]) -> dict[str, list[tuple[str, str, int]]]:
    """Give the requests that the proxy let through, by tag."""
    found: dict[str, list[tuple[str, str, int]]] = {}
    for line in log:
        if line["decision"] == "denied" or "method" not in line:
            continue
        # CONNECT has no path; its target is the authority.
        target = line.get("path") or line.get("host", "")
        if tag := _TAG.search(target):
            # What a tunnel carried is no body.
            length = 0 if line["method"] == "CONNECT" else line["request_bytes"]
            asked = (line["method"].upper(), target, length)
            found.setdefault(tag.group(), []).append(asked)
    return found
