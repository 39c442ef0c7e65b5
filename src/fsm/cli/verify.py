"""``fsm verify connectivity|control-plane``: one question, answered by a list of checks.

What comes in: what should work. What goes out: what was verified, ``Status: Success``, ``Failure``
or ``Unknown``, with a reason and a suggestion where it fails, and every check that was made. Exit
code 1 unless it is a success.

Invariant: nothing is sent to an application and nothing is changed.
Not done here: the checks (``connectivity``, ``control_plane``).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from fsm.cli import components, options, output
from fsm.cli.errors import ExitCode, Failure

if TYPE_CHECKING:
    from collections.abc import Sequence


class Status(StrEnum):
    """How a check ended."""

    SUCCESS = "Success"
    FAILURE = "Failure"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Check:
    """One check: what was looked at, how it is, and what to do about it."""

    what: str
    status: Status
    reason: str = ""
    suggestion: str = ""


def build() -> typer.Typer:
    """Return the ``verify`` group."""
    group = typer.Typer(help="Verify that something works, or say why not.", no_args_is_help=True)
    group.command("connectivity")(connectivity)
    group.command("control-plane")(control_plane)
    group.command("control-plane-health", hidden=True)(control_plane)
    components.add(group, "verify ingress")
    return group


def connectivity(
    ctx: typer.Context,
    from_pod: Annotated[
        str, typer.Option("--from-pod", help="The Pod that calls: NAMESPACE/NAME.")
    ],
    to_pod: Annotated[str, typer.Option("--to-pod", help="The Pod that is called.")] = "",
    to_service: Annotated[
        str, typer.Option("--to-service", help="The Service that is called: NAMESPACE/NAME.")
    ] = "",
    to_port: Annotated[
        int, typer.Option("--to-port", help="Port of the Service. Default: its first.")
    ] = 0,
    app_protocol: Annotated[
        str, typer.Option("--app-protocol", help="http or tcp. Default: what the Service says.")
    ] = "",
    path: Annotated[
        str, typer.Option("--path", help="Of an HTTP request. Default: any that a policy names.")
    ] = "",
    method: Annotated[str, typer.Option("--request", "-X", help="Of an HTTP request.")] = "GET",
    to_ext_host: Annotated[
        str, typer.Option("--to-ext-host", help="A host outside of the mesh, or its address.")
    ] = "",
    to_ext_port: Annotated[int, typer.Option("--to-ext-port", help="A port there.")] = 80,
    mesh_name: Annotated[
        str, typer.Option("--mesh-name", help="Accepted; the Pod's namespace says which.")
    ] = "",
    namespace: options.NamespaceOption = None,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    fsm_namespace: options.FsmNamespaceOption = None,
    output_format: output.OutputOption = output.Format.TABLE,
) -> None:
    """Verify that a Pod can call a Pod, a Service, or a host outside."""
    del mesh_name
    from fsm.cli import connectivity as checks
    from fsm.cli import runner

    if sum(map(bool, (to_pod or to_service, to_ext_host))) != 1:
        raise Failure(
            "say where to: --to-pod and/or --to-service, or --to-ext-host", code=ExitCode.USAGE
        )
    if app_protocol not in ("", "http", "tcp"):
        raise Failure(f"--app-protocol is {app_protocol!r}; it is http or tcp", code=ExitCode.USAGE)
    target = options.target(ctx, kubeconfig, context, namespace, fsm_namespace)
    wish = checks.Wish(
        from_pod=from_pod,
        to_pod=to_pod,
        to_service=to_service,
        port=to_ext_port if to_ext_host else to_port,
        protocol=app_protocol,
        path=path,
        method=method.upper(),
        host=to_ext_host,
    )
    found = runner.run(checks.verify(target, wish), "asking the sidecars")
    where = to_ext_host or " of service ".join(w for w in (to_pod, to_service) if w)
    _tell(f"Verify if pod {from_pod!r} can access {where!r}", found, output_format)


def control_plane(
    ctx: typer.Context,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    fsm_namespace: options.FsmNamespaceOption = None,
    output_format: output.OutputOption = output.Format.TABLE,
) -> None:
    """Verify that the control plane is whole and serves its proxies."""
    from fsm.cli import control_plane as checks
    from fsm.cli import runner

    target = options.target(ctx, kubeconfig, context, fsm_namespace=fsm_namespace)
    found = runner.run(checks.verify(target), "looking at the control plane")
    _tell(f"Verify the control plane in namespace {target.fsm_namespace!r}", found, output_format)


def verdict(checks: Sequence[Check]) -> Check:
    """Return the check that decides: the first that failed, else an unknown one, else the last."""
    for status in (Status.FAILURE, Status.UNKNOWN):
        for check in checks:
            if check.status is status:
                return check
    return checks[-1]


def _tell(question: str, checks: Sequence[Check], output_format: output.Format) -> None:
    last = verdict(checks)
    if output_format is output.Format.TABLE:
        marks = {Status.SUCCESS: "+", Status.FAILURE: "-", Status.UNKNOWN: "?"}
        print("---------------------------------------------")
        print(f"[+] Context: {question}")
        for check in checks:
            print(f"    [{marks[check.status]}] {check.what}")
        print(f"Status: {last.status}")
        if last.status is not Status.SUCCESS:
            print(f"Reason: {last.reason or last.what}")
            if last.suggestion:
                print(f"Suggestion: {last.suggestion}")
        print("---------------------------------------------")
    else:
        data: dict[str, object] = {
            "context": question,
            "status": last.status.value,
            "reason": last.reason,
            "suggestion": last.suggestion,
            "checks": [{**asdict(c), "status": c.status.value} for c in checks],
        }
        output.emit(output_format, data, (), ())
    if last.status is not Status.SUCCESS:
        raise typer.Exit(ExitCode.FAILED)
