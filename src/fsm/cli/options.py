"""The options that many commands share, and the answer to "which Kubernetes API?".

What comes in: ``--kubeconfig``, ``--context``, ``-n``, ``-N``, before or after the command's name.
What goes out: a ``Target``, which opens a ``KubeClient``.

Without ``--kubeconfig`` the target is ``$KUBECONFIG`` when set, else the box of this user when one
runs, else ``~/.kube/config``. Invariant: a target names what it points at, for error messages.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fsm.cli import whereabouts
from fsm.cli.errors import ExitCode, Failure

if TYPE_CHECKING:
    from fsm.kube import KubeClient

FSM_NAMESPACE = "fsm-system"

#: Of commands for which no option is an error.
ANYTHING = {"ignore_unknown_options": True, "allow_extra_args": True}

KubeconfigOption = Annotated[
    Path | None,
    typer.Option(
        "--kubeconfig",
        help="Kubeconfig file. Default: $KUBECONFIG, else the running box, else ~/.kube/config.",
        show_default=False,
    ),
]
ContextOption = Annotated[
    str | None,
    typer.Option("--context", help="Context of the kubeconfig.", show_default=False),
]
NamespaceOption = Annotated[
    str | None,
    typer.Option("--namespace", "-n", help="Namespace of the object.", show_default=False),
]
FsmNamespaceOption = Annotated[
    str | None,
    typer.Option(
        "--fsm-namespace",
        "--osm-namespace",
        "-N",
        help=f"Namespace of the control plane. Default: {FSM_NAMESPACE}.",
        show_default=False,
    ),
]
VerboseOption = Annotated[
    bool,
    typer.Option("--verbose", help="Show of an error where in the program it came from."),
]
ChartOption = Annotated[
    str | None,
    # Scripts of this mesh's relatives name their charts; ours is part of the program.
    typer.Option("--fsm-chart-path", "--osm-chart-path", hidden=True, show_default=False),
]
LocalPortOption = Annotated[
    int | None,
    # Accepted for scripts, and not needed: no port is forwarded.
    typer.Option("--local-port", "-p", hidden=True, show_default=False),
]
MeshNameOption = Annotated[str, typer.Option("--mesh-name", help="Name of the mesh.")]


@dataclass(frozen=True, slots=True)
class Target:
    """Which Kubernetes API a command talks to, and where in it."""

    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str | None = None
    fsm_namespace: str = FSM_NAMESPACE

    def client(self) -> KubeClient:
        """Return a client that is opened with ``async with``.

        Raises:
            Failure: no kubeconfig, and no box runs.
            ConfigError: the kubeconfig cannot be used.
        """
        from fsm.kube import KubeClient

        return KubeClient.from_kubeconfig(self.path(), self.context)

    def path(self) -> Path | None:
        """Return the kubeconfig file to read; ``None`` lets ``$KUBECONFIG`` list several."""
        if self.kubeconfig is not None:
            if not self.kubeconfig.is_file():
                raise Failure(f"there is no kubeconfig at {self.kubeconfig}", code=ExitCode.NO_MESH)
            return self.kubeconfig
        if os.environ.get("KUBECONFIG"):
            return None
        if (box := box_kubeconfig()) is not None:
            return box
        if whereabouts.usual_kubeconfig().is_file():
            return None
        raise Failure(
            "no mesh runs here, and no kubeconfig names a cluster",
            hint="start one with `fsm up`, or name a cluster with --kubeconfig",
            code=ExitCode.NO_MESH,
        )

    def pod_namespace(self) -> str:
        """Return the namespace that ``-n`` names; the usual one is ``default``."""
        return self.namespace or "default"


def refuse_chart(path: str | None) -> None:
    """Refuse a chart that is named.

    Raises:
        Failure: there is one.
    """
    if path is not None:
        raise Failure(
            "fsm installs from manifests of its own and takes no chart",
            hint="`--set` and `-f` take the values of the chart (docs/reference/install-values.md)",
            code=ExitCode.ABSENT,
        )


def box_kubeconfig() -> Path | None:
    """Return the kubeconfig of this user's box, or ``None`` when none runs."""
    from fsm.cli import box

    running = box.running()
    return running.kubeconfig if running is not None else None


def target(
    ctx: typer.Context,
    kubeconfig: Path | None = None,
    context: str | None = None,
    namespace: str | None = None,
    fsm_namespace: str | None = None,
) -> Target:
    """Combine the options of a command with those given before its name; its own win."""
    base = ctx.find_root().obj
    merged = base if isinstance(base, Target) else Target()
    return Target(
        kubeconfig if kubeconfig is not None else merged.kubeconfig,
        context if context is not None else merged.context,
        namespace if namespace is not None else merged.namespace,
        fsm_namespace if fsm_namespace is not None else merged.fsm_namespace,
    )
