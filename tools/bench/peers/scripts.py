"""The scripts that are compared: the same work in PipyJS, in njs and in HAProxy's Lua.

In: what a script is to do. Out: its text, for the peers' configurations to load.

- ``answer``: the script makes the response: the path it was asked for, filled up to the row's size.
- ``header``: the proxy of the plain site; a script puts the path into a request header.
- ``proxy``: the proxy of the plain site, which in pipy is a script and in the others is built in.

INVARIANT: what a script makes depends on the request, so that nothing of it can be made once for
all. Not here: that the work is done (``tools.bench.script_probe``).
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from tools.bench import addresses as at
from tools.bench.errors import MissingError

HEADER = "x-stamp"
"""What scripts set on the way to the backend, which says what it has seen in ``x-seen``."""


class Script(Enum):
    """What a script does."""

    ANSWER = "answer"
    HEADER = "header"
    PROXY = "proxy"


def pipyjs(script: Script, body_bytes: int) -> str:
    """Return the script for pipy."""
    listen = f"pipy().listen('127.0.0.1:{at.PLAIN_PORT}')"
    if script is Script.ANSWER:
        return f"""
var rest = '{_rest(body_bytes)}'
{listen}.serveHTTP(
  msg => new Message(
    {{ status: 200, headers: {{ 'content-type': 'text/plain' }} }}, msg.head.path + rest
  )
)
"""
    stamp = (
        f".handleMessageStart(msg => msg.head.headers['{HEADER}'] = msg.head.path)"
        if script is Script.HEADER
        else ""
    )
    return f"""
{listen}.demuxHTTP().to($=>$
  {stamp}
  .muxHTTP('app').to($=>$.connect('127.0.0.1:{at.BACKEND_PORT}'))
)
"""


NJS_MODULE = Path("/usr/lib/nginx/modules/ngx_http_js_module.so")


def njs_module() -> Path:
    """Return nginx's module for njs.

    Raises:
        MissingError: it is not installed.

    """
    if not NJS_MODULE.exists():
        raise MissingError("nginx has no njs here; install the Debian package libnginx-mod-http-js")
    return NJS_MODULE


def njs(body_bytes: int) -> str:
    """Return the module for njs."""
    return f"""
const rest = '{_rest(body_bytes)}';
function answer(r) {{
  r.headersOut['Content-Type'] = 'text/plain';
  r.return(200, r.uri + rest);
}}
function stamp(r) {{ return r.uri; }}
export default {{ answer, stamp }};
"""


def lua(body_bytes: int) -> str:
    """Return the script for HAProxy."""
    return f"""
local rest = "{_rest(body_bytes)}"
core.register_service("answer", "http", function(applet)
  local body = applet.path .. rest
  applet:set_status(200)
  applet:add_header("content-type", "text/plain")
  applet:add_header("content-length", #body)
  applet:start_response()
  applet:send(body)
end)
core.register_action("stamp", {{ "http-req" }}, function(txn)
  txn.http:req_set_header("{HEADER}", txn.sf:path())
end)
"""


def _rest(body_bytes: int) -> str:
    return "x" * (body_bytes - len(at.PATH))
