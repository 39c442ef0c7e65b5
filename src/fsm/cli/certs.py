"""``fsm certs``: the root, who holds which certificate, and the rotation of the root.

What comes in: what the control plane tells at ``/certs`` on its port 9091. What goes out: tables or
data; and requests, which are annotations on the Secret with the roots, so that whoever may ask is
whoever may write that Secret.

Invariants: no key is read or shown; a command that asks for something waits for the answer, and,
unless told not to, for the end, and says meanwhile for whom.
Not done here: deciding (``fsm.ca.rotation``), rehearsing without a mesh (``certs_rehearse``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fsm.cli import certs_rehearse, certs_wait, durations, options, output
from fsm.cli.errors import ExitCode, Failure

Report = dict[str, Any]

WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the end.")]
TimeoutOption = Annotated[str, typer.Option("--timeout", help="Longest wait.")]


def build() -> typer.Typer:
    """Return the ``certs`` group."""
    group = typer.Typer(help="Certificates, and the rotation of the root.", no_args_is_help=True)

    @group.callback()
    def _group() -> None:
        """Certificates, and the rotation of the root."""

    group.command("list")(list_)
    group.command("status")(status)
    group.command("rotate")(rotate)
    group.command("abort")(abort)
    group.command("skip")(skip)
    group.command("rehearse")(rehearse)
    return group


def list_(
    ctx: typer.Context,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    fsm_namespace: options.FsmNamespaceOption = None,
    output_format: output.OutputOption = output.Format.TABLE,
) -> None:
    """List the roots, the control plane's own certificates, and those of all sidecars."""
    target = options.target(ctx, kubeconfig, context, None, fsm_namespace)
    report = certs_wait.ask(target)
    rows = [
        [
            "root",
            root["subject"],
            root["role"],
            _until(root["not_after"], report["now"]),
            root["fingerprint"][:16],
        ]
        for root in report["roots"]
    ]
    names = {root["signer"]: root["fingerprint"][:16] for root in report["roots"]}
    rows += [
        ["server", one["name"], "own", "-", names.get(one["signer"], "another root")]
        for one in report["servers"]
    ]
    rows += [
        [
            "sidecar",
            one["name"],
            "connected" if one["connected"] else "not connected",
            _left(one["not_after"], report["now"]),
            names.get(one["signer"], "another root") if one["signer"] else "-",
        ]
        for one in report["proxies"]
    ]
    output.emit(output_format, report, ("KIND", "NAME", "STATE", "LEFT", "ROOT"), rows)


def status(
    ctx: typer.Context,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    fsm_namespace: options.FsmNamespaceOption = None,
    output_format: output.OutputOption = output.Format.TABLE,
) -> None:
    """Tell how far a rotation is, and for whom it waits."""
    target = options.target(ctx, kubeconfig, context, None, fsm_namespace)
    report = certs_wait.ask(target)
    if output_format is not output.Format.TABLE:
        output.emit(output_format, report, (), ())
    else:
        print(certs_wait.verdict(report))
        if report["waits"]:
            rows = [[wait["name"], wait["why"]] for wait in report["waits"]]
            output.table(("WAITS FOR", "WHY"), rows)
    if report["problem"] or any(r["expired"] for r in report["roots"] if r["role"] == "signs"):
        raise typer.Exit(ExitCode.FAILED)


