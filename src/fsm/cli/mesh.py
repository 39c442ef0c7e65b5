"""``fsm mesh list|upgrade``: the control planes of a cluster; bringing one up to date.

What comes in: Deployments, namespaces' labels, CustomResourceDefinitions. What goes out: two
tables, or one document. For an upgrade: the manifests of this version, applied.

Invariants: the SMI versions shown are those that the API serves, not those we could serve; an
upgrade keeps the values of the installation and MeshConfig but for what is asked for now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fsm.cli import options, output, values
from fsm.cli.install import TimeoutOption

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
    group.command("upgrade")(upgrade)
    return group


def list_(
    ctx: typer.Context,
    local_port: options.LocalPortOption = None,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    output_format: output.OutputOption = output.Format.TABLE,
) -> None:
    """List the control planes, their namespaces, and the SMI versions served."""
    del local_port
    from fsm.cli import runner

    target = options.target(ctx, kubeconfig, context)
    data = runner.run(_collect(target), "asking the API")
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


def upgrade(
    ctx: typer.Context,
    mesh_name: options.MeshNameOption = "fsm",
    assignments: values.SetOption = None,
    files: values.FileOption = None,
    reset_values: Annotated[
        bool, typer.Option("--reset-values", help="Forget the values of earlier installations.")
    ] = False,
    timeout: TimeoutOption = "5m",
    chart_path: options.ChartOption = None,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    fsm_namespace: options.FsmNamespaceOption = None,
) -> None:
    """Bring a control plane to the version of this program; MeshConfig keeps its values."""
    options.refuse_chart(chart_path)
    from fsm.cli import box, install, planes, runner, steps
    from fsm.cli.durations import seconds
    from fsm.settings import Settings

    target = options.target(ctx, kubeconfig, context, fsm_namespace=fsm_namespace)
    given = values.gather(files, assignments)
    timeout_s = seconds(timeout)

    async def work(shown: steps.Steps) -> tuple[str, list[str]]:
        async with target.client() as client:
            plane = await planes.require(client, mesh_name)
            base = Settings(mesh_name=plane.mesh, fsm_namespace=plane.namespace)
            standalone = box.behind(client.connection.server) is not None
            done = await install.put(
                client,
                base,
                given,
                timeout_s,
                shown.begin,
                standalone=standalone,
                reset=reset_values,
            )
            for note in done.notes:
                shown.note(f"note: {note}")
            return plane.namespace, await _older_sidecars(client)

    with steps.Steps() as shown:
        namespace, older = runner.run(work(shown))
        if older:
            shown.note(
                f"note: {len(older)} Pods run an older sidecar, among them {', '.join(older[:3])}; "
                "`kubectl rollout restart` gives them the new one"
            )
    print(f"FSM successfully upgraded mesh [{mesh_name}] in namespace [{namespace}]")


async def _older_sidecars(client: KubeClient) -> list[str]:
    """Return the Pods whose sidecar is of another version than this program."""
    from fsm import __version__
    from fsm.cli.pods import SIDECAR
    from fsm.kube.resources import PODS

    return [
        f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        for pod in (await client.list(PODS)).items
        for part in ("initContainers", "containers")
        for container in pod["spec"].get(part) or []
        if container["name"] == SIDECAR and not container["image"].endswith(f":{__version__}")
    ]


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
