"""Writes reference pages from the program itself: ``python -m fsm.cli.reference [values]``.

What comes in: the built program, the chart's table of keys. What goes out: one page of Markdown on
stdout: ``docs/reference/cli.md``, or with ``values`` ``docs/reference/install-values.md``. A test
fails when a page in the repository is not what this module writes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import typer

from fsm.cli import chart, components
from fsm.cli.errors import ExitCode
from fsm.cli.program import COMMANDS, build

HEADER = """# The fsm command

`osm` is the same program. This page is written by `python -m fsm.cli.reference`.

Data goes to stdout, everything else to stderr. Tables are drawn on a terminal and plain in a pipe;
`-o json` and `-o yaml` write the data. Colours follow `NO_COLOR`. Options may stand before or after
arguments; `--kubeconfig`, `--context`, `-n` and `-N` also before the command.

Without `--kubeconfig` a command talks to what `$KUBECONFIG` names, else to the box of this user
when one runs (its state is in `$FSM_HOME`, else `/var/lib/fsm` for root and `~/.local/state/fsm`
for others), else to what `~/.kube/config` names. With `FSM_DEBUG=1` an expected error also shows
its traceback.

## Exit codes

| code | meaning |
|---|---|
"""

EXIT_CODES = {
    ExitCode.OK: "Done; of `fsm explain` also where it explains why a request is denied.",
    ExitCode.FAILED: "It was tried and did not work; or the answer is no: not allowed, not valid, "
    "in conflict, refused, not well, a claim of the demo did not hold.",
    ExitCode.USAGE: "The command line is wrong; nothing was tried.",
    ExitCode.NO_MESH: "Nothing to talk to: no box, no kubeconfig, or an API that does not answer.",
    ExitCode.TIMEOUT: "It did not happen within the time allowed; it may still happen.",
    ExitCode.ABSENT: "This version does not have it; nothing was tried. The last table says more.",
    ExitCode.INTERRUPTED: "Ended by Ctrl-C or SIGTERM.",
}

COMMON = {"kubeconfig", "context", "fsm_namespace"}
"""Options that the page explains once."""


def page() -> str:
    """Return the whole page."""
    lines = [HEADER + "\n".join(f"| {int(c)} | {text} |" for c, text in EXIT_CODES.items()), ""]
    program: Any = typer.main.get_command(build())
    for command in COMMANDS:
        if not command.hidden:
            lines += _command(f"fsm {command.name}", program.commands[command.name])
    lines += _relatives()
    return "\n".join(lines).rstrip() + "\n"


def _command(name: str, command: Any) -> Iterator[str]:
    children = getattr(command, "commands", None)
    if children:
        for child_name, child in children.items():
            if child.hidden:
                continue
            yield from _command(f"{name} {child_name}", child)
        return
    shown = [p for p in command.params if p.name not in COMMON and not getattr(p, "hidden", False)]
    arguments = [p for p in shown if p.param_type_name == "argument" or not p.opts[0][:1] == "-"]
    options = [p for p in shown if p not in arguments and p.name != "help"]
    usage = " ".join([name, *(_metavar(a) for a in arguments)])
    yield f"## {usage}"
    yield ""
    yield (command.help or "").strip()
    yield ""
    if options:
        yield "| option | meaning | default |"
        yield "|---|---|---|"
        for option in options:
            names = ", ".join(f"`{o}`" for o in [*option.opts, *option.secondary_opts])
            yield f"| {names} | {option.help or ''} | {_default(option)} |"
        yield ""


RELATIVES = """## Commands of its relatives

What users of Flomesh Service Mesh and Open Service Mesh type, as far as it is not above. What is
not there ends with exit code 5 and says what to do instead; to switch it off is done already.

| command | here |
|---|---|
| `delete`, `del` | the same as `uninstall` |
| `verify control-plane-health` | the same as `verify control-plane` |
| `--fsm-chart-path`, `--osm-chart-path` | there is no chart: `--set` and `-f` take its values |
| `--local-port` | accepted; no port is forwarded |
| `support bug-report --ingress` | accepted; there is nothing of an ingress to collect |"""


def _relatives() -> Iterator[str]:
    yield from RELATIVES.splitlines()
    for absent in (*components.ABSENT, components.LOAD_BALANCER):
        names = ", ".join(f"`{name}`" for name in (absent.name, *absent.aliases))
        words = f"{names} `enable`, `disable`" if absent.switch else names
        when = "planned" if absent.planned else "not planned"
        said = f"no {absent.what} ({when}): {absent.instead}"
        if absent is components.LOAD_BALANCER:
            said = f"in the box always on; {absent.instead}"
        yield f"| {words} | {said} |"


def _metavar(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _default(option: Any) -> str:
    value = getattr(option.default, "value", option.default)
    if value is None or value == "" or isinstance(value, bool):
        return "on" if value is True else ""
    return f"`{value}`"


VALUES_HEADER = """# Values of an installation

What `--set key=value` and `-f values.yaml` of `fsm up`, `fsm install` and `fsm mesh upgrade` may
name. This page is written by `python -m fsm.cli.reference values`.

`--set` may be repeated, and takes several assignments with commas; `{a,b}` is a list, `key[0]=x`
an element, `null` removes, a backslash makes a comma or dot literal. `--set` goes over files,
later over earlier. A key may also begin with `osm.` or `OpenServiceMesh.` instead of `fsm.`.

The values are kept with the installation: an upgrade begins with them (`--reset-values` forgets
them). What becomes a field of MeshConfig is its first value at the first installation; later,
MeshConfig keeps what it says but for the values named in that very command.

## With an effect

| key | becomes |
|---|---|
"""


def values_page() -> str:
    """Return the page of the installation's values."""
    rows = [f"| `{_key(knob)}` | {_becomes(knob)} |" for knob in chart.KNOBS if not knob.unused]
    unused = [f"| `{_key(knob)}` | {knob.unused} |" for knob in chart.KNOBS if knob.unused]
    second = ["", "## Accepted without an effect", "", "| key | why |", "|---|---|"]
    return VALUES_HEADER + "\n".join([*rows, *second, *unused]) + "\n"


def _key(knob: chart.Knob) -> str:
    key = chart.full_key(knob)
    return f"{key}*" if key.endswith(".") else key


def _becomes(knob: chart.Knob) -> str:
    parts = []
    if knob.spec:
        parts.append(f"MeshConfig `spec.{knob.spec}`")
    if knob.setting:
        parts.append(f"the control plane's {knob.setting.replace('_', ' ')}")
    if knob.part:
        parts.append(_PARTS[knob.part])
    return ", ".join(parts)


_PARTS = {
    "registry": "where images come from",
    "tag": "the tag of images",
    "pull_policy": "`imagePullPolicy`",
    "pull_secrets": "`imagePullSecrets`",
    "resources": "resources of the control plane's container",
    "provider": "who issues certificates: `tresor`",
}


if __name__ == "__main__":
    print(values_page() if sys.argv[1:] == ["values"] else page(), end="")
