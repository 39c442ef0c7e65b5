"""Servers and clients for what the web servers of ``actors`` do not speak: IPv6, and UDP.

Plain Python, as an ordinary container would run it; nothing in here knows that there is a mesh.
"""

from __future__ import annotations

import sys
from typing import Any

from meshworld.actors import deployment

Object = dict[str, Any]

WEB = r"""
import http.server, socket, sys
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        text = self.client_address[0].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *args):
        print("request", self.path, flush=True)
class S(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6 if sys.argv[1] == "6" else socket.AF_INET
    def server_bind(self):
        if self.address_family == socket.AF_INET6:
            # Nothing but IPv6: no mapped addresses.
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        super().server_bind()
S(("::" if sys.argv[1] == "6" else "0.0.0.0", 8080), H).serve_forever()
"""

DATAGRAMS = r"""
import os, socket, sys
family = socket.AF_INET6 if sys.argv[1] == "6" else socket.AF_INET
sock = socket.socket(family, socket.SOCK_DGRAM)
sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 7000))
while True:
    data, client = sock.recvfrom(65536)
    print("datagram", len(data), flush=True)
    # "name:" and what came, as often as a leading number says.
    times = int(data[:1]) if data[:1].isdigit() else 1
    sock.sendto(os.environ["HOSTNAME"].encode() + b":" + data * times, client)
"""

ASK = r"""
import json, socket, sys
host, port, family, count, text = sys.argv[1:6]
wanted = {"4": socket.AF_INET, "6": socket.AF_INET6}[family]
try:
    where = socket.getaddrinfo(host, int(port), wanted, socket.SOCK_DGRAM)[0][4]
except OSError as error:
    sys.exit(f"no address: {error}")
told = []
for _ in range(int(count)):
    # A socket each: for the proxy each is a session of its own.
    with socket.socket(wanted, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1.5)
        sock.sendto(text.encode(), where)
        try:
            data, sender = sock.recvfrom(65536)
        except OSError as error:
            told.append(None)
            continue
        told.append([data.decode(), sender[:2] == where[:2]])
print(json.dumps(told))
"""


def web(name: str, namespace: str, family: str) -> list[Object]:
    """A web server on 8080 that listens on one family alone, and tells who called."""
    container = {"image": "python", "command": [sys.executable, "-c", WEB, family]}
    return deployment(name, namespace, container)


def datagrams(name: str, namespace: str, family: str = "4", replicas: int = 1) -> list[Object]:
    """A UDP server on 7000 that says who it is, and gives back what it got."""
    container = {"image": "python", "command": [sys.executable, "-c", DATAGRAMS, family]}
    return deployment(name, namespace, container, replicas)


def service(name: str, namespace: str, port: Object, app: str = "", **spec: Any) -> Object:
    """A Service of one port, with more in its spec."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": app or name}, "ports": [port], **spec},
    }


def udp_route(name: str, namespace: str, *ports: int) -> Object:
    return {
        "apiVersion": "specs.smi-spec.io/v1alpha4",
        "kind": "UDPRoute",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"matches": {"ports": list(ports)}},
    }
