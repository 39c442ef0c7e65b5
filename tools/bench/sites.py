"""What surrounds a proxy: network namespaces, redirection, the application behind it.

Two kinds of site, one instance per peer:

- plain::

    client ──► 127.0.0.1:8000 proxy ──► 127.0.0.1:9000 backend        one namespace

- pair::

    client namespace                             server namespace
    client ──► 10.96.0.10:14001                  10.77.0.2:14001
                 ┊ nftables redirect               ┊ nftables redirect
               proxy A :15001 ════ mTLS ═══════► proxy B :15003 ──► 127.0.0.1:14001 backend

Proxies run on one core, client and backend on the other. The backend is nginx answering from
memory, the same for all peers.

INVARIANT: a namespace is held by a process and by nothing else; when the process ends the kernel
takes the links and rules with it. Nothing is ever made in the host's own namespace.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from tools.bench import addresses as at
from tools.bench.errors import BenchError
from tools.bench.peers.base import Http2
from tools.bench.processes import Child, Children, run, wait_for_listener

CLIENT_RULES = f"""
table ip bench {{
  chain output {{
    type nat hook output priority -100;
    meta mark {at.PROXY_MARK} accept
    ip daddr {at.SERVICE_IP} tcp dport {at.SERVICE_PORT} redirect to :{at.OUTBOUND_PORT}
  }}
}}
"""

SERVER_RULES = f"""
table ip bench {{
  chain prerouting {{
    type nat hook prerouting priority -100;
    tcp dport {at.SERVICE_PORT} redirect to :{at.INBOUND_PORT}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Site:
    """Where one peer is measured."""

    client_namespace: int
    """Process that holds the namespace of the client and, in a pair, of proxy A."""
    server_namespace: int
    """Process that holds the namespace of the backend and, in a pair, of proxy B."""
    backend: int
    """Process of the backend."""
    target: tuple[str, int]
    """Address and port that the client dials."""


def plain_site(children: Children, *, body_bytes: int, http2: Http2) -> Site:
    """Make the site of one proxy on loopback."""
    holder = _namespace(children, "namespace").pid
    backend = _backend(children, holder, at.BACKEND_PORT, body_bytes, http2)
    return Site(holder, holder, backend.pid, ("127.0.0.1", at.PLAIN_PORT))


def pair_site(children: Children, *, body_bytes: int, http2: Http2) -> Site:
    """Make the site of two proxies in two namespaces, with redirection in both."""
    client = _namespace(children, "client namespace").pid
    server = _namespace(children, "server namespace").pid
    _ip(client, f"link add eth0 type veth peer name eth0 netns {server}")
    for holder, address, other in (
        (client, at.CLIENT_IP, at.SERVER_IP),
        (server, at.SERVER_IP, at.CLIENT_IP),
    ):
        _ip(holder, f"address add {address}/24 dev eth0")
        _ip(holder, "link set eth0 up")
        _ip(holder, f"route add default via {other}")
    _nft(client, CLIENT_RULES)
    _nft(server, SERVER_RULES)
    backend = _backend(children, server, at.SERVICE_PORT, body_bytes, http2)
    return Site(client, server, backend.pid, (at.SERVICE_IP, at.SERVICE_PORT))


def _namespace(children: Children, name: str) -> Child:
    """Start a process that does nothing but hold a network namespace, with loopback up."""
    child = children.start(name, ["unshare", "--net", "sleep", "infinity"], core=at.LOAD_CORE)
    ours = os.readlink("/proc/self/ns/net")
    deadline = time.monotonic() + 5.0
    while True:
        child.ensure_running()
        # Opened by path, not by pid, later on; until ``unshare`` has run it would still be the
        # host's.
        if os.readlink(f"/proc/{child.pid}/ns/net") != ours:
            break
        if time.monotonic() > deadline:
            raise BenchError(f"{name}: no network namespace after 5 s")
        time.sleep(0.01)
    _ip(child.pid, "link set lo up")
    run([*_enter(child.pid), "sh", "-c", f"echo {_CONGESTION} > {_CONGESTION_FILE}"])
    return child


# The same for all, whatever the machine prefers: some (bbr) pace their packets by timers, which
# costs a connection that carries much and spares many that carry little each. Any namespace may
# have this one.
_CONGESTION = "reno"
_CONGESTION_FILE = "/proc/sys/net/ipv4/tcp_congestion_control"


def _backend(children: Children, holder: int, port: int, body_bytes: int, http2: Http2) -> Child:
    """Start the application: answers 200 with ``body_bytes`` bytes whatever is asked."""
    directory = children.directory
    config = directory / "backend.conf"
    if body_bytes <= _RETURN_BYTES_MAX:
        answer = f'return 200 "{"x" * body_bytes}";'
    else:
        (directory / "body").write_text("x" * body_bytes)
        answer = f"root {directory}; try_files /body =404;"
    if http2.grpc:
        answer = f"add_trailer grpc-status 0; {answer}"
    config.write_text(
        _BACKEND.format(
            directory=directory,
            port=port,
            answer=answer,
            http2=" http2" if http2.backend else "",
            type="application/grpc" if http2.grpc else "text/plain",
            seen=SEEN,
        )
    )
    child = children.start(
        "backend", ["nginx", "-c", config], core=at.LOAD_CORE, namespace_pid=holder
    )
    wait_for_listener(child, port)
    return child


# LIMIT: bytes; nginx takes no parameter longer than its 4,096 byte buffer. Larger bodies are a
# cached open file.
_RETURN_BYTES_MAX = 2048

_BACKEND = """
daemon off;
user root;
worker_processes 1;
pid {directory}/backend.pid;
error_log {directory}/backend.error.log;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {directory}/backend.body;
  proxy_temp_path {directory}/backend.proxy;
  fastcgi_temp_path {directory}/backend.fastcgi;
  uwsgi_temp_path {directory}/backend.uwsgi;
  scgi_temp_path {directory}/backend.scgi;
  keepalive_timeout 1h;
  keepalive_requests 1000000000;
  tcp_nodelay on;
  sendfile on;
  open_file_cache max=16 inactive=1h;
  open_file_cache_valid 1h;
  server {{
    listen 127.0.0.1:{port}{http2} backlog=4096;
    default_type {type};
    location / {{ add_header {seen} $http_x_stamp; {answer} }}
  }}
}}
"""

SEEN = "x-seen"
"""What the backend says that it has seen in the header that scripts set; absent without one."""


def _ip(holder: int, words: str) -> None:
    run([*_enter(holder), "ip", *words.split()])


def _nft(holder: int, rules: str) -> None:
    run([*_enter(holder), "nft", "-f", "-"], stdin=rules)


def _enter(holder: int) -> list[str]:
    return ["nsenter", f"--net=/proc/{holder}/ns/net", "--"]
