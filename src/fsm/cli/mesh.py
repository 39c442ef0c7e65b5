"""``fsm mesh list``: the control planes of a cluster, and the SMI versions they serve.

What comes in: Deployments, namespaces' labels, CustomResourceDefinitions. What goes out: two
tables, or one document. Invariant: the SMI versions shown are those that the API serves, not those
we could serve.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from fsm.cli import options, output

if TYPE_CHECKING:
    from fsm.kube import KubeClient

MONITORED_BY = "flomesh.io/monitored-by"

SMI_KINDS = ("HTTPRouteGroup", "TCPRoute", "TrafficSplit", "TrafficTarget")


def build() -> typer.Typer:
    """Return the ``mesh`` group."""
    group = typer.Typer(help="Control planes.", no_args_is_help=True)

    @group.callback()
    def _group() -> None:
        """Control planes."""

    group.command("list")(list_)
    return group


def list_(
    ctx: typer.Context,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    output_format: output.OutputOption = output.Format.TABLE,
) -> None:
    """List the control planes, their namespaces, and the SMI versions served."""
    from fsm.cli import runner

    target = options.target(ctx, kubeconfig, context)
    data = runner.run(_collect(target))
    if output_format is not output.Format.TABLE:
        output.emit(output_format, data, (), ())
        return
    if not data:
        print("No fsm mesh control planes found")
        return
    rows = [
        [str(m["mesh"]), str(m["namespace"]), str(m["version"]), _joined(m["added_namespaces"])]
        for m in data
    ]
    output.table(("MESH NAME", "MESH NAMESPACE", "VERSION", "ADDED NAMESPACES"), rows)
    print()
    smi = [[str(m["mesh"]), str(m["namespace"]), _joined(m["smi_supported"])] for m in data]
    output.table(("MESH NAME", "MESH NAMESPACE", "SMI SUPPORTED"), smi)


async def _collect(target: options.Target) -> list[dict[str, object]]:
    from fsm.cli import planes
    from fsm.kube.resources import NAMESPACES

    async with target.client() as client:
        served = await _smi_versions(client)
        namespaces = (await client.list(NAMESPACES, labels=MONITORED_BY)).items
        return [
            {
                "mesh": plane.mesh,
                "namespace": plane.namespace,
                "version": plane.version,
                "ready": plane.ready,
                "added_namespaces": [
                    n["metadata"]["name"]
                    for n in namespaces
                    if n["metadata"]["labels"][MONITORED_BY] == plane.mesh
                ],
                "smi_supported": served,
            }
            for plane in await planes.find(client)
        ]


async def _smi_versions(client: KubeClient) -> list[str]:
    from fsm.kube.resources import CRDS

    found: list[str] = []
    for crd in (await client.list(CRDS)).items:
        spec: dict[str, Any] = crd["spec"]
        if spec["group"].endswith("smi-spec.io") and spec["names"]["kind"] in SMI_KINDS:
            names = [v["name"] for v in spec["versions"] if v.get("served")]
            found += [f"{spec['names']['kind']}{name}" for name in names]
    return sorted(found)


def _joined(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) and value else "-"
