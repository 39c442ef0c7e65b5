"""What the announcements of 0.30 and 0.70 say is there: each point, asked of the proxy.

The texts have no scripts. Points with tests of their own are not here: native modules
(`test_native_modules.py`), what the examples show, logging (`proxy/pipy-script/tests/logging.rs`).
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .conftest import PATIENCE, PIPY

# Point of the text: an expression that is true.
POINTS = {
    # 0.30
    "stats.Metric.valueOf() for querying the current value": (
        "(c => (c.increase(3), c.valueOf() === 3 && +c === 3))(new stats.Counter('points'))"
    ),
    "TTL option for algo.Cache": (
        "(c => (c.set('a', 1), c.get('a') === 1))(new algo.Cache(null, null, { ttl: 60 }))"
    ),
    "an entry is gone with its TTL": (
        "(c => (c.set('a', 1), repeat(() => (c.has('a') ? undefined : true))))"
        "(new algo.Cache(null, null, { ttl: 0.001 }))"
    ),
    "Data.from() rejects input types other than strings": "Data.from(5) === null",
    "no crash when null is given to crypto": (
        "throws(() => new crypto.PrivateKey(null)) && throws(() => new crypto.Certificate(null))"
    ),
    "no dead loop when a folder of a codebase is read": "pipy.load('/') === null",
    "sub-metrics of a histogram": (
        "(h => (h.withLabels('a').observe(3), true))(new stats.Histogram('h', [1, 5], ['l']))"
    ),
    "the size of Data is right when it is packed": (
        "(d => (d.push('cd'), d.push(new Data('e')), d.size === 5))(new Data('ab'))"
    ),
    # 0.70
    "looping construct": "repeat([1, 2, 3], x => x === 2 ? 'found' : undefined) === 'found'",
    "standard ECMAScript builtin objects Map and Set": (
        "(m => (m.set('a', 1), m.get('a') === 1))(new Map) && new Set([1, 1, 2]).size === 2"
    ),
    "encode and decode DNS messages": (
        "DNS.decode(DNS.encode({ id: 7, question: [{ name: 'a.test', type: 'A' }] })).id === 7"
    ),
    "logging to HTTPS receivers and Syslog": (
        "(l => ['toHTTP', 'toSyslog'].every(f => typeof l[f] === 'function'))"
        "(new logging.JSONLogger('points'))"
    ),
    "subject alternative names of a certificate": (
        "(key => new crypto.Certificate({ subject: { CN: 'a' }, privateKey: key, days: 1,"
        " subjectAltNames: ['a.test'] }).subjectAltNames.includes('a.test'))"
        "(new crypto.PrivateKey({ type: 'ec' }))"
    ),
    "Netmask supports IPv6": "new Netmask('2001:db8::/32').contains('2001:db8::1')",
    "NetMask of IPv6 leaves others out": "!new Netmask('2001:db8::/32').contains('2001:db9::1')",
}

# Filter: how a script writes it.
FILTERS = {
    "tee": ".tee('-')",
    "throttleConcurrency": ".throttleConcurrency(new algo.Quota(5))",
    "throttle filters with objects as accounts": ".throttleMessageRate(5, () => __inbound)",
    "demuxQueue": ".demuxQueue().to($ => $.dummy())",
    "muxQueue": ".muxQueue(() => 1).to($ => $.connect('127.0.0.1:1'))",
    "decodeMQTT with protocolLevel": ".decodeMQTT({ protocolLevel: 5 })",
    "chain": ".chain([])",
    "replay": ".replay().to($ => $.dummy())",
    "Thrift": ".decodeThrift().encodeThrift()",
    "the PROXY protocol": ".acceptProxyProtocol(() => true).to($ => $.dummy())",
    "TPROXY, outbound UDP with ephemeral ports": ".connect('127.0.0.1:1', { protocol: 'udp' })",
    "limit of messages per session": (
        ".mux(() => 1, { maxMessages: 5 }).to($ => $.connect('127.0.0.1:1'))"
    ),
}


def test_the_points_of_the_announcements_hold(tmp_path: Path) -> None:
    asked = ",\n".join(f"[{name!r}, () => {point}]" for name, point in POINTS.items())
    script = tmp_path / "main.js"
    script.write_text(
        f"""((
  throws = f => repeat(1, () => {{ try {{ f(); return false; }} catch {{ return true; }} }}),
) => [{asked}].flatMap(([name, holds]) => (
  repeat(1, () => {{
    try {{ return holds() === true ? [] : [name]; }} catch (e) {{ return [`${{name}}: ${{e}}`]; }}
  }})
)).join('\\n') || 'all')()"""
    )
    done = subprocess.run(
        [PIPY, script], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.stdout.strip() == "all", done.stdout + done.stderr


@pytest.mark.parametrize("filter_", FILTERS.values(), ids=FILTERS.keys())
def test_the_filters_of_the_announcements_load(tmp_path: Path, filter_: str) -> None:
    script = tmp_path / "main.js"
    script.write_text(f"pipy()\n.listen(8080)\n{filter_}\n")
    done = subprocess.run(
        [PIPY, "--check", script], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
