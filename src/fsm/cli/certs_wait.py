"""Asking the control plane about certificates, asking it for a rotation, and waiting for the end.

What comes in: a target. What goes out: the report of ``/certs``, and a sentence about it.

Invariant: a request carries an id, and only the answer with that id is taken for its answer.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from typing import TYPE_CHECKING, Any

from fsm.cli import options
from fsm.cli.errors import ExitCode, Failure

if TYPE_CHECKING:
    from fsm.cli.podhttp import PodHttp
    from fsm.kube import KubeClient

Report = dict[str, Any]

SECRET = "fsm-ca-bundle"
POLL_S = 0.2
# LIMIT: a control plane that runs answers within a moment, and within its own resync at the worst.
ANSWER_S = 75.0
_PHASES = {
    "trusting": "1 of 3, everyone learns to believe the {other} root",
    "issuing": "2 of 3, everyone gets a certificate of the {current} root",
    "retiring": "3 of 3, everyone forgets the {other} root",
}


def ask(target: options.Target) -> Report:
    """Return what the control plane tells."""
    from fsm.cli import planes, runner

    async def go() -> Report:
        async with target.client() as client:
            return await planes.certificates(client, target.fsm_namespace)

    return runner.run(go(), "asking the control plane")


def request(
    target: options.Target,
    action: str,
    limit_s: float,
    *,
    names: tuple[str, ...] = (),
    certificate: str = "",
    key: str = "",
) -> Report:
    """Ask for something; wait for the answer, then up to ``limit_s`` seconds for the end.

    Raises:
        Failure: the control plane refuses, or does not answer.
    """
    from fsm.ca.store import Request
    from fsm.cli import runner, steps

    wanted = Request(uuid.uuid4().hex, action, names, certificate, key)
    with steps.Steps() as shown:
        return runner.run(_request(target, wanted, limit_s, shown))


async def _request(target: options.Target, wanted: Any, limit_s: float, shown: Any) -> Report:
    from fsm.ca.store import request_patch
    from fsm.cli import planes
    from fsm.kube.resources import SECRETS

    namespace = target.fsm_namespace
    async with target.client() as client:
        http = await planes.controller_http(client, namespace)
        try:
            await client.patch(SECRETS, SECRET, request_patch(wanted), namespace)
            await _answered(client, namespace, wanted.id)
            return await _ended(http, limit_s, shown)
        finally:
            await http.close()


async def _answered(client: KubeClient, namespace: str, request_id: str) -> None:
    from fsm.ca.store import ANSWER_ANNOTATION
    from fsm.kube.resources import SECRETS

    deadline = time.monotonic() + ANSWER_S
    while time.monotonic() < deadline:
        secret = await client.get(SECRETS, SECRET, namespace)
        text = (secret["metadata"].get("annotations") or {}).get(ANSWER_ANNOTATION)
        answer = json.loads(text) if text else {}
        if answer.get("id") == request_id:
            if not answer["ok"]:
                raise Failure(str(answer["message"]), hint="`fsm certs status` tells how it is")
            return
        await asyncio.sleep(POLL_S)
    raise Failure(
        f"the control plane has not answered within {ANSWER_S:g} s",
        hint="the request stays; see `fsm certs status` and the log of fsm-controller",
        code=ExitCode.TIMEOUT,
    )


async def _ended(http: PodHttp, limit_s: float, shown: Any) -> Report:
    deadline = time.monotonic() + limit_s
    told = ""
    while True:
        report = dict(await http.get_json("/certs"))
        if report["phase"] == "stable" or report["problem"] or time.monotonic() >= deadline:
            return report
        if (text := verdict(report)) != told:
            shown.begin(text)
            told = text
        await asyncio.sleep(POLL_S)


def verdict(report: Report) -> str:
    """Say in one sentence how it is."""
    if report["problem"]:
        return f"a problem: {report['problem']}"
    signing = next(root for root in report["roots"] if root["role"] == "signs")
    if report["phase"] == "stable":
        state = "HAS EXPIRED since" if signing["expired"] else "is good until"
        last = f"; {report['last']}" if report["last"] else ""
        return f"the root {signing['fingerprint'][:16]} {state} {signing['not_after']}{last}"
    current, other = ("new", "old") if report["forward"] else ("old", "new")
    if report["phase"] == "trusting":
        current, other = "old", "throwaway" if report["rehearsal"] else "new"
    text = _PHASES[report["phase"]].format(current=current, other=other)
    way = "rotating" if report["forward"] else "going back"
    waits = [wait["name"] for wait in report["waits"]]
    more = f" and {len(waits) - 3} more" if len(waits) > 3 else ""
    tail = f"; waits for {', '.join(waits[:3])}{more}" if waits else ""
    return f"{way}: {text}{tail}"
