"""Who of several replicas writes: one at a time, by a Lease.

What comes in: a Lease in the mesh's namespace. What goes out: whether we lead, and a call when that
changes.

    no Lease, or an empty one, or ours ──► take it ──► lead ──renew──► lead …
    another's ──► look again ──► not renewed for so long, by our own clock ──► take it
    not renewed in time (the API is away, or another has it) ──► lead no more

Invariants: whoever leads stops before another may begin, as far as clocks run alike: it gives up
when it could not renew for ``renew_within_s``, and others wait ``duration_s`` longer than that from
when *they* saw the last renewal; nobody compares clocks of two machines. Every write is conditional
on what was read, so two that are equally fast do not both win.
Not done here: what a leader does. All writes of leaders are conditional or safe to do twice, so
that a moment with two leaders costs writes and nothing else.
Source: https://kubernetes.io/docs/concepts/architecture/leases/#leader-election
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from fsm.kube import AlreadyExists, ApiError, Conflict, KubeClient, NotFound
from fsm.kube.resources import LEASES

log = logging.getLogger("fsm.election")


class Elector:
    """Takes part in one election; ``run`` is its task, ``leads`` the outcome."""

    def __init__(
        self,
        client: KubeClient,
        *,
        name: str,
        namespace: str,
        identity: str,
        now: Callable[[], datetime],
        clock: Callable[[], float],
        gone: Callable[[str], bool] = lambda identity: False,
        duration_s: float = 15.0,
        renew_within_s: float = 10.0,
        look_s: float = 2.0,
    ) -> None:
        """Prepare; nothing is asked yet.

        Args:
            client: reads and writes the Lease.
            name: of the Lease.
            namespace: of the Lease.
            identity: ours; no other replica may have it.
            now: the wall clock, for people who look at the Lease.
            clock: monotonic seconds.
            gone: whether a holder is no more, so that nobody need wait for it as long.
            duration_s: how long a Lease that is not renewed holds, seconds.
            renew_within_s: for how long a leader goes on without having renewed, seconds.
            look_s: pause between looks, seconds.
        """
        self._client = client
        self._name, self._namespace, self.identity = name, namespace, identity
        self._now, self._clock, self._gone = now, clock, gone
        self._duration_s, self._renew_within_s, self._look_s = duration_s, renew_within_s, look_s
        self._renewed = 0.0
        self._seen: tuple[str, float] = ("", 0.0)
        self._listeners: list[Callable[[], None]] = []
        self.leads = False
        self.holder = ""

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call back when we begin or cease to lead; it must not block."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """Take part until cancelled; then let go of the Lease, so that nobody need wait for us."""
        try:
            while True:
                await self._look()
                await asyncio.sleep(self._look_s)
        finally:
            if self.leads:
                self._become(False)
                await self._release()

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(self._renew_within_s / 2):
                won = await self._try()
        except (ApiError, TimeoutError) as error:
            log.debug("cannot look at the Lease: %s", error)
            won = self.leads and self._clock() - self._renewed < self._renew_within_s
        self._become(won)

    async def _try(self) -> bool:
        begun = self._clock()
        try:
            lease = await self._client.get(LEASES, self._name, self._namespace)
        except NotFound:
            return await self._make(begun)
        spec = lease.get("spec") or {}
        self.holder = str(spec.get("holderIdentity") or "")
        if self.holder != self.identity and not self._is_free(spec):
            return False
        moment = _micro(self._now())
        mine: dict[str, Any] = {"renewTime": moment, "leaseDurationSeconds": self._seconds()}
        if self.holder != self.identity:
            transitions = int(spec.get("leaseTransitions") or 0) + 1
            mine |= {"acquireTime": moment, "leaseTransitions": transitions}
            mine["holderIdentity"] = self.identity
        meta = {"resourceVersion": lease["metadata"]["resourceVersion"]}
        try:
            body = {"metadata": meta, "spec": mine}
            await self._client.patch(LEASES, self._name, body, self._namespace)
        except (Conflict, NotFound):
            # Somebody was faster; the next look tells who.
            return self.leads and begun - self._renewed < self._renew_within_s
        self.holder, self._renewed = self.identity, begun
        return True

    def _is_free(self, spec: Mapping[str, Any]) -> bool:
        state = f"{self.holder} {spec.get('renewTime')}"
        if state != self._seen[0]:
            self._seen = (state, self._clock())
        held_s = max(self._duration_s, float(spec.get("leaseDurationSeconds") or 0))
        still_s = self._clock() - self._seen[1]
        if not self.holder or still_s > held_s:
            return True
        # WHY not at once: one that has just begun may be known by its Lease before by its Pod.
        return still_s > held_s / 3 and self._gone(self.holder)

    async def _make(self, begun: float) -> bool:
        moment = _micro(self._now())
        spec = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self._seconds(),
            "acquireTime": moment,
            "renewTime": moment,
            "leaseTransitions": 0,
        }
        meta = {"name": self._name, "namespace": self._namespace}
        try:
            await self._client.create(LEASES, {"metadata": meta, "spec": spec}, self._namespace)
        except AlreadyExists:
            return False
        self.holder, self._renewed = self.identity, begun
        return True

    async def _release(self) -> None:
        try:
            async with asyncio.timeout(2.0):
                lease = await self._client.get(LEASES, self._name, self._namespace)
                if (lease.get("spec") or {}).get("holderIdentity") != self.identity:
                    return
                meta = {"resourceVersion": lease["metadata"]["resourceVersion"]}
                body = {"metadata": meta, "spec": {"holderIdentity": ""}}
                await self._client.patch(LEASES, self._name, body, self._namespace)
        except (ApiError, TimeoutError) as error:
            log.info("cannot let go of the Lease, another takes over in a while: %s", error)

    def _become(self, leads: bool) -> None:
        if leads == self.leads:
            return
        self.leads = leads
        if leads:
            log.info("this replica writes from now on identity=%s", self.identity)
        else:
            log.info(
                "this replica writes no more identity=%s holder=%s", self.identity, self.holder
            )
        for listener in self._listeners:
            listener()

    def _seconds(self) -> int:
        return max(1, round(self._duration_s))


def _micro(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
