"""Asks for rotations, and has a proxy that follows what it is told about certificates.

In: an API in memory. Out: requests as the CLI writes them, their answers, the phase they lead to;
the fixture ``kept``: a proxy that tells what it believes and renews when it is asked to.
"""

from __future__ import annotations

import asyncio
import json
import uuid

import aiohttp
import pytest

from controlworld import STORE
from fsm.ca import read_state, trust_id
from fsm.ca.rotation import Phase
from fsm.ca.store import ANSWER_ANNOTATION, Request, request_patch
from fsm.kube.resources import CONFIGMAPS, SECRETS

PLACE = ("fsm-system", "fsm-ca-bundle")


def secret(kube):
    return kube.objects[SECRETS][PLACE]


def phase(kube) -> Phase:
    return read_state(secret(kube)).phase


def spread_roots(kube, namespace: str) -> str:
    found = kube.objects.get(CONFIGMAPS, {}).get((namespace, "fsm-ca-bundle"))
    return found["data"]["ca.crt"] if found else ""


async def request(kube, wait_until, action: str, **more: object) -> dict[str, object]:
    wanted = Request(uuid.uuid4().hex, action, **more)
    await kube.patch(SECRETS, PLACE[1], request_patch(wanted), PLACE[0])

    def answer():
        text = secret(kube)["metadata"].get("annotations", {}).get(ANSWER_ANNOTATION)
        found = json.loads(text) if text else {}
        return found if found.get("id") == wanted.id else None

    return await wait_until(answer, f"an answer to {action}")


@pytest.fixture
async def kept(kube, make_proxy):
    """Start a proxy that follows what it is told about certificates; ``aim`` moves it."""
    tasks = []

    async def start(controller, *, follows: bool = True):
        roots = spread_roots(kube, STORE)
        proxy = await make_proxy(
            controller.ports["delivery"],
            roots,
            STORE,
            f"{STORE}-1",
            f"uid-{STORE}",
            f"token-{STORE}",
        )
        status, answer = await proxy.certify()
        assert status == 200, answer
        proxy.trusts = trust_id(answer["roots"])
        plain = proxy.headers
        proxy.headers = lambda: plain() | {"fsm-trust": proxy.trusts}
        if follows:
            tasks.append(asyncio.create_task(keep(proxy)))
        return proxy

    async def keep(proxy) -> None:
        while True:
            try:
                async with proxy.session.get(
                    proxy.base + "/v1/config",
                    params={"version": proxy.version, "wait_s": "20"},
                    ssl=proxy.tls,
                    server_hostname="fsm-controller.fsm-system.svc",
                    headers=proxy.headers(),
                ) as response:
                    renew = response.headers.get("fsm-renew")
                    config = await response.json() if response.status == 200 else None
                if config:
                    proxy.version = config["version"]
                    proxy.roots = "".join(config["trust"]["roots"])
                    proxy.trusts = trust_id(config["trust"]["roots"])
                    await proxy.ack(proxy.version)
                if renew:
                    await proxy.certify()
            except (aiohttp.ClientError, TimeoutError):
                # Whom it cannot believe or reach it asks again with what it has by then.
                await asyncio.sleep(0.02)

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
