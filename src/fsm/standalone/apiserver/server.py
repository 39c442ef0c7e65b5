"""The embedded Kubernetes-style API as one process: opens, serves, closes.

What comes in: ``ApiServerSettings``. What goes out: HTTPS on the given sockets, plain HTTP for the
administrator on a unix socket, and ``kubeconfig`` in the state directory once all answers.

    store ─► registry, tokens, webhooks ─► lifecycle ─► router ─► listeners ─► kubeconfig

Invariants: the kubeconfig is written last, so whoever sees it can connect; on cancellation watches
end first, then requests under way, then the store; a second server on the same state directory is
refused before it touches anything.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import socket
import ssl
from pathlib import Path

import yaml
from aiohttp import web

from fsm.standalone.apiserver import pki, registry
from fsm.standalone.apiserver.admission import Webhooks
from fsm.standalone.apiserver.auth import Tokens
from fsm.standalone.apiserver.bodies import BODY_BYTES_MAX
from fsm.standalone.apiserver.calls import ADMIN, Call
from fsm.standalone.apiserver.errors import StatusError
from fsm.standalone.apiserver.kubelet import NodeAgent
from fsm.standalone.apiserver.lifecycle import PROTECTED_NAMESPACES, Lifecycle
from fsm.standalone.apiserver.rbac import CLUSTER_ROLES, Authorizer
from fsm.standalone.apiserver.rbac_defaults import cluster_roles
from fsm.standalone.apiserver.registry import Registry
from fsm.standalone.apiserver.router import TRUSTED, Router
from fsm.standalone.apiserver.settings import ApiServerSettings
from fsm.standalone.apiserver.store import GroupResource, KubeObject, Store

__all__ = ["ApiServerSettings", "run_apiserver"]

logger = logging.getLogger(__name__)

# LIMIT seconds that requests under way get at shutdown.
SHUTDOWN_S = 3.0


async def run_apiserver(settings: ApiServerSettings, ready: asyncio.Event | None = None) -> None:
    """Serve until cancelled.

    Args:
        settings: where and how.
        ready: set once everything answers and the kubeconfig is written.

    Raises:
        StoreError: the database cannot be used (or another server uses it).
        PkiError: the key material cannot be used.
        OSError: an address cannot be listened on.
    """
    state = settings.state_dir
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = Store.open(state / "api.db", sync_every_write=settings.sync_every_write)
    webhooks = Webhooks(store)
    agent = NodeAgent(settings.node_socket or state / "node.sock")
    try:
        keys = pki.ensure(state / "pki", settings.certificate_names)
        known = Registry()
        authorizer = Authorizer(store)
        lifecycle = Lifecycle(
            store, known, webhooks, settings.networks, keys.ca_pem, authorizer.guard
        )
        tokens, closing = Tokens(store), asyncio.Event()
        router = Router(lifecycle, tokens, authorizer, agent, closing)
        await _furnish(lifecycle, settings)
        runners: list[web.AppRunner] = []
        try:
            sockets = _sockets(settings)
            router.address = _host_address(sockets)
            runners.append(await _serve_tls(router, sockets, keys.server_context()))
            unix = settings.unix_socket or state / "api.sock"
            runners.append(await _serve_unix(router, unix))
            _write_kubeconfig(state / "kubeconfig", router.address, keys)
            shown = ", ".join("{}:{}".format(*s.getsockname()[:2]) for s in sockets)
            logger.info("serving the API on %s and %s", shown or "no address", unix)
            if ready is not None:
                ready.set()
            await asyncio.get_running_loop().create_future()
        finally:
            closing.set()
            store.wake_all()
            for runner in runners:
                await runner.cleanup()
            await router.close()
    finally:
        await agent.close()
        await webhooks.close()
        store.close()


def _sockets(settings: ApiServerSettings) -> list[socket.socket]:
    """Take over inherited sockets and open the others."""
    opened = [socket.socket(fileno=os.dup(fd)) for fd in settings.listen_fds]
    try:
        for host, port in settings.listen:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            opened.append(socket.create_server((host, port), family=family, backlog=512))
    except OSError:
        for item in opened:
            item.close()
        raise
    for item in opened:
        item.setblocking(False)
    return opened


def _host_address(sockets: list[socket.socket]) -> str:
    """Return where clients on this machine connect: the first socket, which is the host's."""
    if not sockets:
        return ""
    host, port = sockets[0].getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _application(router: Router, *, trusted: bool) -> web.Application:
    application = web.Application(client_max_size=BODY_BYTES_MAX)
    application[TRUSTED] = trusted
    # A dot would leave out line ends, and with them refuse in words that are no Status.
    application.router.add_route("*", r"/{path:[\s\S]*}", router.handle)
    return application


