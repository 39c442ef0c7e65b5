"""Keep the nftables ruleset equal to what Services and EndpointSlices say.

What comes in: two informers. What goes out: one ``nft`` transaction per burst of changes, and flows
of datagrams that must choose an endpoint anew.

Invariants: level-triggered, a change says "look"; a ruleset that the kernel refuses leaves the old
one in place, is logged with what ``nft`` said, and is tried again. Not done here: the rules
themselves (``service_rules``).
"""

from __future__ import annotations

import asyncio
import logging

from fsm.kube import Informer
from fsm.standalone.node import commands, conntrack
from fsm.standalone.node.service_rules import Endpoint, ServicePort, ruleset, service_ports

logger = logging.getLogger(__name__)

#: How long changes are gathered, seconds: a rollout changes many slices at once.
_GATHER_S = 0.02
_RETRY_S = 2.0


class ServiceProxy:
    """Applies the rules; run ``run()`` beside the informers it was given."""

    def __init__(
        self, services: Informer, slices: Informer, networks: tuple[tuple[str, str], ...]
    ) -> None:
        self._services = services
        self._slices = slices
        self._networks = networks
        self._changed = asyncio.Event()
        self._applied = ""
        self._datagrams: set[Endpoint] | None = None
        for informer in (services, slices):
            informer.subscribe(lambda *_: self._changed.set())

    async def run(self) -> None:
        """Follow changes until cancelled."""
        await self._services.synced.wait()
        await self._slices.synced.wait()
        self._changed.set()
        while True:
            await self._changed.wait()
            await asyncio.sleep(_GATHER_S)
            self._changed.clear()
            ports = service_ports(self._services.store.values(), self._slices.store.values())
            text = ruleset(ports, self._networks)
            if text == self._applied:
                continue
            try:
                await commands.run("nft", "-f", "-", feed=text)
            except commands.CommandError as error:
                logger.error("the service rules were refused", extra={"why": str(error)})
                await asyncio.sleep(_RETRY_S)
                self._changed.set()
                continue
            self._applied = text
            await self._forget_flows(ports)

    async def _forget_flows(self, ports: list[ServicePort]) -> None:
        """Have datagrams choose anew whose endpoint is gone (see ``conntrack``)."""
        now = {one for port in ports if port.protocol == "udp" for one in port.endpoints}
        # The first time too: an endpoint may have gone while no agent looked.
        if now == self._datagrams or not (now or self._datagrams):
            return
        networks, nodes = zip(*self._networks, strict=True)
        try:
            count = await asyncio.to_thread(conntrack.forget, networks, nodes, now)
        except OSError as error:
            logger.warning("flows of datagrams cannot be led anew", extra={"why": str(error)})
            return
        self._datagrams = now
        if count:
            logger.info("datagrams choose anew", extra={"flows": count})
