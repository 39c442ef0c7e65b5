"""Objects of scripts that need a process at work: requests, names, files that change."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

from .conftest import Start, free_ports
from .test_repo import Served, until

AGENT = """
    const good = new http.Agent('127.0.0.1:PORT1')
    const bad = new http.Agent('127.0.0.1:PORT2')
    let asked = 0
    pipy.listen(PORT0, $ => $.serveHTTP(req => (
      req.head.path === '/bad'
        ? bad.request('GET', '/').catch(failure => failure)
        : good.request('POST', req.head.path, { 'x-n': '7' }, req.body)
            .then(({ head, body }) =>
              new Message({ status: head.status, headers: { via: head.headers['x-via'] } }, body))
    )))
    pipy.listen(PORT1, $ => $.serveHTTP(req => new Message(
      { status: 201, headers: { 'x-via': `${++asked}` } },
      [req.head.method, req.head.path, req.head.headers['x-n'], req.head.headers.host, req.body]
        .join(' ')
    )))
"""


def test_an_agent_sends_requests_and_tells_of_failures(start: Start) -> None:
    pipy = start(AGENT.replace("PORT2", str(free_ports(1)[0])), ports=2)
    host = f"127.0.0.1:{pipy.ports[1]}"
    assert pipy.curl("/a?b", "-d", "body").stdout == f"POST /a?b 7 {host} body"
    for _ in range(20):
        assert pipy.curl("/again").stdout == f"POST /again 7 {host} "
    shown = pipy.curl("/n", "-i").stdout
    assert " 201 " in shown.splitlines()[0]
    assert "via: 22" in shown.lower()
    refused = pipy.curl("/bad", "-i").stdout
    assert " 502 " in refused.splitlines()[0]
    assert "Connection Refused" in refused.splitlines()[-1]
    assert pipy.curl("/last").stdout.startswith("POST /last")


def test_names_are_looked_up_and_files_watched_beside_the_traffic(start: Start) -> None:
    pipy = start(
        """
        let changed = 'nothing'
        const again = () => pipy.watch('conf').then(paths => (changed = paths.join(), again()))
        again()
        const early = DNS.resolve('127.0.0.1')
        pipy.listen(PORT0, $ => $.serveHTTP(req => (
          req.head.path === '/changed' ? new Message(changed)
          : req.head.path === '/early' ? early.then(ips => new Message(ips.join()))
          : DNS.resolve('localhost')
              .then(ips => new Message(ips.includes('127.0.0.1') ? 'found' : `${ips}`)))))
        """
    )
    assert pipy.curl("/early").stdout == "127.0.0.1"
    assert pipy.curl("/").stdout == "found"
    assert pipy.curl("/changed").stdout == "nothing"
    folder = pipy.script.parent / "conf"
    folder.mkdir()
    (folder / "a.json").write_text("{}")
    until("a file is new", lambda: pipy.curl("/changed").stdout == "/conf/a.json")
    (folder / "a.json").write_text('{"n": 1}')
    (folder / "b.json").write_text("{}")
    until("another is", lambda: "/conf/b.json" in pipy.curl("/changed").stdout)


def archive(**files: str) -> bytes:
    """A tar archive, packed."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name.replace("__", "/").replace("_", "."))
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content.encode()))
    return out.getvalue()


def test_folders_are_served_packed_for_who_takes_it(start: Start, tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "deep").mkdir(parents=True)
    (site / "index.html").write_text("<h1>hello</h1>" * 100)
    (site / "deep" / "index.html").write_text("deep")
    (tmp_path / "site.tgz").write_bytes(archive(index_html="packed", sub__a_txt="in the archive"))
    pipy = start(
        f"""
        const site = new http.Directory('{site}', {{ fs: true }})
        const tar = new http.Directory('{tmp_path}/site.tgz', {{ fs: true, tarball: true }})
        const missing = new Message({{ status: 404 }}, 'no')
        pipy.listen(PORT0, $ => $.serveHTTP(req => site.serve(req) ?? missing))
        pipy.listen(PORT1, $ => $.serveHTTP(req => tar.serve(req) ?? missing))
        """,
        ports=2,
    )
    whole = "<h1>hello</h1>" * 100
    assert pipy.curl("/").stdout == whole
    packed = pipy.curl("/", "-i", "-H", "accept-encoding: gzip", "--output", str(tmp_path / "out"))
    assert packed.returncode == 0
    head, _, body = (tmp_path / "out").read_bytes().partition(b"\r\n\r\n")
    assert b"content-encoding: gzip" in head.lower()
    assert b"content-type: text/html" in head.lower()
    assert gzip.decompress(body).decode() == whole
    assert pipy.curl("/deep").stdout == "deep"
    assert pipy.curl("/../secret", "--path-as-is").stdout != "secret"
    assert pipy.curl("/nothing").stdout == "no"
    (site / "index.html").write_text("changed")
    assert pipy.curl("/").stdout == "changed"
    assert pipy.curl("/sub/a.txt", port=1).stdout == "in the archive"
    assert pipy.curl("/", port=1).stdout == "packed"


def test_workers_know_who_they_are_and_share_what_is_shared(start: Start) -> None:
    pipy = start(
        """
        const seen = new algo.SharedMap('seen')
        pipy.listen(PORT0, $ => $.serveHTTP(() => (
          seen.add(`worker ${pipy.thread.id} of ${__thread.concurrency}`),
          new Message(`${seen.size}`))))
        """,
        "--threads=2",
    )
    until("both workers have answered", lambda: pipy.curl("/").stdout == "2")


def test_a_script_answers_the_admin_port_itself(start: Start) -> None:
    (admin,) = free_ports(1)
    pipy = start(
        """
        pipy()
          .listen(PORT0).serveHTTP(() => new Message('ok'))
          .admin('/own').replaceMessage(req => new Message(
            { status: 202, headers: { 'content-type': 'text/x' } },
            `${__thread.id} ${req.head.method} ${req.head.path} ${req.body}\\n`))
          .admin('/own/broken').replaceMessage(() => new StreamEnd())
        """,
        f"--admin-port={admin}",
        "--threads=2",
    )
    asked = Served(pipy.process, admin, pipy.log_file)
    both = "0 POST /own/a?b body\n1 POST /own/a?b body\n"
    assert asked.ask("POST", "/own/a?b", "-d", "body") == (202, both)
    assert "content-type: text/x" in asked.ask("GET", "/own", "-i")[1].lower()
    assert asked.ask("GET", "/own/broken/x")[0] == 500
    assert asked.ask("GET", "/owner")[0] == 404
    assert asked.ask("GET", "/status")[0] == 200


def test_a_script_has_itself_loaded_anew_and_reads_files(start: Start, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("one,two")
    pipy = start(
        f"""
        let seen = []
        const loaded = pipy.now()
        pipy.listen(PORT0, $ => $.serveHTTP(req => (
          req.head.path === '/restart' ? (pipy.restart(), new Message('soon'))
          : req.head.path === '/loaded' ? new Message(`${{loaded}}`)
          : pipy.read('{tmp_path}/data', $ => $
              .onStart(mark => {{ seen.push(mark) }})
              .replaceData(data => (data.size && seen.push(data.toString()), new Data())), "begin")
              .then(() => new Message(seen.splice(0).join('|')), error => new Message(`${{error}}`))
        )))
        """
    )
    assert pipy.curl("/read").stdout == "begin|one,two"
    before = pipy.curl("/loaded").stdout
    assert pipy.curl("/restart").stdout == "soon"
    until("it is loaded anew", lambda: pipy.curl("/loaded").stdout != before)
