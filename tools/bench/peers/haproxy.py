"""HAProxy, as packaged by Debian.

``http-reuse always``: any idle connection may carry any request, as in the pools of the other
peers. HAProxy's default, ``safe``, keeps the first request of each client connection off the shared
pool.

Not equal to the others in the pair: this version cannot read the URI names of a certificate, so it
checks DNS name and CN; its access log is written line by line (it has no buffered file log); proxy
A dials a server named in its configuration.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tools.bench import addresses as at
from tools.bench.errors import MissingError
from tools.bench.peers.base import Installed, Job, Kind, Proxy, Side, refuse_services
from tools.bench.peers.scripts import Script, lua

_GLOBAL = """
global
  nbthread {workers}
  maxconn 8000
  # No idle connection is given up for want of files.
  tune.pool-low-fd-ratio 90
  tune.pool-high-fd-ratio 95
  ssl-default-bind-options ssl-min-ver TLSv1.3
  ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
  ssl-default-server-options ssl-min-ver TLSv1.3
  ssl-default-server-ciphersuites TLS_AES_128_GCM_SHA256
  {log}
  {lua}

defaults
  mode {mode}
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout http-keep-alive 1h
  {defaults}
"""

_HTTP_DEFAULTS = """
  option http-keep-alive
  http-reuse always
  {log}
"""

_PLAIN = """
frontend in
  bind 127.0.0.1:{port} {client_proto}
  {work}
  default_backend app

backend app
  server app 127.0.0.1:{backend_port} {backend_proto} pool-purge-delay 1h pool-max-conn 128
"""

_TCP = """
listen in
  bind 127.0.0.1:{port}
  server app 127.0.0.1:{backend_port}
"""

_CLIENT_SIDE = """
frontend outbound
  bind :{port} {client_proto}
  http-request return status 404 unless {{ req.hdr(host) {host} }} {{ path_beg /books/ }}
  default_backend bookstore

backend bookstore
  default-server pool-purge-delay 1h pool-max-conn 128
  default-server ssl verify required ca-file {roots} verifyhost {server_name} crt {bundle}
  {between_alpn}
  server bookstore {server_ip}:{service_port}
"""

_SERVER_SIDE = """
frontend inbound
  bind :{port} ssl crt {bundle} ca-file {roots} verify required {bind_alpn}
  http-request return status 404 unless {{ req.hdr(host) {host} }} {{ path_beg /books/ }}
  http-request deny deny_status 403 unless {{ ssl_c_s_dn(CN) -m str {client_name} }}
  default_backend app

backend app
  server app 127.0.0.1:{service_port} {backend_proto} pool-purge-delay 1h pool-max-conn 128

frontend metrics
  bind 127.0.0.1:{metrics_port}
  http-request use-service prometheus-exporter if {{ path /metrics }}
"""

_LOG_FORMAT = (
    '{"time":"%[date,ltime(%FT%TZ)]","method":"%HM","host":"%[capture.req.hdr(0)]",'
    '"path":"%HU","status":%ST,"bytes":%B,"duration_ms":%Ta,"peer":"%[ssl_c_s_dn(CN)]",'
    '"upstream":"%b/%s"}'
)


class HAProxy:
    """Debian's ``haproxy`` (or any in the path)."""

    name = "HAProxy"

    def find(self) -> Installed:
        """Look for ``haproxy`` in the path."""
        binary = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
        if binary is None:
            raise MissingError("no haproxy in the path; install the Debian package haproxy")
        told = subprocess.run([binary, "-vv"], capture_output=True, text=True, check=False).stdout
        version = re.search(r"HAProxy version (\d+(?:\.\d+)*)", told)
        ssl = re.search(r"Running on OpenSSL version : (OpenSSL \S+)", told)
        words = [version[1] if version else "of unknown version", f"({ssl[1]})" if ssl else ""]
        return Installed(Path(binary), " ".join(words).strip())

    def proxies(self, installed: Installed, job: Job) -> list[Proxy]:
        """Write ``haproxy.cfg`` for each proxy of the job."""
        refuse_services(job)
        if job.kind is Kind.TCP:
            body = _TCP.format(port=at.PLAIN_PORT, backend_port=at.BACKEND_PORT)
            return [_proxy(installed, job, "haproxy", Side.SERVER, at.PLAIN_PORT, body)]
        versions = {
            "client_proto": "proto h2" if job.http2.client else "",
            "between_alpn": "default-server alpn h2" if job.http2.between else "",
            "bind_alpn": "alpn h2" if job.http2.between else "",
            "backend_proto": "proto h2" if job.http2.backend else "",
        }
        if job.kind is Kind.HTTP:
            work = {
                Script.ANSWER: "http-request use-service lua.answer",
                Script.HEADER: "http-request lua.stamp",
            }.get(job.script or Script.PROXY, "")
            body = _PLAIN.format(
                port=at.PLAIN_PORT, backend_port=at.BACKEND_PORT, work=work, **versions
            )
            return [_proxy(installed, job, "haproxy", Side.SERVER, at.PLAIN_PORT, body)]
        members = job.members()
        names = {
            "host": at.HOST,
            "roots": members.roots,
            "service_port": at.SERVICE_PORT,
            "server_ip": at.SERVER_IP,
            "server_name": members.server.dns_name,
            "client_name": members.client.dns_name,
            "metrics_port": at.METRICS_PORT,
            **versions,
        }
        server_side = _SERVER_SIDE.format(
            port=at.INBOUND_PORT, bundle=members.server.bundle, **names
        )
        client_side = _CLIENT_SIDE.format(
            port=at.OUTBOUND_PORT, bundle=members.client.bundle, **names
        )
        return [
            _proxy(installed, job, "haproxy B", Side.SERVER, at.INBOUND_PORT, server_side),
            _proxy(installed, job, "haproxy A", Side.CLIENT, at.OUTBOUND_PORT, client_side),
        ]


def _proxy(installed: Installed, job: Job, name: str, side: Side, port: int, body: str) -> Proxy:
    stem = name.replace(" ", "-")
    config = job.directory / f"{stem}.cfg"
    if job.access_log:
        # The captured header is what %[capture.req.hdr(0)] of the log format reads.
        body = body.replace("bind :", "declare capture request len 64\n  bind :", 1)
        body = body.replace(
            "  http-request return",
            "  http-request capture req.hdr(host) id 0\n  http-request return",
            1,
        )
    scripted = job.script in (Script.ANSWER, Script.HEADER)
    script = job.directory / "script.lua"
    if scripted:
        script.write_text(lua(job.body_bytes))
    log = f"log global\n  log-format '{_LOG_FORMAT}'" if job.access_log else ""
    defaults = _HTTP_DEFAULTS.format(log=log) if job.kind is not Kind.TCP else ""
    config.write_text(
        _GLOBAL.format(
            log="log stdout format raw local0 info" if job.access_log else "",
            workers=job.workers,
            # One Lua state per thread: the form that does not make them wait for each other.
            lua=f"lua-load-per-thread {script}" if scripted else "",
            mode="tcp" if job.kind is Kind.TCP else "http",
            defaults=defaults,
        )
        + body
    )
    stdout = job.directory / f"{stem}.access.log" if job.access_log else None
    # -db: in the foreground, one process.
    return Proxy(name, side, [installed.binary, "-db", "-f", config], port, stdout)
