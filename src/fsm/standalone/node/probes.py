"""Probes: ask a container whether it is alive, ready, started, and count the answers.

What comes in: the probe of a container and how to reach it. What goes out: one call of ``report``
whenever the verdict changes. ``Counter`` is the pure part.

Invariants: HTTP and TCP probes come from the node toward the Pod's address, as the kubelet's do, so
they meet the Pod's redirection as on a cluster; an application that listens at the Pod's IPv6
address only is asked there; exec probes run in the container's namespaces. A probe never takes
longer than its ``timeoutSeconds``.
Not done here: what follows from a verdict (``runner``).
Source: https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

KubeObject = dict[str, Any]
#: Runs a command in the container within seconds; returns its exit code (``None``: too slow).
Exec = Callable[[list[str], float], Awaitable[tuple[int | None, str]]]
_SOON_S = 0.05


@dataclass(frozen=True, slots=True)
class Target:
    """How to reach the container that is probed.

    Attributes:
        ips: of the Pod, the first first; the next one is asked where a port is closed.
        ports: of the container, by name.
        run: runs a command in it.

    """

    ips: tuple[str, ...]
    ports: dict[str, int]
    run: Exec


@dataclass(slots=True)
class Counter:
    """Turns single answers into a verdict by the two thresholds.

    Attributes:
        success: answers in a row that make the verdict good.
        failure: answers in a row that make it bad.
        verdict: the present one; ``None`` before the first.

    """

    success: int = 1
    failure: int = 3
    verdict: bool | None = None
    _row: int = 0
    _last: bool | None = None

    def add(self, good: bool) -> bool | None:
        """Count an answer; returns the new verdict when it is reached, else ``None``."""
        self._row = self._row + 1 if good == self._last else 1
        self._last = good
        if self._row == (self.success if good else self.failure):
            self.verdict = good
            return good
        return None


async def follow(probe: KubeObject, target: Target, report: Callable[[bool, str], None]) -> None:
    """Probe for ever; call ``report(good, message)`` each time a threshold is reached."""
    success = int(probe.get("successThreshold") or 1)
    counter = Counter(success, int(probe.get("failureThreshold") or 3))
    period_s = max(1.0, float(probe.get("periodSeconds") or 10))
    limit_s = max(1.0, float(probe.get("timeoutSeconds") or 1))
    await asyncio.sleep(float(probe.get("initialDelaySeconds") or 0))
    # Within the first period, ask more often: a Pod becomes ready when it is, not up to a period
    # later. Failures of that first while count as one.
    loop = asyncio.get_running_loop()
    first_until_s, wait_s = loop.time() + period_s, 0.05
    good, message = await check(probe, target, limit_s)
    while not good and loop.time() + wait_s < first_until_s:
        await asyncio.sleep(wait_s)
        wait_s *= 1.6
        good, message = await check(probe, target, limit_s)
    while True:
        verdict = counter.add(good)
        if verdict is not None:
            report(verdict, message)
        # Below the threshold of success the next answer is asked for soon, not a period later.
        await asyncio.sleep(_SOON_S if good and counter.verdict is None else period_s)
        good, message = await check(probe, target, limit_s)


async def check(probe: KubeObject, target: Target, limit_s: float) -> tuple[bool, str]:
    """Probe once; returns the answer and, when it is bad, why."""
    try:
        if (action := probe.get("exec")) is not None:
            code, said = await target.run(list(action.get("command") or []), limit_s)
            return code == 0, said if code is not None else f"took more than {limit_s:g} s"
        async with asyncio.timeout(limit_s):
            if (action := probe.get("httpGet")) is not None:
                return await http(action, target)
            if (action := probe.get("tcpSocket")) is not None:
                return await _tcp(action, target)
            if (action := probe.get("grpc")) is not None:
                # Imported by those who probe so: most boxes never do.
                from fsm.standalone.node import grpc_probe

                port, service = _port(action.get("port"), target), str(action.get("service") or "")
                return await _at(target.ips, lambda ip: grpc_probe.ask(ip, port, service))
    except TimeoutError:
        return False, f"no answer within {limit_s:g} s"
    except (OSError, aiohttp.ClientError, ValueError) as error:
        return False, str(error) or type(error).__name__
    return False, f"probes of this kind are not supported here: {', '.join(sorted(probe))}"


async def http(action: KubeObject, target: Target) -> tuple[bool, str]:
    """Ask by HTTP once, for a probe or a hook.

    Raises:
        OSError, aiohttp.ClientError, ValueError: there is no answer, or no such port.

    """
    port = _port(action.get("port"), target)
    scheme = str(action.get("scheme") or "HTTP").lower()
    path = "/" + str(action.get("path") or "/").lstrip("/")
    headers = {h["name"]: h["value"] for h in action.get("httpHeaders") or []}
    headers.setdefault("User-Agent", "kube-probe/1.32")
    headers.setdefault("Accept", "*/*")
    tls: ssl.SSLContext | bool = False

    async def ask(host: str) -> tuple[bool, str]:
        url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{path}"
        connector = aiohttp.TCPConnector(ssl=tls, force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector, auto_decompress=False) as session,
            session.get(url, headers=headers, allow_redirects=False) as response,
        ):
            good = 200 <= response.status < 400
            return good, "" if good else f"HTTP probe failed with statuscode: {response.status}"

    return await _at(_hosts(action, target), ask)


async def _tcp(action: KubeObject, target: Target) -> tuple[bool, str]:
    port = _port(action.get("port"), target)

    async def ask(host: str) -> tuple[bool, str]:
        _, writer = await asyncio.open_connection(host, port)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True, ""

    return await _at(_hosts(action, target), ask)


def _hosts(action: KubeObject, target: Target) -> tuple[str, ...]:
    return (str(action["host"]),) if action.get("host") else target.ips


async def _at(
    hosts: Sequence[str], ask: Callable[[str], Awaitable[tuple[bool, str]]]
) -> tuple[bool, str]:
    """Ask at the first address where the port is not closed."""
    for host in hosts[:-1]:
        try:
            return await ask(host)
        except OSError as error:
            if error.errno != errno.ECONNREFUSED:
                raise
    return await ask(hosts[-1])


def _port(port: Any, target: Target) -> int:
    if isinstance(port, int):
        return port
    text = str(port)
    if text.isdigit():
        return int(text)
    if text in target.ports:
        return target.ports[text]
    raise ValueError(f"the container has no port named {text!r}")
