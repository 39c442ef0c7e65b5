"""pipy, ours: the release build of this repository, as a sidecar with a fixed configuration.

The configuration is the contract's (``contract/proxy-config.schema.json``), the same as a control
plane would send. In the plain and TCP sites nothing is redirected, so the original destination is
the listener's own address.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from tools.bench import addresses as at
from tools.bench.certs import Certificates, Member
from tools.bench.errors import MissingError
from tools.bench.peers.base import Http2, Installed, Job, Kind, Proxy, Side
from tools.bench.peers.scripts import pipyjs

Json = dict[str, Any]

_ROOT = Path(__file__).parents[3]


class Pipy:
    """The proxy of this repository, with one worker."""

    name = "pipy"

    def find(self) -> Installed:
        """Look for the release build, or what PIPY names."""
        target = Path(os.environ.get("CARGO_TARGET_DIR", _ROOT / "target"))
        binary = Path(os.environ.get("PIPY", target / "release" / "pipy"))
        if not os.access(binary, os.X_OK):
            raise MissingError(f"{binary} is not there; run `cargo build --release -p pipy`")
        told = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
        version = re.search(r"\d+\.\d+\.\d+\S*", told.stdout)
        return Installed(binary, version[0] if version else "of unknown version")

    def proxies(self, installed: Installed, job: Job) -> list[Proxy]:
        """Write a proxy configuration for each proxy of the job."""
        if job.kind is Kind.PAIR:
            members = job.members()
            return [
                _proxy(
                    installed,
                    job,
                    "pipy B",
                    Side.SERVER,
                    [
                        "--inbound",
                        f"0.0.0.0:{at.INBOUND_PORT}",
                        *_identity(members, members.server),
                    ],
                    at.INBOUND_PORT,
                    _server_side(members, job.http2),
                ),
                _proxy(
                    installed,
                    job,
                    "pipy A",
                    Side.CLIENT,
                    [
                        *("--outbound", f"0.0.0.0:{at.OUTBOUND_PORT}"),
                        *_identity(members, members.client),
                    ],
                    at.OUTBOUND_PORT,
                    _plugged(_client_side(members, job.http2), job.plugin),
                ),
            ]
        if job.script:
            path = job.directory / "pipy.js"
            path.write_text(pipyjs(job.script, job.body_bytes))
            flags = ["--log-level=error", f"--threads={job.workers}"]
            return [Proxy("pipy", Side.SERVER, [installed.binary, *flags, path], at.PLAIN_PORT)]
        flags = ["--outbound", f"127.0.0.1:{at.PLAIN_PORT}"]
        return [_proxy(installed, job, "pipy", Side.SERVER, flags, at.PLAIN_PORT, _plain(job))]


def _proxy(
    installed: Installed,
    job: Job,
    name: str,
    side: Side,
    flags: list[str],
    port: int,
    config: Json,
) -> Proxy:
    stem = name.replace(" ", "-")
    path = job.directory / f"{stem}.json"
    config["telemetry"] = {"access_log": "all" if job.access_log else "off"}
    path.write_text(json.dumps(config, indent=1))
    command: list[str | Path] = [installed.binary, "sidecar", "--config", path, *flags]
    command += ["--admin", f"127.0.0.1:{at.ADMIN_PORT}"]
    command += ["--metrics", f"127.0.0.1:{at.METRICS_PORT}"]
    command += ["--workers", "1", "--mark", str(at.PROXY_MARK)]
    stdout = job.directory / f"{stem}.access.log" if job.access_log else None
    return Proxy(name, side, command, port, stdout)


def _identity(members: Certificates, own: Member) -> list[str]:
    return ["--cert", str(own.chain), "--key", str(own.key), "--roots", str(members.roots)]


def _plain(job: Job) -> Json:
    cluster = {"origin": "Bench/app", "endpoints": [{"address": f"127.0.0.1:{at.BACKEND_PORT}"}]}
    target = [{"cluster": "app", "weight": 100}]
    protocol = "grpc" if job.http2.backend else job.kind.value
    match: Json = {"port": at.PLAIN_PORT, "protocol": protocol, "origin": "Bench/app"}
    if job.kind is Kind.TCP:
        match["tcp"] = {"origin": "Bench/app", "service": "bench/app", "clusters": target}
    else:
        route = {"origin": "Bench/app", "path": {"prefix": "/"}, "clusters": target}
        match["hosts"] = [_host(["*"], "bench/app", [route])]
    matches, clusters = _besides(job.services)
    return {
        "version": "bench-plain",
        "outbound": {"matches": [match, *matches]},
        "clusters": {"app": cluster, **clusters},
    }


def _besides(count: int) -> tuple[list[Json], dict[str, Json]]:
    """Write services as the control plane does for a mesh that lets everyone reach everything."""
    matches: list[Json] = []
    clusters: dict[str, Json] = {}
    for number in range(count):
        name = f"service-{number:04}"
        origin, cluster = f"Service/{name}/{name}", f"{name}/{name}|14001"
        forms = [f"{name}.{name}{end}" for end in ("", ".svc", ".svc.cluster.local")]
        names = [form + port for form in forms for port in ("", f":{at.SERVICE_PORT}")]
        route = {"origin": origin, "path": {"prefix": "/"}, "clusters": [_whole(cluster)]}
        matches.append(
            {
                "port": at.SERVICE_PORT,
                "destinations": [f"10.97.{number // 250}.{number % 250 + 1}/32"],
                "protocol": "http",
                "origin": origin,
                "hosts": [_host(names, f"{name}/{name}", [route])],
            }
        )
        pods = [f"10.244.{number // 120}.{number % 120 * 2 + pod}" for pod in (1, 2)]
        identity = f"spiffe://{at.TRUST_DOMAIN}/ns/{name}/sa/{name}"
        clusters[cluster] = {
            "origin": origin,
            "endpoints": [
                {"address": f"{pod}:{at.SERVICE_PORT}", "identity": identity} for pod in pods
            ],
        }
    return matches, clusters


def _whole(cluster: str) -> Json:
    return {"cluster": cluster, "weight": 100}


def _client_side(members: Certificates, http2: Http2) -> Json:
    route = {
        "origin": "HTTPRouteGroup/bookstore/routes#books",
        "path": {"prefix": "/books"},
        "clusters": [{"cluster": "bookstore/bookstore|14001", "weight": 100}],
    }
    match = {
        "port": at.SERVICE_PORT,
        "destinations": [f"{at.SERVICE_IP}/32"],
        # Sidecars speak nothing but HTTP/2 to each other where the port is said to be gRPC.
        "protocol": "grpc" if http2.between else "http",
        "origin": "Service/bookstore/bookstore",
        "hosts": [_host(_hosts(), "bookstore/bookstore", [route])],
    }
    endpoint = {
        "address": f"{at.SERVER_IP}:{at.SERVICE_PORT}",
        "identity": members.server.spiffe_id,
    }
    cluster: Json = {"origin": "Service/bookstore/bookstore", "endpoints": [endpoint]}
    if http2.never:
        # Where connections are limited they carry one request at a time.
        cluster["limits"] = {"connections_max": 1_000_000}
    return {
        "version": "bench-client",
        "identity": members.client.spiffe_id,
        "trust": _trust(members),
        "outbound": {"matches": [match]},
        "clusters": {"bookstore/bookstore|14001": cluster},
    }


_STAGES = ("http-routing", "metrics-http", "tracing-http", "logging-http", "circuit-breaker")
_LAST_STAGES = ("http-load-balancing", "http-default")
_PLUGIN = """
pipy({ _token: null })
.import({ __service: 'outbound-http-routing' })
.pipeline()
.onStart(() => void (_token = __service?.Plugins?.['token-injector']?.AccessToken))
.handleMessageStart(msg => _token && (msg.head.headers['x-iam-token'] = _token))
.chain()
"""


def _plugged(config: Json, plugin: bool) -> Json:
    """Put the token injector of the plugins' demo into the chain, as the control plane does."""
    if plugin:
        for match in config["outbound"]["matches"]:
            for host in match["hosts"]:
                host["plugins"] = {"token-injector": {"AccessToken": "2f1acc6c3a606b082e5eef5e"}}
        config["plugins"] = [
            {"name": "token-injector", "origin": "Plugin/token-injector", "script": _PLUGIN}
        ]
        first, last = (
            [f"modules/outbound-{name}.js" for name in names] for names in (_STAGES, _LAST_STAGES)
        )
        config["chains"] = {"outbound-http": [*first, "plugins/token-injector.js", *last]}
    return config


