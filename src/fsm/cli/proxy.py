"""``fsm proxy get|list``: what a sidecar says of itself, and which sidecars there are.

What comes in: a Pod (see ``pods``) and a query. What goes out: the body of ``http://localhost:15000/QUERY``
of its sidecar on stdout, unchanged, or in the file that ``-f`` names.

Invariant: arguments and options may come in any order; a Pod without a sidecar, or one that is
not ready, is told in words before anything is asked of it.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from fsm.cli import components, options, output
from fsm.cli.errors import Failure

QUERIES = ("config_dump", "stats", "clusters", "listeners", "ready", "certs")


def build() -> typer.Typer:
    """Return the ``proxy`` group."""
    group = typer.Typer(help="The sidecars.", no_args_is_help=True)
    group.command("get")(get)
    group.command("list")(list_)
    components.add(group, "proxy set")
    return group


def get(
    ctx: typer.Context,
    query: Annotated[str, typer.Argument(help=f"One of: {', '.join(QUERIES)}.")],
    pod: Annotated[str, typer.Argument(help="NAME, NAMESPACE/NAME, or deploy/NAME.")],
    namespace: options.NamespaceOption = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", help="Write to this file.", show_default=False),
    ] = None,
    port: Annotated[
        int, typer.Option("--remote-port", help="Admin port of the sidecar.", hidden=True)
    ] = 15000,
    local_port: Annotated[
        int, typer.Option("--local-port", "-p", help="Accepted for scripts; not needed.")
    ] = 15000,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
) -> None:
    """Print what the sidecar of a Pod answers to a query."""
    from fsm.cli import runner

    del local_port  # WHY: the answer comes through the API, so no local port is opened.
    target = options.target(ctx, kubeconfig, context, namespace)
    body = runner.run(_ask(target, query, pod, port), "asking the sidecar")
    if file is not None:
        file.write_bytes(body)
    else:
        sys.stdout.buffer.write(body)
        sys.stdout.buffer.flush()


def list_(
    ctx: typer.Context,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    fsm_namespace: options.FsmNamespaceOption = None,
    output_format: output.OutputOption = output.Format.TABLE,
) -> None:
    """List the sidecars that the control plane serves, and what each has applied."""
    from fsm.cli import runner

    target = options.target(ctx, kubeconfig, context, fsm_namespace=fsm_namespace)
    proxies = runner.run(_proxies(target), "asking the control plane")
    if not proxies and output_format is output.Format.TABLE:
        print("No proxies are connected")
        return
    output.emit(output_format, proxies, COLUMNS, rows(proxies))


COLUMNS = ("NAMESPACE", "POD", "STATE", "VERSION", "CONNECTED", "CERTIFICATE")


def rows(proxies: list[dict[str, Any]]) -> list[list[str]]:
    """Return the table of the controller's ``/proxies``."""
    now = datetime.now(UTC).timestamp()
    return [
        [
            str(p.get("namespace", "-")),
            str(p.get("pod", "-")),
            state(p),
            str(p.get("applied_version") or "-"),
            _ago(now, p.get("connected_at")) if p.get("connected") else "no",
            _ahead(now, p.get("certificate_not_after")),
        ]
        for p in proxies
    ]


def state(proxy: dict[str, Any]) -> str:
    """Return in a word or two how far a proxy has followed its configuration."""
    if proxy.get("compile_error"):
        return f"failed: {proxy['compile_error']}"
    if proxy.get("refused_reason"):
        return f"refused: {proxy['refused_reason']}"
    if proxy.get("applied_version") and proxy.get("applied_version") == proxy.get("target_version"):
        return "applied"
    return "waiting"


async def _ask(target: options.Target, query: str, pod: str, port: int) -> bytes:
    from fsm.cli import pods
    from fsm.cli.podhttp import PodHttp

    async with target.client() as client:
        found = await pods.find(client, pod, target.pod_namespace())
        pods.check_sidecar(found)
        namespace, pod = found["metadata"]["namespace"], found["metadata"]["name"]
        http = PodHttp(client, namespace, pod, port)
        try:
            answer = await http.get("/" + query.removeprefix("/"))
        finally:
            await http.close()
    if answer.status == 404:
        raise Failure(
            f"the sidecar of Pod {namespace}/{pod} knows no query {query!r}",
            hint=f"it answers {', '.join(QUERIES)}",
        )
    if answer.status != 200:
        words = answer.body[:200].decode(errors="replace").strip()
        raise Failure(f"the sidecar of Pod {namespace}/{pod} answers {answer.status} {words}")
    return answer.body


async def _proxies(target: options.Target) -> list[dict[str, Any]]:
    from fsm.cli import planes

    async with target.client() as client:
        return await planes.proxies(client, target.fsm_namespace)


def _ago(now: float, then: object) -> str:
    return _span(now - then) if isinstance(then, int | float) else "-"


def _ahead(now: float, then: object) -> str:
    if not isinstance(then, int | float):
        return "-"
    return f"{_span(then - now)} left" if then > now else "expired"


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"