async def _serve_tls(
    router: Router, sockets: list[socket.socket], context: ssl.SSLContext
) -> web.AppRunner:
    runner = _runner(_application(router, trusted=False))
    await runner.setup()
    for item in sockets:
        await web.SockSite(runner, item, ssl_context=context).start()
    return runner


def _runner(application: web.Application) -> web.AppRunner:
    # A watch whose client went away must end, which aiohttp does only when asked to.
    return web.AppRunner(
        application, access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_S
    )


async def _serve_unix(router: Router, path: Path) -> web.AppRunner:
    runner = _runner(_application(router, trusted=True))
    await runner.setup()
    await web.SockSite(runner, _unix_listener(path)).start()
    return runner


def _unix_listener(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The mode must be right from the first moment: bind creates the file.
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {path}: {error.strerror}") from error
    finally:
        os.umask(before)
    listener.setblocking(False)
    return listener


async def _furnish(lifecycle: Lifecycle, settings: ApiServerSettings) -> None:
    """Create what every cluster has from the start; what exists is left alone."""
    for name in PROTECTED_NAMESPACES:
        await _ensure(lifecycle, registry.NAMESPACES, "Namespace", "", name, {})
    addresses = settings.api_addresses
    families: KubeObject = {
        "clusterIPs": addresses,
        "ipFamilies": [f"IPv{network.version}" for network in settings.networks],
        "ipFamilyPolicy": "PreferDualStack" if len(addresses) > 1 else "SingleStack",
    }
    api = {
        "spec": {
            "clusterIP": addresses[0],
            **families,
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 443}],
        }
    }
    await _ensure(lifecycle, registry.SERVICES, "Service", "default", "kubernetes", api)
    await _widen(lifecycle, families)
    for name, role in cluster_roles().items():
        await _ensure(lifecycle, CLUSTER_ROLES, "ClusterRole", "", name, role)


async def _widen(lifecycle: Lifecycle, families: KubeObject) -> None:
    """Give the API's own Service the second address, where the store is from a time without."""
    kept = lifecycle.store.get(registry.SERVICES, "default", "kubernetes")
    resource = lifecycle.registry.by_gr(registry.SERVICES)
    assert resource is not None, "Services are built in"
    if kept is None or len(kept["spec"].get("clusterIPs") or []) >= len(families["clusterIPs"]):
        return

    def widened(service: KubeObject) -> KubeObject:
        return service | {"spec": service["spec"] | families}

    try:
        await lifecycle.update(Call(ADMIN, resource, "v1", "default", "kubernetes"), widened)
    except StatusError as error:
        # Somebody has that address: the API answers at the other one all the same.
        logger.warning("Service default/kubernetes keeps one address: %s", error.message)


async def _ensure(
    lifecycle: Lifecycle, gr: GroupResource, kind: str, namespace: str, name: str, body: KubeObject
) -> None:
    if lifecycle.store.get(gr, namespace, name) is not None:
        return
    resource = lifecycle.registry.by_gr(gr)
    assert resource is not None, f"{kind} is built in"
    place = {"namespace": namespace} if namespace else {}
    meta = body.get("metadata", {}) | {"name": name} | place
    call = Call(ADMIN, resource, "v1", namespace)
    version = f"{gr[0]}/v1" if gr[0] else "v1"
    await lifecycle.create(call, body | {"apiVersion": version, "kind": kind, "metadata": meta})


def _write_kubeconfig(path: Path, address: str, keys: pki.Pki) -> None:
    def encoded(data: bytes) -> str:
        return base64.b64encode(data).decode()

    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "fsm",
        "clusters": [
            {
                "name": "fsm",
                "cluster": {
                    "server": f"https://{address}",
                    "certificate-authority-data": encoded(keys.ca.certificate),
                },
            }
        ],
        "users": [
            {
                "name": "fsm-admin",
                "user": {
                    "client-certificate-data": encoded(keys.admin.certificate),
                    "client-key-data": encoded(keys.admin.key),
                },
            }
        ],
        "contexts": [{"name": "fsm", "context": {"cluster": "fsm", "user": "fsm-admin"}}],
    }
    pki.write_private(path, yaml.safe_dump(document, sort_keys=False).encode())
