"""How fast the proxies followed a change, as the control plane measured it.

What comes in: ``/changes`` and ``/proxies`` of the controller. What goes out: for the changes after
a given one, how many proxies they reached and the longest time from the API's event to a proxy's
acknowledgement.

Invariant: these are the control plane's own measurements; the story shows them beside the time at
which the applications first noticed, which it measures itself.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from fsm.cli import apply
from fsm.cli.errors import Failure
from fsm.cli.podhttp import PodHttp

ACK_TIMEOUT_S = 10.0
"""How long the proxies may take to acknowledge a change, in seconds."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of the changes since a given one."""

    proxies: int
    slowest_s: float


async def newest(http: PodHttp) -> int:
    """Return the number of the newest change; 0 before the first."""
    return max((int(c["number"]) for c in await _changes(http)), default=0)


async def since(http: PodHttp, number: int, mentions: str, started_at: float) -> Applied:
    """Wait until every proxy that the changes after ``number`` concern has applied them.

    Args:
        http: port 9091 of the controller.
        number: the newest change before.
        mentions: part of the name of an object that was changed, ``Kind/namespace/name``.
        started_at: when the change was made, seconds since the epoch.

    Raises:
        Failure: a proxy refused a change, or some have not acknowledged it in time.
    """
    deadline = time.monotonic() + ACK_TIMEOUT_S
    while True:
        after = [c for c in await _changes(http) if int(c["number"]) > number]
        refused = sum(int(c["refused"]) for c in after)
        if refused:
            raise Failure(f"{refused} proxies refused the change", hint="`fsm proxy list` says why")
        known = any(mentions in name for c in after for name in c["objects"])
        open_ones = [c for c in after if int(c["applied"]) < int(c["proxies"])]
        if known and not open_ones:
            times = [float(c["slowest_s"]) for c in after if int(c["proxies"])]
            slowest_s = max(times, default=0.0)
            return Applied(await _applied_after(http, started_at), slowest_s)
        if time.monotonic() > deadline:
            what = "has not seen the change" if not known else "waits for a proxy to apply it"
            raise Failure(
                f"after {ACK_TIMEOUT_S:g} s the control plane {what}",
                hint="see `fsm proxy list` and `kubectl logs -n fsm-system deploy/fsm-controller`",
            )
        await asyncio.sleep(apply.POLL_S)


async def _applied_after(http: PodHttp, moment: float) -> int:
    answer = await http.get_json("/proxies")
    times = [proxy.get("applied_at") or 0.0 for proxy in answer["proxies"]]
    return sum(applied_at >= moment for applied_at in times)


async def _changes(http: PodHttp) -> list[dict[str, Any]]:
    answer = await http.get_json("/changes")
    changes = answer.get("changes") if isinstance(answer, dict) else None
    if not isinstance(changes, list):
        raise Failure("the controller's /changes does not list its changes")
    return changes
