"""``fsm rollout status``: waits until every proxy that a change concerns has applied it.

What comes in: an object of the mesh. What goes out: a sentence, and a line per proxy with its time
from the API's event to *applied*. Exit code 1 when the object or a proxy refuses, 4 when time
is up.

Invariant: it waits for the version of the object that the API has when the command starts, or a
later one; with ``--deleted``, until the change that took the object away is applied.
Not done here: measuring (the controller does; ``/rollout`` on its port 9091 tells).
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from fsm.cli import durations, options, output
from fsm.cli.errors import ExitCode, Failure

if TYPE_CHECKING:
    from fsm.cli.podhttp import PodHttp
    from fsm.cli.steps import Steps
    from fsm.kube import KubeClient, Resource

POLL_S = 0.05
COLUMNS = ("NAMESPACE", "POD", "STATE", "AFTER", "WHY")

Report = dict[str, Any]


def build() -> typer.Typer:
    """Return the ``rollout`` group."""
    group = typer.Typer(help="How far changes have come.", no_args_is_help=True)

    @group.callback()
    def _group() -> None:
        """How far changes have come."""

    group.command("status")(status)
    return group


def status(
    ctx: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(metavar="KIND/NAME", help="An object, such as trafficsplit/bookstore."),
    ],
    timeout: Annotated[str, typer.Option("--timeout", help="Longest wait.")] = "60s",
    watch: Annotated[
        bool, typer.Option("--watch/--no-watch", help="Wait; or only say how it is now.")
    ] = True,
    deleted: Annotated[
        bool,
        typer.Option("--deleted", help="Wait until no proxy heeds an object that was deleted."),
    ] = False,
    namespace: options.NamespaceOption = None,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    fsm_namespace: options.FsmNamespaceOption = None,
    output_format: output.OutputOption = output.Format.TABLE,
) -> None:
    """Wait until every affected proxy has applied an object; show the time that each took."""
    from fsm.cli import kinds, runner, steps

    target = options.target(ctx, kubeconfig, context, namespace, fsm_namespace)
    kind, name = kinds.split(words)
    resource = kinds.resource_of(kind)
    limit_s = durations.seconds(timeout) if watch else 0.0
    with steps.Steps() as shown:
        report = runner.run(_wait(target, resource, name, deleted, limit_s, shown))
    change = report.get("change") or {}
    rows = list(change.get("rows") or [])
    verdict, code = judge(report)
    if output_format is output.Format.TABLE:
        print(f"{report['object'].replace('//', '/')}: {verdict}")
        if rows:
            output.table(COLUMNS, [_cells(row) for row in rows])
    else:
        output.emit(output_format, {**report, "verdict": verdict}, (), ())
    if code:
        raise typer.Exit(code)


def judge(report: Report) -> tuple[str, ExitCode]:
    """Say in words how far it is, and with which exit code."""
    refused = _not_accepted(report)
    if refused:
        return f"refused: {refused}", ExitCode.FAILED
    if not report["seen"]:
        return "the control plane has not seen this version yet", ExitCode.TIMEOUT
    change = report.get("change")
    gone = report.get("wanted_generation") is None
    if change is None:
        return "not in effect" if gone else "in effect", ExitCode.OK
    if change["refused"]:
        count = f"{change['refused']} of {_proxies(change['proxies'])}"
        return f"refused by {count}", ExitCode.FAILED
    if not change["done"]:
        return f"applied by {change['applied']} of {_proxies(change['proxies'])}", ExitCode.TIMEOUT
    if not change["proxies"]:
        word = "not in effect" if gone else "in effect"
        return f"{word}; it changes no connected proxy", ExitCode.OK
    slowest = durations.short(change["slowest_s"])
    word = "undone" if gone else "applied"
    return f"{word} by {_proxies(change['proxies'])}, the last after {slowest}", ExitCode.OK


async def _wait(
    target: options.Target,
    resource: Resource,
    name: str,
    deleted: bool,
    limit_s: float,
    shown: Steps,
) -> Report:
    from fsm.cli import kinds, planes

    # MeshConfig lives with the control plane; people name its namespace seldom.
    usual = target.fsm_namespace if resource.kind == "MeshConfig" else target.pod_namespace()
    namespace = (target.namespace or usual) if resource.namespaced else ""
    async with target.client() as client:
        await kinds.check_served(client, resource)
        generation = None
        if not deleted:
            generation = await _generation(client, resource, name, namespace)
        elif not await _is_gone(client, resource, name, namespace):
            raise Failure(
                f"{_named(resource, name, namespace)} is not deleted",
                hint="leave --deleted out to wait until it is in effect",
            )
        doors = await planes.every_controller(client, target.fsm_namespace)
        try:
            return await _follow(
                doors, f"{resource.kind}/{namespace}/{name}", generation, limit_s, shown
            )
        finally:
            for http in doors:
                await http.close()


async def _generation(client: KubeClient, resource: Resource, name: str, namespace: str) -> int:
    from fsm.cli import pods
    from fsm.kube import NotFound

    try:
        found = await client.get(resource, name, namespace)
    except NotFound as error:
        names = [o["metadata"]["name"] for o in (await client.list(resource, namespace)).items]
        where = f" in {namespace}" if namespace else ""
        there = pods.there_are(f"{resource.kind}s{where}", names, name)
        raise Failure(
            f"there is no {_named(resource, name, namespace)}",
            hint=f"{there}; for one that was deleted write --deleted",
        ) from error
    return int(found["metadata"].get("generation", 1))


def _named(resource: Resource, name: str, namespace: str) -> str:
    where = f" in namespace {namespace}" if namespace else ""
    return f"{resource.kind} {name}{where}"


async def _is_gone(client: KubeClient, resource: Resource, name: str, namespace: str) -> bool:
    from fsm.kube import NotFound

    try:
        await client.get(resource, name, namespace)
    except NotFound:
        return True
    return False


async def _follow(
    doors: list[PodHttp], key: str, generation: int | None, limit_s: float, shown: Steps
) -> Report:
    deadline = time.monotonic() + limit_s
    told = ""
    while True:
        report = joined([await _ask(http, key) for http in doors])
        known = report.get("generation")
        report["seen"] = known is None if generation is None else (known or 0) >= generation
        report["wanted_generation"] = generation
        change = report.get("change")
        settled = report["seen"] and (change is None or change["done"] or change["refused"])
        if settled or _not_accepted(report) or time.monotonic() >= deadline:
            return report
        text = f"waiting: {judge(report)[0]}"
        if text != told:
            shown.begin(text)
            told = text
        await asyncio.sleep(POLL_S)


def joined(reports: list[Report]) -> Report:
    """Return what the replicas say together; each knows the proxies that are connected to it."""
    found = dict(reports[0])
    if len(reports) == 1:
        return found
    known = [report.get("generation") for report in reports]
    # Seen by all, or gone for all.
    behind = [number for number in known if number is not None]
    found["generation"] = min((number or 0 for number in known), default=None) if behind else None
    changes = [report["change"] for report in reports if report.get("change")]
    if changes:
        counts = ("proxies", "applied", "refused", "pending")
        found["change"] = {
            **changes[0],
            **{name: sum(int(change[name]) for change in changes) for name in counts},
            "slowest_s": max(change["slowest_s"] for change in changes),
            "done": all(change["done"] for change in changes),
            "rows": [row for change in changes for row in change["rows"]],
        }
    return found


async def _ask(http: PodHttp, key: str) -> Report:
    import json

    answer = await http.get(f"/rollout?object={quote(key, safe='/')}")
    if answer.status == 404 and b"error" in answer.body:
        return {"object": key, "generation": None, "status": {}, "change": None}
    if answer.status != 200:
        raise Failure(
            f"the control plane cannot tell: {answer.status} "
            + answer.body[:200].decode(errors="replace").strip(),
            hint="is it of this version? `fsm version` says; `fsm mesh upgrade` brings it up",
        )
    found = json.loads(answer.body)
    assert isinstance(found, dict)
    return found


def _not_accepted(report: Report) -> str:
    """Return why the control plane refuses the object; empty when it does not."""
    status = report.get("status") or {}
    wanted = report.get("wanted_generation")
    if wanted is None or (status.get("observedGeneration") or 0) < wanted:
        return ""
    for condition in status.get("conditions") or []:
        if condition.get("type") == "Accepted" and condition.get("status") == "False":
            return str(condition.get("message") or condition.get("reason") or "not accepted")
    return ""


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        str(row.get("namespace", "-")),
        str(row.get("pod", "-")),
        str(row.get("state", "-")),
        durations.short(row.get("applied_s")),
        str(row.get("reason") or "-"),
    ]


def _proxies(count: int) -> str:
    return f"{count} prox{'y' if count == 1 else 'ies'}"
