"""nginx, as packaged by Debian.

Not equal to the others in the pair: nginx does not ask for a connection's original destination, so
proxy A dials a server named in its configuration; it checks certificates by DNS name and subject,
not by SPIFFE URI; its metrics are the few totals of ``stub_status``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tools.bench import addresses as at
from tools.bench.errors import MissingError, UnsupportedError
from tools.bench.peers.base import Installed, Job, Kind, Proxy, Side, refuse_services
from tools.bench.peers.scripts import HEADER, Script, njs, njs_module

_STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")

_HEAD = """
daemon off;
user root;
worker_processes {workers};
worker_rlimit_nofile 16384;
pid {directory}/{name}.pid;
error_log {directory}/{name}.error.log;
{modules}
events {{ worker_connections 8192; }}
"""

_HTTP = """
http {{
  {access_log}
  client_body_temp_path {directory}/{name}.body;
  proxy_temp_path {directory}/{name}.proxy;
  fastcgi_temp_path {directory}/{name}.fastcgi;
  uwsgi_temp_path {directory}/{name}.uwsgi;
  scgi_temp_path {directory}/{name}.scgi;
  tcp_nodelay on;
  # Its defaults of 1,000 requests and 75 s would add reconnects that no other peer makes.
  keepalive_timeout 1h;
  keepalive_requests 1000000000;
  http2_max_concurrent_streams 128;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_set_header Host $host;
  {body}
}}
"""

_UPSTREAM = """
  upstream app {{
    server {address};
    keepalive 128;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
  }}
"""

_PLAIN = """
  server {{
    listen 127.0.0.1:{port}{http2} backlog=4096;
    location / {{ {pass_to}; }}
  }}
"""

_SCRIPTED = """
  js_path {directory};
  js_import main from script.js;
  js_set $stamp main.stamp;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ {work} }}
  }}
"""

_CLIENT_SIDE = """
  server {{
    listen {port} backlog=4096 default_server;
    return 404;
  }}
  server {{
    listen {port};
    server_name {host};
    location /books/ {{
      proxy_pass https://app;
      proxy_ssl_certificate {chain};
      proxy_ssl_certificate_key {key};
      proxy_ssl_trusted_certificate {roots};
      proxy_ssl_verify on;
      proxy_ssl_name {server_name};
      proxy_ssl_protocols TLSv1.3;
      proxy_ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
    }}
    location / {{ return 404; }}
  }}
"""

_SERVER_SIDE = """
  map $ssl_client_s_dn $allowed {{
    default 0;
    "CN={client_name}" 1;
  }}
  ssl_certificate {chain};
  ssl_certificate_key {key};
  ssl_client_certificate {roots};
  ssl_verify_client on;
  ssl_protocols TLSv1.3;
  ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
  server {{
    listen {port} ssl backlog=4096 default_server;
    return 404;
  }}
  server {{
    listen {port} ssl;
    server_name {host};
    location /books/ {{
      if ($allowed = 0) {{ return 403; }}
      proxy_pass http://app;
    }}
    location / {{ return 404; }}
  }}
  server {{
    listen 127.0.0.1:{metrics_port};
    location / {{ stub_status; }}
  }}
"""

_ACCESS_LOG = """
  log_format bench escape=json '{{"time":"$time_iso8601","method":"$request_method","host":"$host",'
    '"path":"$request_uri","status":$status,"bytes":$body_bytes_sent,"duration_s":$request_time,'
    '"peer":"$ssl_client_s_dn","upstream":"$upstream_addr"}}';
  access_log {path} bench buffer=64k flush=1s;
