"""The checks of ``fsm verify connectivity``, from the near to the far.

What comes in: a wish (who calls whom, how). What goes out: checks, in the order in which a request
would meet what they look at; the list ends at the first failure that makes the rest pointless.

    caller's sidecar ─► has applied what it should ─► destination exists, has ready endpoints
      ─► called Pod's sidecar ─► route out of the caller ─► admission at the called Pod

Invariant: decisions are asked of the running sidecars (``explain``, ``access``), never worked
out here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fsm.cli import explain, planes, pods, policy
from fsm.cli.errors import Failure
from fsm.cli.verify import Check, Status

if TYPE_CHECKING:
    from fsm.cli.options import Target
    from fsm.kube import KubeClient

Pod = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What should work; empty words are not said."""

    from_pod: str
    to_pod: str = ""
    to_service: str = ""
    port: int = 0
    protocol: str = ""
    path: str = ""
    method: str = "GET"
    host: str = ""


class _Stop(Exception):
    """A failure after which nothing further can be told."""


class _Checks:
    def __init__(self) -> None:
        self.made: list[Check] = []

    def good(self, what: str) -> None:
        self.made.append(Check(what, Status.SUCCESS))

    def bad(self, what: str, reason: str, suggestion: str = "") -> _Stop:
        self.made.append(Check(what, Status.FAILURE, reason, suggestion))
        return _Stop()

    def unknown(self, what: str, reason: str, suggestion: str = "") -> None:
        self.made.append(Check(what, Status.UNKNOWN, reason, suggestion))


async def verify(target: Target, wish: Wish) -> list[Check]:
    """Make the checks.

    Raises:
        Failure: the command names what is not there.
    """
    checks = _Checks()
    async with target.client() as client:
        caller = await pods.find(client, wish.from_pod, target.pod_namespace())
        try:
            _sidecar(checks, caller)
            await _follows(checks, client, target.fsm_namespace, caller)
            if wish.host:
                await _outside(checks, client, caller, wish)
            else:
                await _inside(checks, client, target, caller, wish)
        except _Stop:
            pass
    return checks.made


def _sidecar(checks: _Checks, pod: Pod) -> None:
    name = _named(pod)
    try:
        pods.check_sidecar(pod)
    except Failure as error:
        raise checks.bad(f"Pod {name} has a sidecar", error.message, error.hint or "") from None
    if not pods.ready(pod):
        checks.unknown(
            f"Pod {name} is ready",
            f"Pod {name} is not ready",
            f"see `kubectl describe pod {pod['metadata']['name']}"
            f" -n {pod['metadata']['namespace']}`",
        )
        return
    checks.good(f"Pod {name} is ready and has a sidecar")


async def _follows(checks: _Checks, client: KubeClient, namespace: str, pod: Pod) -> None:
    from fsm.cli.proxy import state

    name = _named(pod)
    try:
        proxies = await planes.proxies(client, namespace)
    except Failure as error:
        checks.unknown(f"the sidecar of {name} follows the control plane", error.message)
        return
    rows = [p for p in proxies if f"{p['namespace']}/{p['pod']}" == name]
    if not rows or not rows[0].get("connected"):
        checks.unknown(
            f"the sidecar of {name} follows the control plane",
            "it is not connected; it goes on with what it has",
            f"see `kubectl logs {pod['metadata']['name']}"
            f" -n {pod['metadata']['namespace']} -c sidecar`",
        )
    elif state(rows[0]) != "applied":
        raise checks.bad(
            f"the sidecar of {name} has applied its configuration", f"it is {state(rows[0])}"
        )
    else:
        checks.good(f"the sidecar of {name} has applied its configuration")


async def _inside(
    checks: _Checks, client: KubeClient, target: Target, caller: Pod, wish: Wish
) -> None:
    home = target.pod_namespace()
    called = await pods.find(client, wish.to_pod, home) if wish.to_pod else None
    usual = called["metadata"]["namespace"] if called else home
    service = await _service(client, wish.to_service, usual, called)
    if service is not None:
        called = await _endpoints(checks, client, service, called)
    assert called is not None
    _sidecar(checks, called)
    await _follows(checks, client, target.fsm_namespace, called)
    if service is not None:
        await _decisions(checks, client, caller, service, wish)
        if wish.path or checks.made[-1].status is Status.FAILURE:
            return
    judged = await policy.judge(client, target.fsm_namespace, caller, called)
    what = f"{_named(called)} lets {judged['identity']} in"
    if not judged["allowed"]:
        raise checks.bad(
            what,
            f"no policy allows {judged['identity']} there",
            "allow it with a TrafficTarget, or enable permissive mode",
        )
    by = sorted({rule["allowed_by"] for rule in judged["rules"]} - {""})
    checks.good(f"{what} ({', '.join(by) or 'permissive mode'})")


