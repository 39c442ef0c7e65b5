"""``fsm metrics enable|disable``: whether Prometheus shall scrape the sidecars of namespaces.

What comes in: names of namespaces. What goes out: an annotation on each of them, which the injector
reads, and Prometheus' usual annotations on the Pods that run with a sidecar already.

Invariants: of several namespaces each is tried; Pods without a sidecar are left as they are; asking
twice changes nothing.
Source: fsm-interfaces section 3.2.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from fsm.cli import options, output
from fsm.cli.each import each
from fsm.cli.errors import Failure

if TYPE_CHECKING:
    from fsm.kube import KubeClient

ANNOTATION = "flomesh.io/metrics"
SCRAPE = {
    "prometheus.io/scrape": "true",
    "prometheus.io/port": "15010",
    "prometheus.io/path": "/stats/prometheus",
}

Namespaces = Annotated[
    list[str],
    typer.Option("--namespace", "-n", help="Namespaces; repeatable, or with commas."),
]


def build() -> typer.Typer:
    """Return the ``metrics`` group."""
    group = typer.Typer(help="Metrics of the sidecars.", no_args_is_help=True)
    group.command("enable")(enable)
    group.command("disable")(disable)
    return group


def enable(
    ctx: typer.Context,
    namespaces: Namespaces,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    output_format: output.OutputOption = output.Format.TABLE,
) -> None:
    """Have Prometheus scrape the sidecars of namespaces."""
    target = options.target(ctx, kubeconfig, context)
    _each(target, namespaces, _enable, "enabled", output_format)


def disable(
    ctx: typer.Context,
    namespaces: Namespaces,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    output_format: output.OutputOption = output.Format.TABLE,
) -> None:
    """Have Prometheus leave the sidecars of namespaces alone."""
    target = options.target(ctx, kubeconfig, context)
    _each(target, namespaces, _disable, "disabled", output_format)


async def _enable(client: KubeClient, name: str) -> None:
    from fsm.cli import pods
    from fsm.kube.resources import NAMESPACES
    from fsm.model.names import MONITORED_BY_LABELS

    namespace = await pods.check_namespace(client, name)
    labels = namespace["metadata"].get("labels") or {}
    if not any(labels.get(key) for key in MONITORED_BY_LABELS):
        raise Failure(
            f"Namespace [{name}] does not belong to a mesh",
            hint=f"add it with `fsm namespace add {name}`",
        )
    await client.patch(NAMESPACES, name, {"metadata": {"annotations": {ANNOTATION: "enabled"}}})
    await _annotate(client, name, dict(SCRAPE))


async def _disable(client: KubeClient, name: str) -> None:
    from fsm.cli import pods
    from fsm.kube.resources import NAMESPACES

    await pods.check_namespace(client, name)
    await client.patch(NAMESPACES, name, {"metadata": {"annotations": {ANNOTATION: None}}})
    await _annotate(client, name, dict.fromkeys(SCRAPE))


async def _annotate(
    client: KubeClient, namespace: str, annotations: dict[str, str] | dict[str, None]
) -> None:
    from fsm.cli import pods
    from fsm.kube import NotFound
    from fsm.kube.resources import PODS

    for pod in (await client.list(PODS, namespace)).items:
        had = pod["metadata"].get("annotations") or {}
        if not pods.has_sidecar(pod) or all(had.get(k) == v for k, v in annotations.items()):
            continue
        try:
            patch = {"metadata": {"annotations": annotations}}
            await client.patch(PODS, pod["metadata"]["name"], patch, namespace)
        except NotFound:
            # It ended meanwhile; the next one is injected with them.
            continue


def _each(
    target: options.Target,
    names: list[str],
    change: Callable[[KubeClient, str], Awaitable[None]],
    word: str,
    output_format: output.Format,
) -> None:
    wanted = [name for text in names for name in text.split(",") if name]

    async def one(client: KubeClient, name: str) -> str:
        await change(client, name)
        return f"Metrics successfully {word} in namespace [{name}]"

    each(target, wanted, one, output_format)
