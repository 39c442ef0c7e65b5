"""What scripts see of HTTP/2: the version, the scheme and the authority, as curl has sent them.

Both without TLS and behind it, where ALPN agrees on the version; and what a server of HTTP/2 hears.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from .conftest import PATIENCE, Running, Start
from .test_repo_secure import pki

__all__ = ["pki"]

SCRIPT = """
((
  shown = ({ protocol, method, scheme, authority, path, headers }) => new Message(JSON.stringify(
    { protocol, method, scheme, authority, path, host: headers.host })),
) => pipy()
.listen(PORT0).demuxHTTP().to($ => $.replaceMessage(m => shown(m.head)))
.listen(PORT1)
  .acceptTLS({
    certificate: {
      cert: new crypto.Certificate(os.readFile('PKI/server.pem')),
      key: new crypto.PrivateKey(os.readFile('PKI/server.key')),
    },
    alpn: ['h2', 'http/1.1'],
  }).to($ => $.demuxHTTP().to($ => $.replaceMessage(m => shown(m.head))))
.listen(PORT2).demuxHTTP().to($ => $
  .handleMessageStart(m => m.head.path === '/https' && (m.head.scheme = 'https'))
  .handleMessageStart(m => m.head.path === '/ftp' && (m.head.scheme = 'ftp'))
  .muxHTTP(() => 'k' + Math.random(), { version: 2 }).to($ => $.connect('127.0.0.1:PORT0'))
  .handleMessageStart(m => m.head.headers['x-was'] = m.head.protocol))
)()
"""


def _begin(start: Start, pki: Path) -> Running:
    return start(SCRIPT.replace("PKI", str(pki)), ports=3)


def _curl(*args: str) -> str:
    command = ["curl", "-sS", "-m", "10", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_request_of_http_2_says_so(start: Start, pki: Path) -> None:
    pipy = _begin(start, pki)
    where = f"127.0.0.1:{pipy.ports[0]}"
    seen = {"method": "GET", "authority": where, "path": "/a?b=c", "host": where}
    url = f"http://{where}/a?b=c"
    known = json.loads(_curl("--http2-prior-knowledge", url))
    assert known == {"protocol": "HTTP/2", "scheme": "http", **seen}
    # HTTP/1 says no scheme.
    assert json.loads(_curl("--http1.1", url)) == {"protocol": "HTTP/1.1", **seen}
    assert json.loads(_curl("--http1.0", url)) == {"protocol": "HTTP/1.0", **seen}


def test_behind_tls_the_scheme_is_another(start: Start, pki: Path) -> None:
    pipy = _begin(start, pki)
    where = f"127.0.0.1:{pipy.ports[1]}"
    seen = {"method": "POST", "authority": where, "path": "/", "host": where}
    trusted = ("--cacert", str(pki / "root.pem"), "-d", "x", f"https://{where}/")
    second = json.loads(_curl("--http2", *trusted))
    assert second == {"protocol": "HTTP/2", "scheme": "https", **seen}
    assert json.loads(_curl("--http1.1", *trusted)) == {"protocol": "HTTP/1.1", **seen}


def test_a_server_of_http_2_hears_the_scheme_that_the_script_says(start: Start, pki: Path) -> None:
    pipy = _begin(start, pki)
    plain = _curl("-i", f"http://127.0.0.1:{pipy.ports[2]}/")
    # To a client of HTTP/1 the answer is one of HTTP/1, whatever it was before.
    assert plain.startswith("HTTP/1.1 200 OK")
    assert "x-was: HTTP/2\n" in plain
    assert '"protocol":"HTTP/2"' in plain
    assert '"scheme":"http"' in plain
    assert '"scheme":"https"' in _curl(f"http://127.0.0.1:{pipy.ports[2]}/https")
    pipy.curl("/ftp", port=2)
    pipy.logged('scheme: "ftp" is neither http nor https')