def rotate(
    ctx: typer.Context,
    certificate: Annotated[
        Path | None, typer.Option("--cert", help="The new root, PEM. Default: a new one is made.")
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", help="Its private key, PEM.")] = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = "5m",
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    fsm_namespace: options.FsmNamespaceOption = None,
    output_format: output.OutputOption = output.Format.TABLE,
) -> None:
    """Replace the root: everyone believes both, gets a new certificate, forgets the old root."""
    if (certificate is None) != (key is None):
        raise Failure("--cert and --key belong together", code=ExitCode.USAGE)
    texts = ("", "")
    if certificate is not None and key is not None:
        texts = (certificate.read_text(), key.read_text())
        _check(*texts)
    target = options.target(ctx, kubeconfig, context, None, fsm_namespace)
    limit_s = durations.seconds(timeout) if wait else 0.0
    report = certs_wait.request(target, "rotate", limit_s, certificate=texts[0], key=texts[1])
    _told(report, output_format, wait=wait)


def abort(
    ctx: typer.Context,
    wait: WaitOption = True,
    timeout: TimeoutOption = "5m",
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    fsm_namespace: options.FsmNamespaceOption = None,
    output_format: output.OutputOption = output.Format.TABLE,
) -> None:
    """Go back to the old root; possible until it is being retired."""
    target = options.target(ctx, kubeconfig, context, None, fsm_namespace)
    limit_s = durations.seconds(timeout) if wait else 0.0
    _told(certs_wait.request(target, "abort", limit_s), output_format, wait=wait)


def skip(
    ctx: typer.Context,
    pods: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NS/POD]...", help="Pods; default: all that are waited for."),
    ] = None,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    fsm_namespace: options.FsmNamespaceOption = None,
    output_format: output.OutputOption = output.Format.TABLE,
) -> None:
    """Wait no longer, in this phase, for sidecars; they come back with their tokens later."""
    target = options.target(ctx, kubeconfig, context, None, fsm_namespace)
    report = certs_wait.request(target, "skip", 0.0, names=tuple(pods or ()))
    _told(report, output_format, wait=False)


def rehearse(
    ctx: typer.Context,
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="Have all sidecars believe a throwaway root for a moment, which never signs.",
        ),
    ] = False,
    timeout: TimeoutOption = "5m",
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    fsm_namespace: options.FsmNamespaceOption = None,
    output_format: output.OutputOption = output.Format.TABLE,
) -> None:
    """Play a rotation, and an expired root, and tell what would happen to whom."""
    target = options.target(ctx, kubeconfig, context, None, fsm_namespace)
    report = certs_wait.ask(target)
    found = certs_rehearse.rehearse(report)
    if live:
        end = certs_wait.request(target, "rehearse", durations.seconds(timeout))
        found["live"] = {
            "ok": end["phase"] == "stable" and not end["problem"],
            "outcome": certs_wait.verdict(end),
            "waits": end["waits"],
        }
    if output_format is not output.Format.TABLE:
        output.emit(output_format, found, (), ())
    else:
        for play in found["plays"]:
            print(f"{play['name']}: {play['verdict']}")
            for line in play["timeline"]:
                print(f"  {certs_rehearse.span(line['at_s']):>6}  {line['what']}")
            if play["concerns"]:
                rows = [[one["name"], one["what"]] for one in play["concerns"]]
                output.table(("CONCERNS", "WHAT WOULD HAPPEN"), rows)
        if live:
            print(f"live: {found['live']['outcome']}")
    if not found["ok"] or (live and not found["live"]["ok"]):
        raise typer.Exit(ExitCode.FAILED)


def _told(report: Report, output_format: output.Format, *, wait: bool) -> None:
    if output_format is output.Format.TABLE:
        print(certs_wait.verdict(report))
    else:
        output.emit(output_format, report, (), ())
    if report["problem"]:
        raise typer.Exit(ExitCode.FAILED)
    if wait and report["phase"] != "stable":
        raise typer.Exit(ExitCode.TIMEOUT)


def _check(certificate: str, key: str) -> None:
    from datetime import UTC, datetime

    from fsm.ca import CaError, read_root

    try:
        root = read_root(certificate, key)
    except CaError as error:
        raise Failure(f"this root cannot be used: {error}") from error
    if not root.valid(datetime.now(UTC)):
        raise Failure(
            f"this root is valid from {root.not_before:%Y-%m-%d %H:%M} to"
            f" {root.not_after:%Y-%m-%d %H:%M} UTC, not now"
        )


def _until(moment: str, now: str) -> str:
    from datetime import datetime

    left = (datetime.fromisoformat(moment) - datetime.fromisoformat(now)).total_seconds()
    return certs_rehearse.span(left) if left > 0 else "expired"


def _left(not_after: float | None, now: str) -> str:
    from datetime import datetime

    if not_after is None:
        return "-"
    left = not_after - datetime.fromisoformat(now).timestamp()
    return certs_rehearse.span(left) if left > 0 else "expired"
