"""``fsm policy check-pods|check-conflicts``: whether Pods may talk, and whether objects disagree.

What comes in: two Pods; or a kind. What goes out: the sentences that users of this family of meshes
know, or data. Exit code 1 when the answer is no: not allowed, or in conflict.

Invariants: check-pods reads what the called Pod's sidecar runs; check-conflicts reads the statuses
that the control plane wrote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fsm.cli import options, output
from fsm.cli.errors import ExitCode

if TYPE_CHECKING:
    from fsm.kube import KubeClient


def build() -> typer.Typer:
    """Return the ``policy`` group."""
    group = typer.Typer(help="Questions about policies.", no_args_is_help=True)
    group.command("check-pods")(check_pods)
    group.command("check-conflicts")(check_conflicts)
    return group


def check_pods(
    ctx: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="The Pod that calls: NAMESPACE/NAME.")
    ],
    destination: Annotated[
        str, typer.Argument(metavar="DESTINATION", help="The Pod that is called.")
    ],
    namespace: options.NamespaceOption = None,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    fsm_namespace: options.FsmNamespaceOption = None,
    output_format: output.OutputOption = output.Format.TABLE,
) -> None:
    """Say whether one Pod may call another, and by which policies."""
    from fsm.cli import runner

    target = options.target(ctx, kubeconfig, context, namespace, fsm_namespace)
    data = runner.run(_check_pods(target, source, destination), "asking the sidecars")
    if output_format is output.Format.TABLE:
        for line in sentences(data, target.fsm_namespace):
            print(line)
    else:
        output.emit(output_format, data, (), ())
    if not data["allowed"]:
        raise typer.Exit(ExitCode.FAILED)


def sentences(data: dict[str, Any], fsm_namespace: str) -> list[str]:
    """Return what is said to people."""
    mode = "Permissive mode" if data["permissive"] else "SMI traffic policy mode"
    lines = [
        f"[+] {mode} enabled for mesh operated by fsm-controller running in "
        f"'{fsm_namespace}' namespace",
        "",
    ]
    pair = f"Pod '{data['source']}' is {{}} to communicate to pod '{data['destination']}'"
    if not data["allowed"]:
        missing = ", missing SMI TrafficTarget policy" if not data["permissive"] else ""
        return [*lines, f" [-] {pair.format('not allowed')}{missing}"]
    targets = list(dict.fromkeys(r["allowed_by"] for r in data["rules"] if r["allowed_by"]))
    if not targets:
        return [*lines, f" [+] {pair.format('allowed')}"]
    for origin in targets:
        kind, home, name = (*origin.split("/"), "", "")[:3]
        lines.append(
            f' [+] {pair.format("allowed")} via the SMI {kind} policy "{name}" '
            f'in namespace "{home}"'
        )
        lines += [
            f"     port {r['port']}: {r['what']} ({r['route']})"
            for r in data["rules"]
            if r["allowed_by"] == origin
        ]
    return lines


def check_conflicts(
    ctx: typer.Context,
    kind: Annotated[str, typer.Argument(help="A kind, such as TrafficSplit.")],
    namespaces: Annotated[
        list[str] | None,
        typer.Option("--namespace", "-n", help="Namespaces; repeatable. Default: all."),
    ] = None,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    output_format: output.OutputOption = output.Format.TABLE,
) -> None:
    """List the objects of a kind that contradict each other."""
    from fsm.cli import kinds, runner

    target = options.target(ctx, kubeconfig, context)
    resource = kinds.resource_of(kind)
    wanted = {name for text in namespaces or () for name in text.split(",") if name}

    async def ask() -> list[dict[str, Any]]:
        from fsm.cli import pods

        async with target.client() as client:
            await kinds.check_served(client, resource)
            for name in sorted(wanted):
                await pods.check_namespace(client, name)
            return (await client.list(resource)).items

    found = [
        {"kind": resource.kind, "namespace": home, "name": obj["metadata"]["name"], "why": why}
        for obj in runner.run(ask(), "asking the API")
        for home in (obj["metadata"].get("namespace", ""),)
        if (not wanted or home in wanted) and (why := conflict(obj))
    ]
    if output_format is output.Format.TABLE and not found:
        where = f" in namespaces {', '.join(sorted(wanted))}" if wanted else ""
        print(f"[+] No conflicts among {resource.kind} objects{where}")
    else:
        rows = [[str(f[k]) for k in ("kind", "namespace", "name", "why")] for f in found]
        output.emit(output_format, found, ("KIND", "NAMESPACE", "NAME", "WHY"), rows)
    if found:
        raise typer.Exit(ExitCode.FAILED)


def conflict(obj: dict[str, Any]) -> str:
    """Return what an object is in conflict with; empty when it is not."""
    for condition in (obj.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "Conflicted" and condition.get("status") == "True":
            return str(condition.get("message") or condition.get("reason") or "in conflict")
    return ""


async def _check_pods(target: options.Target, source: str, destination: str) -> dict[str, Any]:
    from fsm.cli import pods

    async with target.client() as client:
        home = target.pod_namespace()
        caller, called = [await pods.find(client, text, home) for text in (source, destination)]
        return await judge(client, target.fsm_namespace, caller, called)


async def judge(
    client: KubeClient, fsm_namespace: str, caller: dict[str, Any], called: dict[str, Any]
) -> dict[str, Any]:
    """Return what ``check-pods`` finds out about two Pods.

    Raises:
        Failure: one has no sidecar that runs.
    """
    from dataclasses import asdict

    from fsm.cli import access

    mine = await access.config_of(client, caller)
    theirs = await access.config_of(client, called)
    identity = str(mine.get("identity") or "")
    rules = access.rules_for(theirs, identity)
    return {
        "source": _named(caller),
        "destination": _named(called),
        "identity": identity,
        "permissive": await permissive(client, fsm_namespace),
        "allowed": bool(rules),
        "rules": [asdict(rule) for rule in rules],
    }


async def permissive(client: KubeClient, fsm_namespace: str) -> bool:
    """Whether permissive mode is on."""
    from fsm.kube import NotFound
    from fsm.kube.resources import MESHCONFIGS
    from fsm.settings import mesh_config_name

    try:
        found = await client.get(MESHCONFIGS, mesh_config_name(fsm_namespace), fsm_namespace)
    except NotFound:
        return False
    traffic = (found.get("spec") or {}).get("traffic") or {}
    return bool(traffic.get("enablePermissiveTrafficPolicyMode"))


def _named(pod: dict[str, Any]) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
