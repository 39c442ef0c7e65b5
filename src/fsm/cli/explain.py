"""``fsm explain``: whether a request would be let through, where to, and which objects say so.

What comes in: the Pod that would ask, a URL, a method, headers. What goes out: the answers of the
sidecars that would decide: the caller's, then that of each Pod which the request may reach. A Pod
without a sidecar is a client outside of the mesh, known by its address; ``--as`` gives the name
that its certificate would carry. Of datagrams (``udp://``) all are known by their address alone.

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
_PORTS = {"http": 80, "https": 443, "tcp": 0, "udp": 0}


def explain(
    ctx: typer.Context,
    pod: Annotated[
        str, typer.Argument(help="The Pod that would ask: NAME, NAMESPACE/NAME or deploy/NAME.")
    ],
    url: Annotated[
        str,
        typer.Argument(
            help="What it would ask for: http://service.namespace:port/path, tcp://host:port, "
            "udp://host:port, or https://host:port for TLS that the application speaks itself."
        ),
    ],
    method: Annotated[str, typer.Option("--request", "-X", help="The method.")] = "GET",
    header: Annotated[
        list[str] | None,
        typer.Option("--header", "-H", help="A header, “name: value”; repeatable."),
    ] = None,
    identity: Annotated[
        str | None,
        typer.Option(
            "--as",
            help="Of a Pod without a sidecar: the SPIFFE identity, or another name, that its "
            "certificate carries.",
        ),
    ] = None,
    namespace: options.NamespaceOption = None,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    output_format: output.OutputOption = output.Format.TABLE,
) -> None:
    """Say whether a request would be let through, and which objects decide."""
    from fsm.cli import runner

    target = options.target(ctx, kubeconfig, context, namespace)
    asked = Question(split_url(url), method.upper(), tuple(header or ()), identity)
    answers = runner.run(_ask_from(target, pod, asked), "asking the sidecars")
    output.emit(output_format, answers, COLUMNS, rows(answers))


class Question:
    """A request that nobody sends."""

    def __init__(
        self,
        url: SplitResult,
        method: str,
        headers: tuple[str, ...],
        identity: str | None = None,
    ) -> None:
        self.url = url
        self.method = method
        self.headers = headers
        self.identity = identity

    @property
    def datagrams(self) -> bool:
        """Whether it is about datagrams, of which there are no requests."""
        return self.url.scheme == "udp"

    def query(
        self, direction: str, destination: str, identity: str | None, source: str = ""
    ) -> str:
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
        if self.datagrams:
            pairs.append(("protocol", "udp"))
        if identity is not None:
            pairs.append(("identity", identity))
        if source:
            pairs.append(("source", source))
        if self.url.scheme == "https":
            pairs.append(("server_name", (self.url.hostname or "").lower()))
        return urlencode(pairs)


def split_url(url: str) -> SplitResult:
    """Take a URL apart.

    Raises:
        Failure: it is not of the form ``http[s]://host[:port][/path]`` or ``tcp://host:port``, or
            ``udp://host:port``.
    """
    wrong = Failure(
        f"{url!r} is not a URL that a sidecar can judge",
        hint="give one like http://bookstore.bookstore:14001/buy-a-book/new or tcp://db.shop:3306",
    )
    try:
        parts = urlsplit(url)
        valid = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
        valid = valid and bool(_PORTS[parts.scheme] or parts.port is not None)
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
    if answer["decision"] == "passthrough":
        return "no rule is about it; egress is enabled, so it passes as it is, in plain text"
    shares = answer.get("clusters", [])
    if answer["direction"] == "inbound" or not shares:
        return "-"
    parts = [f"{share['cluster']} {share['weight']}" for share in shares]
    split = next((share["split_by"] for share in shares if share.get("split_by")), None)
    return ", ".join(parts) + (f" by {split}" if split else "")


async def _ask_from(target: options.Target, pod: str, asked: Question) -> list[Answer]:
    from fsm.cli import pods

    async with target.client() as client:
        found = await pods.find(client, pod, target.pod_namespace())
        return await ask_all(client, found, asked)


async def ask_all(client: KubeClient, source: dict[str, Any], asked: Question) -> list[Answer]:
    """Ask the sidecar of a Pod, and those of the Pods that the request may reach.

    Raises:
        Failure: a name means nothing, or a sidecar does not answer.
    """
    from fsm.cli import pods

    home, name = source["metadata"]["namespace"], source["metadata"]["name"]
    destination = await _destination(client, home, asked)
    if not pods.has_sidecar(source):
        return await _stranger(client, source, asked, destination)
    first = await _ask(client, source, asked.query("outbound", destination, None))
    answers = [{"at": f"{home}/{name}", "direction": "outbound", **first}]
    if first["decision"] != "allowed":
        return answers
    by_address = await _pods_by_address(client)
    for address in _reached(first, datagrams=asked.datagrams):
        ip = address.rpartition(":")[0].strip("[]")
        pod = by_address.get(ip)
        if pod is None or not pods.has_sidecar(pod):
            continue
        own = (source.get("status") or {}).get("podIP") or ""
        sender = own if asked.datagrams else ""
        there = asked.query("inbound", address, first.get("identity"), sender)
        at = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        answers.append({"at": at, "direction": "inbound", **await _ask(client, pod, there)})
    return answers


async def _stranger(
    client: KubeClient, source: dict[str, Any], asked: Question, destination: str
) -> list[Answer]:
    """Ask the sidecars that a client outside of the mesh would come to.

    Raises:
        Failure: the client has no address yet, or none of them has a sidecar.
    """
    from fsm.cli import pods

    home, name = source["metadata"]["namespace"], source["metadata"]["name"]
    address = (source.get("status") or {}).get("podIP")
    if not address:
        raise Failure(f"Pod {home}/{name} has no address yet")
    by_address = await _pods_by_address(client)
    answers = []
    for endpoint in await _endpoints(client, home, asked, destination):
        pod = by_address.get(endpoint.rpartition(":")[0].strip("[]"))
        if pod is None or not pods.has_sidecar(pod):
            continue
        query = asked.query("inbound", endpoint, asked.identity, address)
        at = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        answers.append({"at": at, "direction": "inbound", **await _ask(client, pod, query)})
    if not answers:
        raise Failure(
            f"neither Pod {home}/{name} nor what it would reach at {destination} has a sidecar",
            hint="the mesh decides nothing about this request",
        )
    return answers


async def _endpoints(client: KubeClient, home: str, asked: Question, destination: str) -> list[str]:
    """Return the addresses of Pods behind what would be dialled."""
    from fsm.kube import NotFound
    from fsm.kube.resources import ENDPOINTS, SERVICES

    service, _, rest = (asked.url.hostname or "").partition(".")
    namespace = rest.partition(".")[0] or home
    port = int(destination.rpartition(":")[2])
    try:
        found = await client.get(SERVICES, service, namespace)
        listed = await client.get(ENDPOINTS, service, namespace)
    except NotFound:
        return [destination]
    transport = "UDP" if asked.datagrams else "TCP"
    names = [
        p.get("name")
        for p in found["spec"].get("ports") or []
        if p.get("port") == port and p.get("protocol", "TCP") == transport
    ]
    return [
        f"[{a['ip']}]:{p['port']}" if ":" in a["ip"] else f"{a['ip']}:{p['port']}"
        for subset in listed.get("subsets") or []
        for p in subset.get("ports") or []
        if p.get("name") in names and p.get("protocol", "TCP") == transport
        for a in subset.get("addresses") or []
    ]


def _reached(answer: Answer, *, datagrams: bool = False) -> list[str]:
    """Return the addresses of sidecars among the endpoints, without those that get no share.

    Who is there is proved by an identity; of datagrams, by nothing.
    """
    shares = answer["clusters"]
    chosen = [share for share in shares if share["weight"] > 0] or shares
    listed = [endpoint for share in chosen for endpoint in share["endpoints"]]
    found = [e["address"] for e in listed if datagrams or e.get("identity")]
    return list(dict.fromkeys(found))


async def _destination(client: KubeClient, home: str, asked: Question) -> str:
    """Return the address that the Pod would dial, as its resolver would find it."""
    import ipaddress

    host, port = asked.url.hostname or "", asked.url.port or _PORTS[asked.url.scheme]
    try:
        ip = str(ipaddress.ip_address(host))
    except ValueError:
        ip = await _address(client, home, host)
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


async def _address(client: KubeClient, home: str, host: str) -> str:
    """Return the address that a Pod's resolver gives for a name, of a Service or outside."""
    from fsm.cli.pods import there_are
    from fsm.kube import NotFound
    from fsm.kube.resources import ENDPOINTS, NAMESPACES, SERVICES

    service, _, rest = host.partition(".")
    namespace = rest.partition(".")[0] or home
    try:
        found = await client.get(SERVICES, service, namespace)
    except NotFound as error:
        try:
            await client.get(NAMESPACES, namespace)
        except NotFound:
            return await _address_outside(host, home)
        names = [s["metadata"]["name"] for s in (await client.list(SERVICES, namespace)).items]
        raise Failure(
            f"there is no Service {namespace}/{service}, as {host!r} means in {home}",
            hint=there_are(f"Services in {namespace}", names, service)
            + "; for a host outside of the cluster give its address",
        ) from error
    if found["spec"].get("type") == "ExternalName":
        return await _address_outside(str(found["spec"].get("externalName")), home)
    ip = str(found["spec"].get("clusterIP") or "None")
    if ip != "None":
        return ip
    endpoints = await client.get(ENDPOINTS, service, namespace)
    ready = [a["ip"] for s in endpoints.get("subsets") or [] for a in s.get("addresses") or []]
    if not ready:
        raise Failure(f"Service {namespace}/{service} has no ready endpoint")
    return str(ready[0])


async def _address_outside(host: str, home: str) -> str:
    """Return what this machine's resolver says; a Pod's asks the same, or one that should agree."""
    import asyncio
    import socket

    try:
        found = await asyncio.to_thread(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Failure(
            f"{host!r} is no Service as seen from {home}, and this machine knows no such host:"
            f" {error.strerror}",
            hint="for a host outside of the cluster its address will do, too",
        ) from error
    return str(found[0][4][0])


async def _pods_by_address(client: KubeClient) -> dict[str, dict[str, Any]]:
    from fsm.kube.resources import PODS

    listed = await client.list(PODS)
    return {
        pod["status"]["podIP"]: pod for pod in listed.items if pod.get("status", {}).get("podIP")
    }


async def _ask(client: KubeClient, pod: dict[str, Any], query: str) -> Answer:
    from fsm.cli import pods
    from fsm.cli.podhttp import PodHttp

    pods.check_sidecar(pod)
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
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
