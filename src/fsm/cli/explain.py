"""``fsm explain``: whether a request would be let through, where to, and which objects say so.

What comes in: the Pod that would ask, a URL, a method, headers. What goes out: the answers of the
sidecars that would decide: the caller's, then that of each Pod which the request may reach.

Invariants: nothing is decided here; every answer comes from a running sidecar, made by the function
that decides about live requests (``/explain`` on its administration page). Nothing is sent to an
application.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import SplitResult, urlencode, urlsplit

import typer

from fsm.cli import options, output
from fsm.cli.errors import Failure

if TYPE_CHECKING:
    from fsm.kube import KubeClient

ADMIN_PORT = 15000
COLUMNS = ("AT", "DECISION", "ALLOWED BY", "RULE", "WHY")

Answer = dict[str, Any]


def explain(
    ctx: typer.Context,
    pod: Annotated[str, typer.Argument(help="The Pod that would ask, NAME or NAMESPACE/NAME.")],
    url: Annotated[
        str, typer.Argument(help="What it would ask for: http://service.namespace:port/path.")
    ],
    method: Annotated[str, typer.Option("--request", "-X", help="The method.")] = "GET",
    header: Annotated[
        list[str] | None,
        typer.Option("--header", "-H", help="A header, “name: value”; repeatable."),
    ] = None,
    namespace: options.NamespaceOption = None,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    output_format: output.OutputOption = output.Format.TABLE,
) -> None:
    """Say whether a request would be let through, and which objects decide."""
    from fsm.cli import runner

    target = options.target(ctx, kubeconfig, context, namespace)
    home, _, name = pod.rpartition("/")
    asked = Question(split_url(url), method.upper(), tuple(header or ()))
    answers = runner.run(_ask_all(target, home or target.pod_namespace(), name, asked))
    output.emit(output_format, answers, COLUMNS, rows(answers))


class Question:
    """A request that nobody sends."""

    def __init__(self, url: SplitResult, method: str, headers: tuple[str, ...]) -> None:
        self.url = url
        self.method = method
        self.headers = headers

    def query(self, direction: str, destination: str, identity: str | None) -> str:
        """Return the query string that asks a sidecar."""
        path = self.url.path or "/"
        pairs = [
            ("direction", direction),
            ("destination", destination),
            ("method", self.method),
            ("host", self.url.netloc),
            ("path", f"{path}?{self.url.query}" if self.url.query else path),
            *(("header", header) for header in self.headers),
        ]
        if identity is not None:
            pairs.append(("identity", identity))
        return urlencode(pairs)


def split_url(url: str) -> SplitResult:
    """Take a URL apart.

    Raises:
        Failure: it is not of the form ``http://host[:port][/path]``.
    """
    wrong = Failure(
        f"{url!r} is not a URL that a sidecar can judge",
        hint="give one like http://bookstore.bookstore:14001/buy-a-book/new",
    )
    try:
        parts = urlsplit(url)
        valid = parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise wrong from None
    if not valid:
        raise wrong
    return parts


def rows(answers: list[Answer]) -> list[list[str]]:
    """Return the table: one line per sidecar that decides."""
    return [
        [
            str(answer["at"]),
            str(answer["decision"]),
            str(answer.get("allowed_by", "-")),
            str(answer.get("rule", answer.get("matched_by", "-"))),
            _why(answer),
        ]
        for answer in answers
    ]


def _why(answer: Answer) -> str:
    if reason := answer.get("reason"):
        return str(reason)
    shares = answer.get("clusters", [])
    if answer["direction"] == "inbound" or not shares:
        return "-"
    parts = [f"{share['cluster']} {share['weight']}" for share in shares]
    split = next((share["split_by"] for share in shares if share.get("split_by")), None)
    return ", ".join(parts) + (f" by {split}" if split else "")


async def _ask_all(target: options.Target, home: str, name: str, asked: Question) -> list[Answer]:
    async with target.client() as client:
        destination = await _destination(client, home, asked)
        first = await _ask(client, home, name, asked.query("outbound", destination, None))
        answers = [{"at": f"{home}/{name}", "direction": "outbound", **first}]
        if first["decision"] != "allowed":
            return answers
        pods = await _pods_by_address(client)
        for address in _reached(first):
            ip = address.rpartition(":")[0].strip("[]")
            if (found := pods.get(ip)) is None:
                continue
            there = asked.query("inbound", address, first.get("identity"))
            answer = await _ask(client, *found, there)
            answers.append({"at": "/".join(found), "direction": "inbound", **answer})
        return answers


def _reached(answer: Answer) -> list[str]:
    """Return the addresses of sidecars among the endpoints, without those that get no share."""
    shares = answer["clusters"]
    chosen = [share for share in shares if share["weight"] > 0] or shares
    found = [e["address"] for share in chosen for e in share["endpoints"] if e.get("identity")]
    return list(dict.fromkeys(found))


async def _destination(client: KubeClient, home: str, asked: Question) -> str:
    """Return the address that the Pod would dial, as its resolver would find it."""
    import ipaddress

    from fsm.kube import NotFound
    from fsm.kube.resources import ENDPOINTS, SERVICES

    host, port = asked.url.hostname or "", asked.url.port or 80
    try:
        ip = str(ipaddress.ip_address(host))
    except ValueError:
        service, _, rest = host.partition(".")
        namespace = rest.partition(".")[0] or home
        try:
            found = await client.get(SERVICES, service, namespace)
        except NotFound as error:
            raise Failure(
                f"there is no Service {namespace}/{service}, as {host!r} means in {home}"
            ) from error
        ip = found["spec"].get("clusterIP") or "None"
        if ip == "None":
            endpoints = await client.get(ENDPOINTS, service, namespace)
            ready = [
                a["ip"] for s in endpoints.get("subsets") or [] for a in s.get("addresses") or []
            ]
            if not ready:
                raise Failure(f"Service {namespace}/{service} has no ready endpoint") from None
            ip = ready[0]
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


async def _pods_by_address(client: KubeClient) -> dict[str, tuple[str, str]]:
    from fsm.kube.resources import PODS

    listed = await client.list(PODS)
    return {
        pod["status"]["podIP"]: (pod["metadata"]["namespace"], pod["metadata"]["name"])
        for pod in listed.items
        if pod.get("status", {}).get("podIP")
    }


async def _ask(client: KubeClient, namespace: str, name: str, query: str) -> Answer:
    from fsm.cli.podhttp import PodHttp
    from fsm.cli.proxy import check_sidecar

    await check_sidecar(client, namespace, name)
    http = PodHttp(client, namespace, name, ADMIN_PORT)
    try:
        answer = await http.get(f"/explain?{query}")
    finally:
        await http.close()
    if answer.status != 200:
        words = answer.body[:200].decode(errors="replace").strip()
        raise Failure(f"the sidecar of Pod {namespace}/{name} cannot explain: {words}")
    found = json.loads(answer.body)
    assert isinstance(found, dict)
    return found