"""

_STREAM = """
stream {{
  access_log off;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    proxy_pass 127.0.0.1:{backend_port};
    tcp_nodelay on;
  }}
}}
"""


class Nginx:
    """Debian's ``nginx-light`` (or any nginx in the path)."""

    name = "nginx"

    def find(self) -> Installed:
        """Look for ``nginx`` in the path."""
        binary = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
        if binary is None:
            raise MissingError("no nginx in the path; install the Debian package nginx-light")
        told = subprocess.run([binary, "-V"], capture_output=True, text=True, check=False).stderr
        version = re.search(r"nginx/(\S+)", told)
        ssl = re.search(r"running with (OpenSSL \S+?)[ )]", told) or re.search(
            r"built with (OpenSSL \S+)", told
        )
        words = [
            version[1] if version else "of unknown version",
            f"({ssl[1]})" if ssl else "(no TLS)",
        ]
        return Installed(Path(binary), " ".join(words).strip())

    def proxies(self, installed: Installed, job: Job) -> list[Proxy]:
        """Write ``nginx.conf`` for each proxy of the job."""
        refuse_services(job)
        if job.kind is Kind.TCP:
            if not _STREAM_MODULE.exists():
                raise MissingError("nginx has no stream module here; install libnginx-mod-stream")
            stream = _STREAM.format(port=at.PLAIN_PORT, backend_port=at.BACKEND_PORT)
            return [self._proxy(installed, job, "nginx", Side.SERVER, at.PLAIN_PORT, stream)]
        if job.script in (Script.ANSWER, Script.HEADER):
            return [self._scripted(installed, job)]
        if job.kind is Kind.HTTP:
            body = _UPSTREAM.format(address=f"127.0.0.1:{at.BACKEND_PORT}")
            if job.http2.backend and not job.http2.grpc:
                raise UnsupportedError("nginx speaks HTTP/2 to servers only for gRPC")
            body += _PLAIN.format(
                port=at.PLAIN_PORT,
                # ``http2 on`` exists since 1.25.1; older ones know only this form, newer ones warn.
                http2=" http2" if job.http2.client else "",
                pass_to="grpc_pass grpc://app" if job.http2.grpc else "proxy_pass http://app",
            )
            return [self._http(installed, job, "nginx", Side.SERVER, at.PLAIN_PORT, body)]
        if job.http2.between:
            raise UnsupportedError("nginx speaks HTTP/2 to servers only for gRPC")
        members = job.members()
        names = {"host": at.HOST, "roots": members.roots, "metrics_port": at.METRICS_PORT}
        client_side = _UPSTREAM.format(address=f"{at.SERVER_IP}:{at.SERVICE_PORT}")
        client_side += _CLIENT_SIDE.format(
            port=at.OUTBOUND_PORT,
            chain=members.client.chain,
            key=members.client.key,
            server_name=members.server.dns_name,
            **names,
        )
        server_side = _UPSTREAM.format(address=f"127.0.0.1:{at.SERVICE_PORT}")
        server_side += _SERVER_SIDE.format(
            port=at.INBOUND_PORT,
            chain=members.server.chain,
            key=members.server.key,
            client_name=members.client.dns_name,
            **names,
        )
        return [
            self._http(installed, job, "nginx B", Side.SERVER, at.INBOUND_PORT, server_side),
            self._http(installed, job, "nginx A", Side.CLIENT, at.OUTBOUND_PORT, client_side),
        ]

    def _scripted(self, installed: Installed, job: Job) -> Proxy:
        (job.directory / "script.js").write_text(njs(job.body_bytes))
        work, body = "js_content main.answer;", ""
        if job.script is Script.HEADER:
            body = _UPSTREAM.format(address=f"127.0.0.1:{at.BACKEND_PORT}")
            # A location with headers of its own has none of those around it.
            work = (
                'proxy_set_header Connection ""; proxy_set_header Host $host;'
                f" proxy_set_header {HEADER} $stamp; proxy_pass http://app;"
            )
        body += _SCRIPTED.format(directory=job.directory, port=at.PLAIN_PORT, work=work)
        return self._http(installed, job, "nginx", Side.SERVER, at.PLAIN_PORT, body)

    def _http(
        self, installed: Installed, job: Job, name: str, side: Side, port: int, body: str
    ) -> Proxy:
        access_log = "access_log off;"
        if job.access_log:
            access_log = _ACCESS_LOG.format(path=job.directory / f"{_stem(name)}.access.log")
        http = _HTTP.format(
            directory=job.directory, name=_stem(name), access_log=access_log, body=body
        )
        return self._proxy(installed, job, name, side, port, http)

    def _proxy(
        self, installed: Installed, job: Job, name: str, side: Side, port: int, body: str
    ) -> Proxy:
        modules = f"load_module {_STREAM_MODULE};" if job.kind is Kind.TCP else ""
        if job.script in (Script.ANSWER, Script.HEADER):
            modules = f"load_module {njs_module()};"
        head = _HEAD.format(
            directory=job.directory, name=_stem(name), modules=modules, workers=job.workers
        )
        config = job.directory / f"{_stem(name)}.conf"
        config.write_text(head + body)
        return Proxy(name, side, [installed.binary, "-c", config], port)


def _stem(name: str) -> str:
    return name.replace(" ", "-")
