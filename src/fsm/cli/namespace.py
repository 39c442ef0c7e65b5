"""``fsm namespace add|remove|ignore|list`` (``ns``): which namespaces the mesh watches.

What comes in: names. What goes out: one line per namespace, worded as users of this family of
meshes know it, or a table. The change itself, labels and annotations, is made by
``fsm.controllers.namespaces``.

Invariant: of several names each is tried; the exit code is 1 when any of them failed.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fsm.cli import errors, options, output

if TYPE_CHECKING:
    from fsm.kube import KubeClient

Names = Annotated[list[str], typer.Argument(metavar="NAMESPACE...", help="Namespaces.")]

Change = Callable[["KubeClient", str], Awaitable[str]]
"""Changes one namespace and returns the line that says so."""


def build() -> typer.Typer:
    """Return the ``namespace`` group."""
    group = typer.Typer(help="Namespaces of the mesh (short: ns).", no_args_is_help=True)
    group.command("add")(add)
    group.command("remove")(remove)
    group.command("ignore")(ignore)
    group.command("list")(list_)
    return group


def add(
    ctx: typer.Context,
    names: Names,
    mesh_name: options.MeshNameOption = "fsm",
    disable_sidecar_injection: Annotated[
        bool,
        typer.Option("--disable-sidecar-injection", help="Watch it, but inject no sidecars."),
    ] = False,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
) -> None:
    """Add namespaces to the mesh; Pods made from now on get a sidecar."""
    from fsm.controllers import namespaces

    async def change(client: KubeClient, name: str) -> str:
        changed = await namespaces.add(
            client, name, mesh_name, sidecar_injection=not disable_sidecar_injection
        )
        how = "successfully added" if changed else "has already been added"
        return f"Namespace [{name}] {how} to mesh [{mesh_name}]"

    target = options.target(ctx, kubeconfig, context)
    _each(target, names, change, mesh_name)


def remove(
    ctx: typer.Context,
    names: Names,
    mesh_name: options.MeshNameOption = "fsm",
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
) -> None:
    """Take namespaces out of the mesh; running Pods keep their sidecar until they end."""
    from fsm.controllers import namespaces

    async def change(client: KubeClient, name: str) -> str:
        changed = await namespaces.remove(client, name, mesh_name)
        how = "successfully removed from" if changed else "is not in"
        return f"Namespace [{name}] {how} mesh [{mesh_name}]"

    _each(options.target(ctx, kubeconfig, context), names, change)


def ignore(
    ctx: typer.Context,
    names: Names,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
) -> None:
    """Keep namespaces out of every mesh."""
    from fsm.controllers import namespaces

    async def change(client: KubeClient, name: str) -> str:
        await namespaces.ignore(client, name)
        return f"Successfully configured namespace [{name}] to be ignored"

    _each(options.target(ctx, kubeconfig, context), names, change)


def list_(
    ctx: typer.Context,
    mesh_name: Annotated[
        str, typer.Option("--mesh-name", help="Only this mesh.", show_default=False)
    ] = "",
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    output_format: output.OutputOption = output.Format.TABLE,
) -> None:
    """List the namespaces of the mesh."""
    from fsm.cli import runner
    from fsm.controllers import namespaces

    target = options.target(ctx, kubeconfig, context)

    async def ask() -> list[Any]:
        async with target.client() as client:
            return list(await namespaces.list_(client, mesh_name))

    found = runner.run(ask())
    if not found and output_format is output.Format.TABLE:
        print(f"No namespaces in mesh [{mesh_name}]" if mesh_name else "No namespaces in any mesh")
        return
    data: list[dict[str, object]] = [
        {"namespace": n.name, "mesh": n.mesh, "sidecar_injection": n.injection} for n in found
    ]
    rows = [[n.name, n.mesh, n.injection] for n in found]
    output.emit(output_format, data, ("NAMESPACE", "MESH", "SIDECAR-INJECTION"), rows)


def _each(
    target: options.Target, names: list[str], change: Change, mesh_name: str | None = None
) -> None:
    from fsm.cli import planes, runner

    async def work() -> int:
        worst = int(errors.ExitCode.OK)
        async with target.client() as client:
            if mesh_name is not None:
                await planes.require(client, mesh_name)
            for name in names:
                try:
                    print(await change(client, name))
                except Exception as error:
                    # One wrong name must not keep the others from being tried.
                    if errors.explain(error) is None:
                        raise
                    worst = errors.report(error)
                sys.stdout.flush()
        return worst

    if code := runner.run(work()):
        raise typer.Exit(code)
