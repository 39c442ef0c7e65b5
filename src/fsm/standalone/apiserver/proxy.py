"""pods/NAME/proxy and services/NAME/proxy: plain HTTP into a Pod, through the API server.

What comes in: a request whose path continues behind ``proxy``. What goes out: the answer of the Pod
or of a ready endpoint of the Service.

Invariants: credentials of the API never travel on; bodies are streamed both ways; a target that
does not answer is a 503 that names it.
Not done here: upgrades (websockets) and TLS to the target.
Source: https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/
"""

from __future__ import annotations

import random
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from fsm.standalone.apiserver import registry
from fsm.standalone.apiserver.errors import bad_request, not_found, unavailable
from fsm.standalone.apiserver.store import KubeObject, Store

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "host",
        "authorization",
        "content-length",
    }
)


class Proxy:
    """Relays HTTP to Pods and Services."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def relay(
        self, plural: str, namespace: str, name: str, rest: str, request: web.Request
    ) -> web.StreamResponse:
        """Relay one request.

        Raises:
            StatusError: no such target, or it does not answer.
        """
        host, port = self._target(plural, namespace, name)
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), auto_decompress=False
            )
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP}
        address = f"[{host}]" if ":" in host else host
        query = f"?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else ""
        url = URL(f"http://{address}:{port}/{rest}{query}", encoded=True)
        try:
            async with self._session.request(
                request.method,
                url,
                headers=headers,
                data=request.content if request.body_exists else None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, connect=5, sock_read=60),
            ) as answer:
                response = web.StreamResponse(status=answer.status, reason=answer.reason)
                for key, value in answer.headers.items():
                    if key.lower() not in _HOP_BY_HOP:
                        response.headers.add(key, value)
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            raise unavailable(
                f"error trying to reach {plural[:-1]} {namespace}/{name} at {host}:{port}: {error}"
            ) from error

    def _target(self, plural: str, namespace: str, text: str) -> tuple[str, int]:
        parts = text.split(":")
        if len(parts) == 3:
            if parts[0] == "https":
                raise bad_request("proxying to TLS ports is not supported here")
            parts = parts[1:]
        name, port = parts[0], parts[1] if len(parts) == 2 else ""
        obj = self._store.get(("", plural), namespace, name)
        if obj is None:
            raise not_found("", plural, name)
        if plural == "pods":
            return self._pod(obj, port)
        return self._service(obj, namespace, name, port)

    def _pod(self, pod: KubeObject, port: str) -> tuple[str, int]:
        address = (pod.get("status") or {}).get("podIP")
        if not address:
            raise unavailable(f"pod {pod['metadata']['name']} has no IP yet")
        declared = [p for c in pod["spec"]["containers"] for p in c.get("ports") or []]
        if not port:
            return address, declared[0]["containerPort"] if declared else 80
        number = _port_number(port, declared, "containerPort")
        if number is None:
            raise bad_request(f"pod {pod['metadata']['name']} has no port named {port!r}")
        return address, number

    def _service(
        self, service: KubeObject, namespace: str, name: str, port: str
    ) -> tuple[str, int]:
        ports = service["spec"].get("ports") or []
        chosen = [p for p in ports if port in ("", p.get("name"), str(p.get("port")))]
        if not chosen:
            raise bad_request(f"service {namespace}/{name} has no port {port!r}")
        wanted = chosen[0].get("name") or ""
        found: list[tuple[str, int]] = []
        for piece in self._store.list(registry.ENDPOINTSLICES, namespace):
            labels = piece["metadata"].get("labels") or {}
            if labels.get("kubernetes.io/service-name") != name:
                continue
            for slice_port in piece.get("ports") or []:
                if (slice_port.get("name") or "") == wanted and slice_port.get("port"):
                    found += [(a, slice_port["port"]) for a in _ready_addresses(piece)]
        if not found:
            raise unavailable(f'no endpoints available for service "{name}"')
        return random.choice(found)


def _ready_addresses(piece: KubeObject) -> list[str]:
    return [
        address
        for endpoint in piece.get("endpoints") or []
        if (endpoint.get("conditions") or {}).get("ready") is not False
        for address in endpoint.get("addresses") or []
    ]


def _port_number(text: str, declared: list[dict[str, Any]], key: str) -> int | None:
    if text.isdigit():
        return int(text)
    return next((int(p[key]) for p in declared if p.get("name") == text), None)
