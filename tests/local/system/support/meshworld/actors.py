"""The people of the small mesh: servers, clients, and callers that never stop calling.

Everything is plain Python or curl as an ordinary container would run it; nothing in here knows that
there is a mesh.
"""

from __future__ import annotations

import json
import sys
from typing import Any

Object = dict[str, Any]

SERVER = r"""
import http.server, os, signal, sys, threading
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer leaves whole or not at all, also when the process ends in the middle.
    wbufsize = 65536
    def do_GET(self):
        text = (os.environ["HOSTNAME"] + " " + self.path + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *args):
        print("request", self.path, flush=True)
class S(http.server.ThreadingHTTPServer):
    request_queue_size = 128
server = S(("", 8080), H)
# As a web server should: what was begun is finished, then it ends.
def end(*_):
    if sys.argv[1:] == ["hasty"]:
        os._exit(0)
    threading.Thread(target=server.shutdown).start()
signal.signal(signal.SIGTERM, end)
server.serve_forever()
"""

ECHO = r"""
import socketserver
class H(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(4096):
            self.request.sendall(b"echo " + data)
class S(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
S(("", 9000), H).serve_forever()
"""

CALLER = r'''
"""Calls each URL again and again, and writes what came of it: one line of JSON per request."""
import http.client, json, os, sys, threading, time, urllib.parse
def once(url, kept):
    parts = urllib.parse.urlsplit(url)
    reused = kept is not None
    wire = kept or http.client.HTTPConnection(parts.hostname, parts.port, timeout=5)
    try:
        wire.request("GET", parts.path or "/", headers={"user-agent": "caller-http-client/1"})
        answer = wire.getresponse()
        answer.read()
        return str(answer.status), (None if answer.will_close else wire)
    except Exception as error:
        wire.close()
        # A kept connection that was closed between two requests is no answer: any client
        # calls again (RFC 9112 section 9.3.1).
        gone = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)
        if reused and isinstance(error, gone):
            return once(url, None)
        return type(error).__name__, None
def caller(name, url, keep, pause):
    kept = None
    while True:
        began = time.time()
        outcome, kept = once(url, kept)
        if not keep and kept is not None:
            kept.close()
            kept = None
        line = {"name": name, "began": began, "ended": time.time(), "outcome": outcome}
        # One write per line: the lines of several threads must not mix.
        os.write(1, (json.dumps(line) + "\n").encode())
        time.sleep(pause)
for entry in json.loads(sys.argv[1]):
    threading.Thread(target=caller, args=entry, daemon=True).start()
threading.Event().wait()
'''


def server(name: str, namespace: str, replicas: int = 1, *, hasty: bool = False) -> list[Object]:
    """A web server on 8080 with a Service on 80 of the same name, and an identity of its own.

    A ``hasty`` one ends at SIGTERM without a thought, and is told a second later, as a preStop
    hook is for.
    """
    hook = {"lifecycle": {"preStop": {"sleep": {"seconds": 1}}}} if hasty else {}
    container = {
        **hook,
        "image": "python",
        "command": [sys.executable, "-c", SERVER, *(["hasty"] if hasty else [])],
        "ports": [{"containerPort": 8080, "name": "http"}],
        # Asked from inside: the node is no member of the mesh, its sidecar would refuse it.
        "readinessProbe": {
            "exec": {"command": ["curl", "-fs", "http://127.0.0.1:8080/"]},
            "periodSeconds": 1,
        },
    }
    return [
        *deployment(name, namespace, container, replicas),
        service(name, namespace, {"name": "http", "port": 80, "targetPort": 8080}),
    ]


def echo(name: str, namespace: str) -> list[Object]:
    """A TCP server on 9000 that gives back what it gets."""
    container = {"image": "python", "command": [sys.executable, "-c", ECHO]}
    port = {"name": "tcp-echo", "port": 9000, "appProtocol": "tcp"}
    return [*deployment(name, namespace, container), service(name, namespace, port)]


def client(name: str, namespace: str) -> list[Object]:
    """A Pod that idles, to run curl in."""
    container = {"image": "alpine", "command": ["sh", "-c", "exec sleep 100000"]}
    return deployment(name, namespace, container)


def caller(name: str, namespace: str, calls: dict[str, str], **how: Any) -> list[Object]:
    """A Pod that calls each of some named URLs ten times a second or so, and notes outcomes.

    ``keep``: on a kept connection. ``pause``: seconds between two calls.
    """
    entries = [[n, u, how.get("keep", False), how.get("pause", 0.1)] for n, u in calls.items()]
    command = [sys.executable, "-c", CALLER, json.dumps(entries)]
    return deployment(name, namespace, {"image": "python", "command": command})


def deployment(name: str, namespace: str, container: Object, replicas: int = 1) -> list[Object]:
    labels = {"app": name}
    meta = {"name": name, "namespace": namespace}
    pod = {
        "serviceAccountName": name,
        "terminationGracePeriodSeconds": 10,
        "containers": [{"name": "main", **container}],
    }
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta,
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
    ]


def service(name: str, namespace: str, port: Object) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": name}, "ports": [port]},
    }


def target(
    name: str, namespace: str, to: str, rules: list[Object], *sources: tuple[str, str]
) -> Object:
    """A TrafficTarget: ``sources`` (namespace, account) may do what ``rules`` say at ``to``."""
    account = "ServiceAccount"
    return {
        "apiVersion": "access.smi-spec.io/v1alpha3",
        "kind": "TrafficTarget",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "destination": {"kind": account, "name": to, "namespace": namespace},
            "rules": rules,
            "sources": [{"kind": account, "name": n, "namespace": ns} for ns, n in sources],
        },
    }


def routes(name: str, namespace: str, **patterns: str) -> Object:
    """An HTTPRouteGroup with one match of GET per pattern."""
    return {
        "apiVersion": "specs.smi-spec.io/v1alpha4",
        "kind": "HTTPRouteGroup",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "matches": [
                {"name": n, "pathRegex": p, "methods": ["GET"]} for n, p in patterns.items()
            ]
        },
    }
