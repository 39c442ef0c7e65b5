"""``fsm status``: what runs, what follows, and what is wrong, at a glance.

What comes in: the box of this user, the control planes, the proxies they serve, the statuses of the
mesh's objects. What goes out: four short sections, or one document. Exit code 3 when nothing runs,
1 when something is wrong, 0 when all is well.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from fsm.cli import options, output
from fsm.cli.errors import ExitCode, Failure

if TYPE_CHECKING:
    from fsm.kube import KubeClient
    from fsm.standalone.box.lifecycle import BoxInfo


def status(
    ctx: typer.Context,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    fsm_namespace: options.FsmNamespaceOption = None,
    output_format: output.OutputOption = output.Format.TABLE,
) -> None:
    """Show what runs and whether it is well."""
    from fsm.cli import runner

    target = options.target(ctx, kubeconfig, context, fsm_namespace=fsm_namespace)
    data = runner.run(collect(target), "asking the mesh")
    if output_format is output.Format.TABLE:
        show(data)
    else:
        output.emit(output_format, data, (), ())
    if not data["control_planes"] or data["problems"]:
        raise typer.Exit(ExitCode.FAILED)


async def collect(target: options.Target) -> dict[str, Any]:
    """Return everything that ``fsm status`` shows.

    Raises:
        Failure: there is nothing to ask.
        ApiError: the API does not answer.
    """
    from fsm.cli import planes

    async with target.client() as client:
        found = await planes.find(client)
        data: dict[str, Any] = {
            "api": client.connection.server,
            "box": _box(client.connection.server),
            "control_planes": [
                {"mesh": p.mesh, "namespace": p.namespace, "version": p.version, "ready": p.ready}
                for p in found
            ],
            "proxies": [],
            "objects": await _objects(client) if found else [],
        }
        problems = [] if found else ["no control plane is installed"]
        problems += _troubles(client.connection.server)
        for plane in found:
            if not plane.ready:
                problems.append(f"the control plane in {plane.namespace} is not ready")
                continue
            try:
                data["proxies"] += await planes.proxies(client, plane.namespace)
            except Failure as error:
                problems.append(error.message)
                continue
    data["problems"] = problems + _problems(data)
    return data


def show(data: dict[str, Any]) -> None:
    """Write the sections for a person."""
    from fsm.cli import proxy

    box = data["box"]
    where = f"box, PID {box['pid']}, state in {box['state_dir']}" if box else "cluster"
    output.table(("API", "WHERE"), [[data["api"], where]])
    if data["control_planes"]:
        print()
        output.table(
            ("MESH", "NAMESPACE", "VERSION", "CONTROL PLANE"),
            [
                [p["mesh"], p["namespace"], p["version"], "ready" if p["ready"] else "waiting"]
                for p in data["control_planes"]
            ],
        )
    if data["proxies"]:
        print()
        output.table(proxy.COLUMNS, proxy.rows(data["proxies"]))
    if data["objects"]:
        print()
        columns = ("KIND", "NAMESPACE", "NAME", "STATUS")
        keys = ("kind", "namespace", "name", "status")
        output.table(columns, [[o[k] for k in keys] for o in data["objects"]])
    for note in box["notes"] if box else ():
        print(f"\nnote: {note}")
    for problem in data["problems"]:
        print(f"\nproblem: {problem}")


async def _objects(client: KubeClient) -> list[dict[str, str]]:
    from fsm.cli import kinds
    from fsm.kube import NotFound

    rows: list[dict[str, str]] = []
    for resource in kinds.resources():
        try:
            items = (await client.list(resource)).items
        except NotFound:
            continue
        for obj in items:
            metadata = obj["metadata"]
            rows.append(
                {
                    "kind": resource.kind,
                    # Plugins belong to no namespace.
                    "namespace": metadata.get("namespace", ""),
                    "name": metadata["name"],
                    "status": object_status(obj),
                }
            )
    return rows


def object_status(obj: dict[str, Any]) -> str:
    """Return the conditions of an object as a few words."""
    conditions = (obj.get("status") or {}).get("conditions") or []
    wrong = [
        c
        for c in conditions
        if c.get("status") == ("True" if c.get("type") == "Conflicted" else "False")
    ]
    if wrong:
        text = wrong[0].get("message") or wrong[0].get("reason") or wrong[0]["type"]
        return f"refused: {text}" if wrong[0]["type"] == "Accepted" else f"waiting: {text}"
    words = [c["type"].lower() for c in conditions if c.get("type") != "Conflicted"]
    return ", ".join(words) or "waiting for the control plane"


def _box(server: str) -> dict[str, Any] | None:
    from fsm.cli import box

    info = box.behind(server)
    if info is None:
        return None
    return {
        "pid": info.pid,
        "api_port": info.api_port,
        "state_dir": str(info.state_dir),
        "kubeconfig": str(info.kubeconfig),
        "opened_at": datetime.fromtimestamp(info.opened_at, UTC).isoformat(timespec="seconds"),
        "notes": _notes(info),
    }


def _notes(info: BoxInfo) -> list[str]:
    from fsm.standalone.box import lifecycle

    return lifecycle.notes(info)


def _troubles(server: str) -> list[str]:
    from fsm.cli import box

    info = box.behind(server)
    if info is None:
        return []
    from fsm.standalone.box import lifecycle

    return lifecycle.troubles(info)


def _problems(data: dict[str, Any]) -> list[str]:
    from fsm.cli import proxy

    found = [
        f"the proxy of {p.get('namespace')}/{p.get('pod')}: {proxy.state(p)}"
        for p in data["proxies"]
        if proxy.state(p) not in ("applied", "waiting")
    ]
    found += [
        f"{o['kind']} {o['namespace']}/{o['name']}: {o['status']}"
        for o in data["objects"]
        if o["status"].startswith("refused")
    ]
    return found
