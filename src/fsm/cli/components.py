"""Commands that users of this mesh's relatives know, and that this version has not: said in words.

What comes in: such a command, with whatever options it takes there. What goes out: what is missing,
what to do instead, and exit code 5; to switch a thing off that is not there is done already (0).

``ABSENT`` is the one list; the reference page has it too. Invariant: nothing is changed anywhere,
and nothing pretends: what stands here does not exist, in no half either.
Source: fsm-interfaces section 3; what is planned: docs/explanation/roadmap.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import typer

import fsm
from fsm.cli import options
from fsm.cli.errors import ExitCode, Failure


@dataclass(frozen=True, slots=True)
class Absent:
    """One command, or a switch with ``enable`` and ``disable``.

    Attributes:
        name: as typed, without the program's name.
        what: the thing that is not there.
        instead: what to do about it.
        planned: whether it shall come.
        switch: whether it is one.
        aliases: short names.

    """

    name: str
    what: str
    instead: str
    planned: bool = False
    switch: bool = False
    aliases: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        """Say that it is not there."""
        when = "; it is planned" if self.planned else ""
        return f"fsm {fsm.__version__} has no {self.what}{when}"


ABSENT = (
    Absent(
        "ingress",
        "ingress controller of its own",
        "any ingress controller may call into the mesh: an IngressBackend lets it in"
        " (docs/how-to/let-clients-in.md)",
        planned=True,
        switch=True,
        aliases=("ing",),
    ),
    Absent(
        "ingress namespaced",
        "ingress controller per namespace",
        "an IngressBackend lets the one that you have in (docs/how-to/let-clients-in.md)",
        planned=True,
        switch=True,
        aliases=("nsig",),
    ),
    Absent(
        "gateway",
        "Gateway API controller",
        "an IngressBackend lets the gateway that you have in (docs/how-to/let-clients-in.md)",
        planned=True,
        switch=True,
        aliases=("gw",),
    ),
    Absent(
        "egressgateway",
        "egress gateway",
        "Egress policies say which Pods may call what outside; they go there directly"
        " (docs/reference/policies.md)",
        planned=True,
        switch=True,
        aliases=("egw",),
    ),
    Absent(
        "flb",
        "connection to FLB load balancers",
        "a Service of type LoadBalancer is the cluster's business",
        switch=True,
    ),
    Absent(
        "dashboard",
        "Grafana to show",
        "`fsm status` shows the mesh; Prometheus can scrape it"
        " (docs/how-to/scrape-with-prometheus.md)",
    ),
    Absent(
        "get",
        "commands for objects of its own",
        "`kubectl` gets, describes and applies every object of the mesh; `fsm validate` and"
        " `fsm explain` analyse them",
        aliases=("describe", "apply", "analyze"),
    ),
    Absent(
        "support error-info",
        "codes of errors",
        "each message says itself what is wrong and, after `hint:`, what to do; `fsm support"
        " bug-report` collects what is needed to ask somebody",
    ),
    Absent(
        "verify ingress",
        "ingress to verify",
        "`fsm explain NAMESPACE/POD URL --as IDENTITY` says whether a client from outside would be"
        " let in",
        planned=True,
    ),
    Absent(
        "proxy set",
        "settings of a single sidecar",
        "MeshConfig says how verbose sidecars are (`spec.sidecar.logLevel`), for those made later",
    ),
    Absent(
        "alpha",
        "commands on trial",
        "`fsm certs rotate` replaces the root, `fsm certs rehearse` tries that out",
    ),
)

LOAD_BALANCER = Absent(
    "servicelb",
    "load balancer for Services",
    "in a cluster LoadBalancer Services are the business of its provider, of k3s, or of MetalLB",
    switch=True,
    aliases=("slb",),
)


def build(name: str) -> typer.Typer:
    """Return the group of that name, or alias, at the top of the program."""
    if name in (LOAD_BALANCER.name, *LOAD_BALANCER.aliases):
        group = typer.Typer(help="LoadBalancer Services.", no_args_is_help=True)
        group.command("enable", context_settings=options.ANYTHING)(_load_balancer_enable)
        group.command("disable", context_settings=options.ANYTHING)(_load_balancer_disable)
        return group
    absent = next(a for a in ABSENT if name in (a.name, *a.aliases))
    group = typer.Typer(help=f"Not there: {absent.message}.", no_args_is_help=True)
    _add_switch(group, absent)
    for inner in ABSENT:
        outer, _, last = inner.name.partition(" ")
        if outer == absent.name and last:
            below = typer.Typer(help=f"Not there: {inner.message}.", no_args_is_help=True)
            _add_switch(below, inner)
            for word in (last, *inner.aliases):
                group.add_typer(below, name=word, hidden=word != last)
    return group


def add(group: typer.Typer, name: str) -> None:
    """Add a command that is not there, such as ``proxy set``, to a group that is."""
    absent = next(a for a in ABSENT if a.name == name)
    group.command(
        name.partition(" ")[2],
        hidden=True,
        help=f"Not there: {absent.message}.",
        context_settings=options.ANYTHING,
    )(refusal(absent))


def refusal(absent: Absent) -> Callable[[], None]:
    """Return a command that says what is missing."""

    def refuse() -> None:
        """Say that it is not there."""
        raise Failure(absent.message, hint=absent.instead, code=ExitCode.ABSENT)

    return refuse


dashboard = refusal(next(a for a in ABSENT if a.name == "dashboard"))
alpha = refusal(next(a for a in ABSENT if a.name == "alpha"))
get = describe = apply = analyze = refusal(next(a for a in ABSENT if a.name == "get"))


def _add_switch(group: typer.Typer, absent: Absent) -> None:
    def disable() -> None:
        print(f"No action needed: {absent.message}")

    said = f"Not there: {absent.message}."
    for name, does in (("enable", refusal(absent)), ("disable", disable)):
        group.command(name, help=said, context_settings=options.ANYTHING)(does)


def _load_balancer_enable(
    ctx: typer.Context,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
) -> None:
    """Have Services of type LoadBalancer answer; in the box they do."""
    if not _in_box(options.target(ctx, kubeconfig, context)):
        raise Failure(LOAD_BALANCER.message, hint=LOAD_BALANCER.instead, code=ExitCode.ABSENT)
    print("ServiceLB is enabled, no action needed: in the box LoadBalancer Services answer on the")
    print("address of `fsm up --expose`, 127.0.0.1 unless said otherwise")


def _load_balancer_disable(
    ctx: typer.Context,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
) -> None:
    """Have Services of type LoadBalancer not answer; in the box they always do."""
    if not _in_box(options.target(ctx, kubeconfig, context)):
        print(f"No action needed: {LOAD_BALANCER.message}")
        return
    raise Failure(
        "in the box LoadBalancer Services always answer",
        hint="a Service of type ClusterIP is not reached from the machine",
        code=ExitCode.ABSENT,
    )


def _in_box(target: options.Target) -> bool:
    from fsm.cli import box

    return box.behind(target.client().connection.server) is not None
