"""Logs, port-forwards, exec and attach: relayed to the node agent, which runs the Pods.

What comes in: requests for pods/NAME/log, portforward, exec, attach. What goes out: the bytes that
the agent sends over its unix socket, in the protocols that Kubernetes clients speak.

Invariants: the Pod and the container are checked here, so the agent sees only what exists; no
stream is buffered: what the client does not read stays with the agent; an agent that does not
answer is a 503 that says so.
Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#read-read-log-of-the-specified-pod
and, for the websocket channels, ``fsm.kube.streams``.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from aiohttp import web
from yarl import URL

from fsm.standalone.apiserver import portforward, remote, tunnel, upgrade
from fsm.standalone.apiserver.calls import Call
from fsm.standalone.apiserver.errors import StatusError, bad_request, unavailable
from fsm.standalone.apiserver.store import KubeObject

_LOG_PARAMETERS = (
    "follow",
    "tailLines",
    "previous",
    "timestamps",
    "sinceSeconds",
    "sinceTime",
    "limitBytes",
)
_HINT = "is the node agent running? `fsm status` shows it"


class NodeAgent:
    """The way to the node agent."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._session: aiohttp.ClientSession | None = None

    def agent_session(self) -> aiohttp.ClientSession:
        """Return the session, opened at first use (it needs a running loop)."""
        if self._session is None:
            connector = aiohttp.UnixConnector(str(self._socket), limit=0)
            self._session = aiohttp.ClientSession(connector=connector)
        return self._session

    async def close(self) -> None:
        """Close all connections to the agent."""
        if self._session is not None:
            await self._session.close()

    async def logs(self, call: Call, pod: KubeObject, request: web.Request) -> web.StreamResponse:
        """Relay the log of one container.

        Raises:
            StatusError: 400, no such container; 503, no agent.
        """
        container = choose_container(pod, request.query.get("container", ""))
        if not pod["spec"].get("nodeName"):
            raise bad_request(f"pod {call.name} does not have a host assigned")
        query = {k: request.query[k] for k in _LOG_PARAMETERS if k in request.query}
        parts = "/".join(quote(p, safe="") for p in (call.namespace, call.name, container))
        limit = int(query["limitBytes"]) if query.get("limitBytes", "").isdigit() else None
        try:
            async with self.agent_session().get(
                f"http://node/logs/{parts}",
                params=query,
                timeout=aiohttp.ClientTimeout(total=None, connect=5),
            ) as answer:
                if answer.status != 200:
                    told = (await answer.content.read(4096)).decode(errors="replace")
                    code = answer.status if 400 <= answer.status < 600 else 502
                    raise StatusError(code, "BadRequest" if code == 400 else "NotFound", told)
                response = web.StreamResponse()
                response.content_type = "text/plain"
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    part = chunk if limit is None else chunk[:limit]
                    await response.write(part)
                    if limit is not None:
                        limit -= len(part)
                        if limit <= 0:
                            break
                await response.write_eof()
                return response
        except (aiohttp.ClientConnectorError, FileNotFoundError, TimeoutError) as error:
            raise unavailable(f"the node agent does not answer: {error}", _HINT) from error

    async def dial(self, call: Call, port: int) -> aiohttp.ClientWebSocketResponse:
        """Open one connection to a port inside a Pod.

        Raises:
            StatusError: the agent does not answer or cannot connect.
        """
        parts = "/".join(quote(p, safe="") for p in (call.namespace, call.name, str(port)))
        try:
            async with asyncio.timeout(10):
                return await self.agent_session().ws_connect(
                    f"http://node/portforward/{parts}", max_msg_size=0
                )
        except aiohttp.WSServerHandshakeError as error:
            raise unavailable(
                f"the node agent cannot connect to port {port} of pod {call.name}: {error.message}"
            ) from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise unavailable(f"the node agent does not answer: {error}", _HINT) from error

    async def session(
        self, call: Call, pod: KubeObject, request: web.Request
    ) -> web.StreamResponse:
        """Relay the streams of a command (``exec``) or of a container (``attach``).

        Raises:
            StatusError: 400, no such container, no command, not running; 503, no agent.
        """
        query = request.query
        container = choose_container(pod, query.get("container", ""))
        chosen: list[tuple[str, str]] = list(remote.flags(request).items())
        if call.subresource == "exec":
            words = query.getall("command", [])
            if not words:
                raise bad_request("you must specify at least one command for the container")
            chosen += [("command", word) for word in words]
        phase = (pod.get("status") or {}).get("phase")
        if phase in ("Succeeded", "Failed"):
            raise StatusError(
                500,
                "InternalError",
                f"cannot {call.subresource} in a container of a completed pod; current phase is"
                f" {phase}",
            )
        parts = "/".join(quote(p, safe="") for p in (call.namespace, call.name, container))
        url = URL(f"http://node/{call.subresource}/{parts}", encoded=True).with_query(chosen)

        async def dial() -> aiohttp.ClientWebSocketResponse:
            try:
                async with asyncio.timeout(10):
                    return await self.agent_session().ws_connect(url, max_msg_size=0)
            except aiohttp.WSServerHandshakeError as error:
                raise bad_request(
                    f"container {container} of pod {call.name} is not running"
                    if error.status == 409
                    else f"the node agent refuses: {error.status} {error.message}"
                ) from error
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise unavailable(f"the node agent does not answer: {error}", _HINT) from error

        return await remote.serve(request, dial)

    async def forward(
        self, call: Call, pod: KubeObject, request: web.Request
    ) -> web.StreamResponse:
        """Relay ports of a Pod over one websocket.

        Raises:
            StatusError: 400, the request is no websocket or the Pod does not run.
        """
        if (pod.get("status") or {}).get("phase") != "Running":
            raise bad_request(
                f"unable to forward port because pod is not running. Current status="
                f"{(pod.get('status') or {}).get('phase')}"
            )
        if upgrade.wanted(request):
            return await tunnel.serve_upgraded(request, lambda port: self.dial(call, port))
        wanted = request.headers.get("Sec-WebSocket-Protocol", "")
        serve = tunnel.serve if tunnel.PROTOCOL in wanted else portforward.serve
        return await serve(request, lambda port: self.dial(call, port))


def choose_container(pod: KubeObject, asked: str) -> str:
    """Find the container that a client means.

    Raises:
        StatusError: 400, it names none where there are several, or one that is not there.
    """
    spec: dict[str, Any] = pod["spec"]
    name = pod["metadata"]["name"]
    mains = [c["name"] for c in spec.get("containers") or []]
    inits = [c["name"] for c in spec.get("initContainers") or []]
    if asked:
        if asked in mains + inits:
            return asked
        raise bad_request(f"container {asked} is not valid for pod {name}")
    annotations = pod["metadata"].get("annotations") or {}
    default = annotations.get("kubectl.kubernetes.io/default-container")
    if default in mains:
        return str(default)
    if len(mains) == 1:
        return str(mains[0])
    told = f"choose one of: [{' '.join(mains)}]"
    if inits:
        told += f" or one of the init containers: [{' '.join(inits)}]"
    raise bad_request(f"a container name must be specified for pod {name}, {told}")
