"""``fsm env``: which mesh the commands would talk to, and what says so.

What comes in: options, environment. What goes out: a table of names and values. Nothing is asked of
a cluster.
"""

from __future__ import annotations

import os

import typer

import fsm
from fsm.cli import options, output, whereabouts
from fsm.cli.errors import Failure


def env(
    ctx: typer.Context,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    namespace: options.NamespaceOption = None,
    fsm_namespace: options.FsmNamespaceOption = None,
    output_format: output.OutputOption = output.Format.TABLE,
) -> None:
    """Show which mesh the commands talk to, and what says so."""
    target = options.target(ctx, kubeconfig, context, namespace, fsm_namespace)
    box = options.box_kubeconfig()
    try:
        chosen = target.path() or os.environ.get("KUBECONFIG") or whereabouts.usual_kubeconfig()
    except Failure:
        chosen = None
    data: dict[str, object] = {
        "version": fsm.__version__,
        "kubeconfig": str(chosen) if chosen else None,
        "context": target.context,
        "namespace": target.pod_namespace(),
        "fsm_namespace": target.fsm_namespace,
        "box": "running" if box else "not running",
        "state": str(whereabouts.box_kubeconfig().parent),
        **{name: os.environ.get(name) for name in ("KUBECONFIG", "FSM_HOME", "FSM_IMAGES")},
    }
    rows = [[name, str(value) if value is not None else "-"] for name, value in data.items()]
    output.emit(output_format, data, ("NAME", "VALUE"), rows)
