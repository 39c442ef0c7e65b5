"""``fsm support bug-report``: everything that helps to understand a mesh, in one archive.

What comes in: which Pods and namespaces to look at; by default all of the mesh. What goes out: a
``tar.gz`` with objects, statuses, logs, and what each sidecar says of itself.

Invariants: no secret leaves: Secrets are listed by name and keys only, and every text goes through
``redact``; what cannot be collected is written into ``errors.txt`` and stops nothing; the archive
is readable by its owner only, and is whole or is not there.
Not done here: what is collected (``collect``).
"""

from __future__ import annotations

import io
import os
import tarfile
import time
from pathlib import Path
from typing import Annotated

import typer

from fsm.cli import components, options
from fsm.cli.errors import Failure


def build() -> typer.Typer:
    """Return the ``support`` group."""
    group = typer.Typer(help="Help when something is wrong.", no_args_is_help=True)

    @group.callback()
    def _group() -> None:
        """Help when something is wrong."""

    group.command("bug-report")(bug_report)
    components.add(group, "support error-info")
    return group


def bug_report(
    ctx: typer.Context,
    everything: Annotated[
        bool, typer.Option("--all", help="The whole mesh; so it is also when nothing is named.")
    ] = False,
    app_namespaces: Annotated[
        list[str] | None,
        typer.Option("--app-namespaces", help="Namespaces; repeatable, or with commas."),
    ] = None,
    app_deployments: Annotated[
        list[str] | None,
        typer.Option("--app-deployments", help="NAMESPACE/NAME; repeatable, or with commas."),
    ] = None,
    app_pods: Annotated[
        list[str] | None,
        typer.Option("--app-pods", help="NAMESPACE/NAME; repeatable, or with commas."),
    ] = None,
    out_file: Annotated[
        Path | None,
        typer.Option(
            "--out-file", "-o", help="The archive. Default: fsm-bug-report-TIME.tar.gz here."
        ),
    ] = None,
    ingress: Annotated[bool, typer.Option("--ingress", hidden=True)] = False,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    fsm_namespace: options.FsmNamespaceOption = None,
) -> None:
    """Collect what helps to understand a mesh into an archive, without secrets."""
    from fsm.cli import collect, runner, steps

    target = options.target(ctx, kubeconfig, context, fsm_namespace=fsm_namespace)
    wanted = collect.Wanted(
        namespaces=() if everything else _words(app_namespaces),
        deployments=() if everything else _words(app_deployments),
        pods=() if everything else _words(app_pods),
    )
    path = out_file or Path(time.strftime("fsm-bug-report-%Y%m%d-%H%M%S.tar.gz"))
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise Failure(f"{path} cannot be written: it is a directory, or in none that exists")
    with steps.Steps() as shown:
        if ingress:
            shown.note(
                "note: the mesh has no ingress of its own; there is nothing of it to collect"
            )
        texts = runner.run(collect.everything(target, wanted, shown.begin))
        shown.begin(f"writing {path}")
        write(path, texts)
        if problems := texts.get("errors.txt", "").splitlines():
            shown.note(f"note: {len(problems)} things could not be collected; errors.txt in it")
    print(path)


def write(path: Path, texts: dict[str, str]) -> None:
    """Write the archive; the names of files are below one folder named like it."""
    folder = path.name.removesuffix(".gz").removesuffix(".tar")
    part = path.with_name(f".{path.name}.part")
    try:
        # Not readable by others from its first byte on: what is in there is nobody else's business.
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name, text in sorted(texts.items()):
                data = text.encode()
                entry = tarfile.TarInfo(f"{folder}/{name}")
                entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o600
                archive.addfile(entry, io.BytesIO(data))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _words(texts: list[str] | None) -> tuple[str, ...]:
    return tuple(word for text in texts or () for word in text.split(",") if word)