def _server_side(members: Certificates, http2: Http2) -> Json:
    route = {
        "origin": "HTTPRouteGroup/bookstore/routes#books",
        "path": {"prefix": "/books"},
        "allowed": [
            {
                "identity": members.client.spiffe_id,
                "origin": "TrafficTarget/bookstore/bookstore",
            }
        ],
        "clusters": [{"cluster": "bookstore/bookstore|14001|local", "weight": 100}],
    }
    match = {
        "port": at.SERVICE_PORT,
        "protocol": "grpc" if http2.backend else "http",
        "origin": "Service/bookstore/bookstore",
        "mtls": "strict",
        "hosts": [_host(_hosts(), "bookstore/bookstore", [route])],
    }
    return {
        "version": "bench-server",
        "identity": members.server.spiffe_id,
        "trust": _trust(members),
        "inbound": {"matches": [match]},
        "clusters": {
            "bookstore/bookstore|14001|local": {
                "origin": "Service/bookstore/bookstore",
                "endpoints": [{"address": f"127.0.0.1:{at.SERVICE_PORT}"}],
            }
        },
    }


def _hosts() -> list[str]:
    return [at.HOST, f"{at.HOST}:{at.SERVICE_PORT}"]


def _host(names: list[str], service: str, routes: list[Json]) -> Json:
    return {"names": names, "service": service, "origin": f"Service/{service}", "routes": routes}


def _trust(members: Certificates) -> Json:
    return {"domain": at.TRUST_DOMAIN, "roots": [members.roots.read_text()]}
