"""Carries the rotation of the root out: one step whenever everyone is ready for it.

What comes in: the Secret with the roots, what each proxy believes and shows, what people ask for.
What goes out: the Secret with the next state; an authority that signs by it; a report of who is
waited for.

    Secret ──► request? ──► new state ─┐
        └────► facts ─────► step ──────┴──► written to the Secret ──► adopted by the authority

Invariants: of several replicas the one that leads takes steps, the others follow what is stored; a
state is adopted only after it is stored, so a controller that is killed at any moment
goes on with the state that was in force or the next one; a root that a person writes into the
Secret by hand is taken as a request to rotate to it, and never replaces the old one at once.
Not done here: deciding (``fsm.ca.rotation``), spreading roots (``trust``), renewing (delivery).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from prometheus_client import CollectorRegistry, Gauge

from fsm.ca import CaError, LiveAuthority, Root, new_root, read_root, read_state, rotation
from fsm.ca.rotation import Facts, Phase, ProxyFact, RotationError, State, Wait
from fsm.ca.store import Request, load_or_create_root, patch_of, read_request
from fsm.controllers import report
from fsm.controllers.replicas import Replicas
from fsm.controllers.root_certificates import RootCertificates
from fsm.controllers.world import World
from fsm.delivery import ProxyKey, ProxyRegistry
from fsm.kube import Informer, KubeClient
from fsm.kube.resources import SECRETS

log = logging.getLogger("fsm.rotation")

# While a rotation runs, how often it is looked at without any sign, seconds.
LOOK_AGAIN_S = 1.0
# LIMIT: a root that ends later than this is met by the loop's own period, seconds.
LOOK_AHEAD_S = 600.0
SIDECAR_LABEL = "fsm-proxy-uuid"
ENDED = ("Succeeded", "Failed")


class Rotator:
    """Keeps the root fit for use; ``reconcile`` is its one look."""

    def __init__(
        self,
        client: KubeClient,
        authority: LiveAuthority,
        world: World,
        registry: ProxyRegistry,
        metrics: CollectorRegistry,
        *,
        namespace: str,
        secret: str,
        now: Callable[[], datetime],
        leaf_lifetime: Callable[[], timedelta],
        unspread: Callable[[], list[str]],
        servers: Callable[[], list[tuple[str, str]]],
        declared: RootCertificates,
        leads: Callable[[], bool] = lambda: True,
        replicas: Replicas | None = None,
    ) -> None:
        """Put it together.

        Args:
            client: writes the Secret.
            authority: adopts states.
            world: knows the Pods.
            registry: knows what their proxies say.
            metrics: where the figures go.
            namespace: of the mesh.
            secret: with the roots.
            now: the wall clock.
            leaf_lifetime: of certificates issued now.
            unspread: names what does not carry the bundle of the moment yet.
            servers: names our own servers, with the keys that signed their certificates.
            declared: knows the roots that MeshRootCertificates ask for.
            leads: whether it is ours to take steps; otherwise they are followed.
            replicas: knows the proxies of other replicas.
        """
        self._client = client
        self._authority = authority
        self._world = world
        self._registry = registry
        self._namespace = namespace
        self._secret = secret
        self._now = now
        self._leaf_lifetime = leaf_lifetime
        self._unspread = unspread
        self._servers = servers
        self._declared = declared
        self._leads = leads
        self._replicas = replicas
        self.informer = Informer(client, SECRETS, namespace, fields=f"metadata.name={secret}")
        self.waits: tuple[Wait, ...] = ()
        self.problem = ""
        self.again: Callable[[], None] = lambda: None
        ends = Gauge(
            "fsm_root_certificate_expiration_timestamp_seconds",
            "When the root that signs expires, seconds since the epoch.",
            registry=metrics,
        )
        ends.set_function(lambda: authority.state.current.not_after.timestamp())
        waiting = Gauge(
            "fsm_root_rotation_waits",
            "Whom the rotation of the root waits for; 0 also without a rotation.",
            registry=metrics,
        )
        waiting.set_function(lambda: len(self.waits))

    async def reconcile(self) -> None:
        """Look, and take at most one step.

        Raises:
            ApiError: the step could not be stored, or somebody else was faster.
        """
        if not self.informer.synced.is_set():
            return
        secret = self.informer.get(self._namespace, self._secret)
        if not self._leads():
            self._follow(secret)
            return
        if secret is None:
            await self._restore()
            return
        now = self._now()
        try:
            state, by_hand = self._stored(secret, now)
        except (CaError, RotationError) as error:
            self._complain(f"the Secret is not used, the root in memory is: {error}")
            return
        self.problem = ""
        await self._declared.read(state)
        before = self._authority.state
        after, answer = self._next(secret, state, now)
        if after is None and answer is None and not by_hand:
            self._authority.adopt(state)
        else:
            after = after or state
            written = await self._client.patch(
                SECRETS, self._secret, patch_of(after, secret, answer), self._namespace
            )
            self._authority.adopt(read_state(written))
            self.again()
        self._tell(before, self._authority.state)
        await self._declared.tell(self._authority.state)
        self._look_again()

    def _follow(self, secret: Mapping[str, Any] | None) -> None:
        """Go over to what another replica has stored."""
        self.waits = ()
        if secret is None:
            return
        before = self._authority.state
        try:
            self._authority.adopt(read_state(secret))
        except CaError as error:
            self._complain(f"the Secret is not used, the root in memory is: {error}")
            return
        self.problem = ""
        self._tell(before, self._authority.state)

    def _look_again(self) -> None:
        """Have the next look when it may matter, though nobody gives a sign."""
        state = self._authority.state
        left = (state.current.not_after - self._now()).total_seconds()
        if state.phase is not Phase.STABLE:
            left = LOOK_AGAIN_S
        elif left > LOOK_AHEAD_S:
            return
        asyncio.get_running_loop().call_later(max(left, LOOK_AGAIN_S), self.again)

    def _stored(self, secret: Mapping[str, Any], now: datetime) -> tuple[State, bool]:
        """Read the state; and whether it differs from what is stored and so must be written.

        Raises:
            CaError: the Secret is unusable.
            RotationError: a root was put there by hand that cannot be rotated to.
        """
        found, mine = read_state(secret), self._authority.state
        known = {mine.current.signer, *([mine.other.signer] if mine.other else [])}
        if found.current.signer in known or found.phase is not Phase.STABLE or found.since:
            return found, False
        log.warning("the root was replaced by hand; going over to it step by step")
        return rotation.begin(mine, found.current, now), True

    def _next(
        self, secret: Mapping[str, Any], state: State, now: datetime
    ) -> tuple[State | None, str | None]:
        """Decide on the next state, and on the answer to whoever asked for it."""
        self.waits = ()
        try:
            request = read_request(secret)
        except CaError as error:
            return None, _answer("", str(error), ok=False)
        if request is not None:
            try:
                after = self._asked(state, request, now)
                return after, _answer(request.id, f"{request.action}: accepted", ok=True)
            except (CaError, RotationError) as error:
                return None, _answer(request.id, str(error), ok=False)
        if rotation.wants_new_root(state, now):
            log.warning(
                "the root certificate ends at %s; making a new one",
                state.current.not_after.isoformat(timespec="seconds"),
            )
            return rotation.begin(state, read_root(*new_root(now)), now), None
        declared = self._declared.next_state(state, now) if state.phase is Phase.STABLE else None
        if declared is not None:
            return declared, None
        if state.phase is Phase.STABLE:
            # There is no step to take, and looking at every Pod is not for nothing.
            return None, None
        look = rotation.step(state, self.facts(), now)
        self.waits = look.waits
        return look.state, None

    def _asked(self, state: State, request: Request, now: datetime) -> State:
        match request.action:
            case "rotate" | "rehearse":
                if request.action == "rotate" and self._declared.decides:
                    raise RotationError(f"{self._declared.decides} decides which root signs")
                brought = request.certificate
                new = read_root(brought, request.key) if brought else _fresh(now)
                return rotation.begin(state, new, now, rehearsal=request.action == "rehearse")
            case "abort":
                return rotation.abort(state, now)
            case "skip":
                names = request.names or tuple(wait.name for wait in self._proxies_waited(state))
                return rotation.skip(state, names)
        raise RotationError(f"there is no action {request.action!r}")

    def _proxies_waited(self, state: State) -> list[Wait]:
        facts = self.facts()
        names = {proxy.name for proxy in facts.proxies}
        waits = rotation.step(state, facts, self._now()).waits
        return [wait for wait in waits if wait.name in names]

    def facts(self) -> Facts:
        """Gather what a step looks at."""
        return Facts(
            tuple(self._proxy(key) for key in self._sidecars()),
            tuple(self._unspread()),
            tuple([*self._servers(), *(self._replicas.servers() if self._replicas else [])]),
            self._leaf_lifetime(),
        )

    def _sidecars(self) -> list[ProxyKey]:
        """Every Pod with a sidecar that runs, whether its proxy was heard of or not."""
        found = []
        for (namespace, name), pod in sorted(self._world.informers["Pod"].store.items()):
            meta, status = pod.get("metadata") or {}, pod.get("status") or {}
            injected = SIDECAR_LABEL in (meta.get("labels") or {})
            # One that has no address yet reads the roots when it starts, whatever they are then.
            alive = status.get("phase") not in ENDED and not meta.get("deletionTimestamp")
            if injected and alive and status.get("podIP") and self._world.monitored(namespace):
                found.append(ProxyKey(namespace, name, str(meta.get("uid"))))
        return found

    def _proxy(self, key: ProxyKey) -> ProxyFact:
        record = self._registry.get(key)
        # With a new certificate it connects anew, maybe to another replica: what it said here last
        # is then old, though it was heard of a moment ago.
        if self._replicas is not None and (record is None or not record.polls):
            elsewhere = self._replicas.proxy(key)
            if elsewhere is not None:
                return elsewhere
        if record is None:
            return ProxyFact(str(key), connected=False)
        connected = self._registry.connected(record)
        return ProxyFact(str(key), connected, record.trust, record.signer)

    async def _restore(self) -> None:
        """Store the roots again that somebody deleted: certificates of them are in use."""
        log.error("the Secret with the root was deleted; storing it again")
        created = await load_or_create_root(
            self._client, self._namespace, self._secret, self._now()
        )
        state = self._authority.state
        await self._client.patch(SECRETS, self._secret, patch_of(state, created), self._namespace)

    def _complain(self, problem: str) -> None:
        if problem != self.problem:
            log.error("%s", problem)
        self.problem = problem

    def _tell(self, before: State, after: State) -> None:
        if (before.phase, before.current.signer) == (after.phase, after.current.signer):
            return
        if after.phase is Phase.STABLE:
            log.info("the root is settled: %s", after.last or "as stored")
        else:
            way = "forward" if after.forward else "back"
            log.info("the rotation of the root goes %s, phase=%s", way, after.phase)

    @property
    def rotates(self) -> bool:
        """Whether the root is being replaced."""
        return self._authority.state.phase is not Phase.STABLE

    def report(self) -> dict[str, Any]:
        """Tell how it is, without anything secret; what ``/certs`` on port 9091 answers."""
        return report.certificates(
            self._authority.state,
            self.facts(),
            self.waits,
            self._registry.records(),
            self._servers(),
            self.problem,
            self._now(),
        )


def _fresh(now: datetime) -> Root:
    return read_root(*new_root(now))


def _answer(request: str, message: str, *, ok: bool) -> str:
    return json.dumps({"id": request, "ok": ok, "message": message})
