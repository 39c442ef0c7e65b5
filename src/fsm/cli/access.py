"""Who may call whom, as the configuration of the called Pod's sidecar says.

What comes in: the configuration (``/config_dump``) of a sidecar and an identity. What goes out: the
rules that let that identity in, each with the object it was made from.

Invariant: what is read is what the running sidecar decides by, not what objects promise.
Not done here: a single request (``explain``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fsm.cli.errors import Failure

if TYPE_CHECKING:
    from fsm.kube import KubeClient

ADMIN_PORT = 15000

Config = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule that lets somebody in.

    Attributes:
        port: of the application.
        what: ``GET,POST /path`` or ``tcp``.
        route: the object that describes the traffic.
        allowed_by: the object that allows it; empty where everyone may (permissive mode).
    """

    port: int
    what: str
    route: str
    allowed_by: str


async def config_of(client: KubeClient, pod: dict[str, Any]) -> Config:
    """Return the configuration that a Pod's sidecar runs.

    Raises:
        Failure: it has no sidecar, or that does not answer, or has no configuration yet.
    """
    from fsm.cli import pods
    from fsm.cli.podhttp import PodHttp

    pods.check_sidecar(pod)
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    http = PodHttp(client, namespace, name, ADMIN_PORT)
    try:
        answer = await http.get("/config_dump")
    finally:
        await http.close()
    try:
        found = json.loads(answer.body).get("Config") if answer.status == 200 else None
    except (ValueError, AttributeError):
        found = None
    if not isinstance(found, dict):
        raise Failure(
            f"the sidecar of Pod {namespace}/{name} has no configuration yet",
            hint=f"see `kubectl logs {name} -n {namespace} -c sidecar`",
        )
    return found


def rules_for(config: Config, identity: str) -> list[Rule]:
    """Return the rules of a called Pod that let an identity in, without doubles."""
    found: list[Rule] = []
    for match in (config.get("inbound") or {}).get("matches") or []:
        port = int(match["port"])
        for host in match.get("hosts") or []:
            for route in host.get("routes") or []:
                found += _allows(port, _described(route), route, identity)
        if match.get("tcp"):
            found += _allows(port, "tcp", match["tcp"], identity)
    return list(dict.fromkeys(found))


def _allows(port: int, what: str, rule: dict[str, Any], identity: str) -> list[Rule]:
    allowed = rule.get("allowed")
    if allowed is None:
        return [Rule(port, what, rule["origin"], "")]
    return [
        Rule(port, what, rule["origin"], entry["origin"])
        for entry in allowed
        if entry["identity"] == identity
    ]


def _described(route: dict[str, Any]) -> str:
    methods = ",".join(route.get("methods") or []) or "any method"
    path = route.get("path") or {}
    kind, value = next(iter(path.items()), ("prefix", "/"))
    shown = value if kind == "exact" else f"{value}*" if kind == "prefix" else f"~ {value}"
    headers = "".join(f" {h['name']}: ~ {h['regex']}" for h in route.get("headers") or [])
    return f"{methods} {shown}{headers}"