async def _service(client: KubeClient, text: str, namespace: str, called: Pod | None) -> Pod | None:
    """Return the Service that is meant, or one that selects the called Pod, if there is any."""
    from fsm.kube import NotFound
    from fsm.kube.resources import SERVICES

    if not text:
        assert called is not None
        labels = called["metadata"].get("labels") or {}
        for service in (await client.list(SERVICES, namespace)).items:
            selector = service["spec"].get("selector") or {}
            if selector and all(labels.get(k) == v for k, v in selector.items()):
                return service
        return None
    where, _, name = text.rpartition("/")
    try:
        return await client.get(SERVICES, name, where or namespace)
    except NotFound as error:
        await pods.check_namespace(client, where or namespace)
        known = (await client.list(SERVICES, where or namespace)).items
        hint = pods.there_are(
            f"Services in {where or namespace}", [s["metadata"]["name"] for s in known], name
        )
        raise Failure(f"there is no Service {where or namespace}/{name}", hint=hint) from error


async def _endpoints(checks: _Checks, client: KubeClient, service: Pod, called: Pod | None) -> Pod:
    from fsm.kube.resources import PODS

    name, home = service["metadata"]["name"], service["metadata"]["namespace"]
    selector = service["spec"].get("selector") or {}
    chosen = ",".join(f"{k}={v}" for k, v in selector.items())
    found = (await client.list(PODS, home, labels=chosen)).items if chosen else []
    ready = [pod for pod in found if pods.ready(pod)]
    what = f"Service {home}/{name} has ready endpoints"
    if not ready:
        raise checks.bad(
            what,
            f"none of its {len(found)} Pods is ready" if found else "its selector fits no Pod",
            f"see `kubectl get pods -n {home} -l {chosen}`" if chosen else "",
        )
    if called is not None and _named(called) not in map(_named, ready):
        raise checks.bad(
            f"Service {home}/{name} selects {_named(called)}",
            f"its ready Pods are {', '.join(map(_named, ready))}",
            "compare the Service's selector with the Pod's labels",
        )
    checks.good(what)
    return called or ready[0]


async def _decisions(
    checks: _Checks, client: KubeClient, caller: Pod, service: Pod, wish: Wish
) -> None:
    """Ask the sidecars about the request itself."""
    name, home = service["metadata"]["name"], service["metadata"]["namespace"]
    ports = service["spec"].get("ports") or []
    port = next((p for p in ports if p["port"] == wish.port or not wish.port), None)
    if port is None:
        known = ", ".join(str(p["port"]) for p in ports)
        raise checks.bad(f"Service {home}/{name} has port {wish.port}", f"it has {known or 'none'}")
    url = f"http://{name}.{home}:{port['port']}{wish.path or '/'}"
    question = explain.Question(explain.split_url(url), wish.method, ())
    for answer in await explain.ask_all(client, caller, question):
        side = "goes out of" if answer["direction"] == "outbound" else "is let into"
        what = f"{wish.method} {url} {side} {answer['at']}"
        if answer["decision"] == "denied" and not wish.path:
            # "/" was only a guess; which paths are allowed the rules of the called Pod tell.
            return
        if answer["decision"] == "denied":
            raise checks.bad(
                what,
                f"{answer.get('reason', 'denied')} at {answer['at']}",
                f"`fsm explain {_named(caller)} {url} -o yaml` shows every rule that was tried",
            )
        if answer["decision"] == "allowed":
            rule = answer.get("allowed_by") or answer.get("rule") or answer.get("matched_by", "")
            checks.good(f"{what} ({rule})" if rule else what)
        elif answer["decision"] == "passthrough":
            raise checks.bad(
                what,
                f"no policy makes a route to it, so it leaves {answer['at']} in plain text,"
                " and the called sidecar takes no plain text",
                "allow it with a TrafficTarget, or enable permissive mode",
            )


async def _outside(checks: _Checks, client: KubeClient, caller: Pod, wish: Wish) -> None:
    host = f"[{wish.host}]" if ":" in wish.host else wish.host
    url = f"http://{host}:{wish.port}{wish.path or '/'}"
    question = explain.Question(explain.split_url(url), wish.method, ())
    answer = (await explain.ask_all(client, caller, question))[0]
    what = f"{wish.host}:{wish.port} can be reached from {answer['at']}"
    if answer["decision"] == "denied":
        raise checks.bad(
            what,
            f"{answer.get('reason', 'denied')} at {answer['at']}",
            "enable egress (spec.traffic.enableEgress of MeshConfig), or allow it with a policy",
        )
    checks.good(f"{what} ({answer['decision']})")


def _named(pod: Pod) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
