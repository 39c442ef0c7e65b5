"""The repository over TLS, on a full disk, in a browser; what the admin port of a script tells."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .conftest import PATIENCE, Start, free_ports, run_once
from .test_repo import Run, Served, answering, publish, run, serve, until

__all__ = ["run"]


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a root, and certificates of a server and of a client."""
    folder = tmp_path_factory.mktemp("pki")
    now = datetime.datetime.now(datetime.UTC)
    root_key = ec.generate_private_key(ec.SECP256R1())
    for name in ("root", "server", "client"):
        key = root_key if name == "root" else ec.generate_private_key(ec.SECP256R1())
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name("root"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(
                x509.BasicConstraints(ca=name == "root", path_length=None), critical=True
            )
        )
        if name != "root":
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        pem = builder.sign(root_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        (folder / f"{name}.pem").write_bytes(pem)
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        (folder / f"{name}.key").write_bytes(private)
    return folder


def _curl(url: str, *args: str) -> subprocess.CompletedProcess[str]:
    command = ["curl", "-sS", "-m", "10", *args, url]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_a_repository_over_tls_is_followed_by_who_believes_its_root(run: Run, pki: Path) -> None:
    (port, served) = free_ports(2)
    run(
        f"--admin-port={port}",
        f"--admin-tls-cert={pki}/server.pem",
        f"--admin-tls-key={pki}/server.key",
        port=port,
    )
    api = f"https://127.0.0.1:{port}/api/v1"
    root = ("--cacert", f"{pki}/root.pem")
    until("it answers", lambda: _curl(f"{api}/repo", *root).returncode == 0)
    assert _curl(f"{api}/repo").returncode != 0, "an unknown root is believed by nobody"
    assert _curl(f"{api}/repo/app", "-X", "POST", *root).returncode == 0
    source = answering(served, "over TLS")
    _curl(f"{api}/repo-files/app/main.js", "--data-binary", source, *root)
    _curl(f"{api}/repo/app", "-X", "PATCH", "-d", '{"version": "1"}', *root)
    url = f"https://127.0.0.1:{port}/repo/app"
    doubting = run(url, port=served)
    until("it doubts", lambda: "asking again" in doubting.log_file.read_text())
    doubting.process.kill()
    instance = run(f"--tls-trusted={pki}/root.pem", url, port=served)
    until("version 1 answers", lambda: instance.ask("GET", "/") == (200, "over TLS"))


def test_callers_with_a_certificate_need_no_token(run: Run, pki: Path) -> None:
    (port, served) = free_ports(2)
    options = (
        f"--admin-tls-cert={pki}/server.pem",
        f"--admin-tls-key={pki}/server.key",
        f"--admin-tls-trusted={pki}/root.pem",
    )
    run(f"--admin-port=0.0.0.0:{port}", *options, port=port)
    api = f"https://127.0.0.1:{port}/api/v1"
    root = ("--cacert", f"{pki}/root.pem")
    own = ("--cert", f"{pki}/client.pem", "--key", f"{pki}/client.key")
    until("it answers", lambda: _curl(f"{api}/repo", *root, *own).returncode == 0)
    assert _curl(f"{api}/repo", *root).returncode != 0
    foreign = ("-H", "Origin: https://evil.example")
    refused = _curl(f"{api}/repo", "-o", "/dev/null", "-w", "%{http_code}", *root, *own, *foreign)
    assert refused.stdout == "401"
    _curl(f"{api}/repo/app", "-X", "POST", *root, *own)
    source = answering(served, "proven")
    _curl(f"{api}/repo-files/app/main.js", "--data-binary", source, *root, *own)
    _curl(f"{api}/repo/app", "-X", "PATCH", *root, *own)
    shown = (f"--tls-cert={pki}/client.pem", f"--tls-key={pki}/client.key")
    instance = run(
        f"--tls-trusted={pki}/root.pem", *shown, f"https://127.0.0.1:{port}/repo/app", port=served
    )
    until("the version answers", lambda: instance.ask("GET", "/") == (200, "proven"))


def test_settings_that_cannot_work_are_told(pki: Path) -> None:
    (port,) = free_ports(1)
    for args, why in (
        ((f"--admin-tls-cert={pki}/server.pem",), "needs its key"),
        ((f"--admin-tls-trusted={pki}/root.pem",), "a certificate is missing"),
        ((f"--admin-tls-cert={pki}/no.pem", f"--admin-tls-key={pki}/server.key"), "no.pem"),
        ((f"--admin-tls-cert={pki}/server.pem", f"--admin-tls-key={pki}/client.key"), "server.pem"),
        (("--init-repo=/no/such/folder",), "/no/such/folder"),
    ):
        done = run_once(f"--admin-port={port}", *args)
        assert done.returncode != 0
        assert why in done.stderr, done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("only root may mount a small disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_refuses_and_loses_nothing(run: Run, small_disk: Path) -> None:
    repo = serve(run, str(small_disk))
    repo.ask("POST", "/api/v1/repo/app")
    publish(repo, "/app", "first", "1")
    big = "x" * 100_000
    statuses = [
        repo.ask("POST", f"/api/v1/repo-files/app/big-{number}", "--data-binary", big)
        for number in range(4)
    ]
    assert statuses[0][0] == 201
    status, why = statuses[-1]
    assert status == 400
    assert "No space left" in why
    shown = repo.show("/app")
    assert "/big-0" in shown["editFiles"]
    assert "/big-3" not in shown["editFiles"]
    assert repo.ask("GET", "/repo/app/main.js") == (200, "first")
    repo.process.kill()
    repo.process.wait(PATIENCE)
    repo = serve(run, str(small_disk))
    assert repo.show("/app")["version"] == "1"
    assert repo.ask("GET", "/api/v1/repo-files/app/big-0") == (200, big)


def test_a_repository_begins_with_what_a_folder_has(run: Run, tmp_path: Path) -> None:
    (tmp_path / "init/team/hello/lib").mkdir(parents=True)
    (tmp_path / "init/team/hello/main.js").write_text("main")
    (tmp_path / "init/team/hello/lib/a.js").write_text("a")
    (port,) = free_ports(1)
    repo = run(f"--admin-port={port}", f"--init-repo={tmp_path}/init", port=port)
    until("it answers", lambda: repo.ask("GET", "/api/v1/repo")[0] == 200)
    assert repo.ask("GET", "/api/v1/repo")[1] == "/team/hello\n"
    assert repo.ask("GET", "/repo/team/hello/") == (200, "/main.js\n/lib/a.js\n")
    dump = json.loads(repo.ask("GET", "/api/v1/dump-store")[1])
    assert dump["/team/hello"]["files"] == {"/main.js": 4, "/lib/a.js": 1}
    status = json.loads(repo.ask("GET", "/status")[1])
    assert (status["mode"], status["codebases"]) == ("repo", 1)
    for method, path, expected in (
        ("POST", "/metrics", 405),
        ("DELETE", "/status", 405),
        ("GET", "/nothing", 404),
        ("POST", "/nothing", 404),
        ("PUT", "/api/v1/repo/team/hello", 405),
        ("GET", "/api/v1/metrics/nobody", 404),
    ):
        assert repo.ask(method, path)[0] == expected, (method, path)


def test_instances_report_their_metrics_and_logs(run: Run) -> None:
    repo = serve(run)
    repo.ask("POST", "/api/v1/repo/app")
    (port,) = free_ports(1)
    source = f"""
        const hits = new stats.Counter('hits', ['path'])
        const log = new logging.TextLogger('audit').log
        pipy.listen({port}, $ => $.serveHTTP(req => (
          hits.withLabels(req.head.path).increase(), log(req.head.path), new Message('ok'))))
    """
    publish(repo, "/app", source, "1")
    url = f"http://127.0.0.1:{repo.port}/repo/app"
    instance = run("--instance-name=edge", "--instance-uuid=u-1", url, port=port)
    until("it serves", lambda: instance.ask("GET", "/a") == (200, "ok"))
    sample = 'hits{instance="edge",path="/a"}'
    until("hits are merged", lambda: sample in repo.ask("GET", "/metrics")[1])
    (status,) = repo.statuses("/app")
    assert "metrics" not in status
    until("its log is named", lambda: "audit" in repo.statuses("/app")[0]["logs"])
    measured = json.loads(repo.ask("GET", "/api/v1/metrics/u-1/hits")[1])
    assert measured["metrics"][0]["key"] == 'hits{path="/a"}'


def test_the_admin_port_tells_what_there_is(start: Start, run: Run) -> None:
    (admin,) = free_ports(1)
    source = """
        const size = new stats.Gauge('size', [], gauge => gauge.set(42))
        const log = new logging.JSONLogger('audit').log
        pipy.listen(PORT0, $ => $.serveHTTP(req => {
          if (req.head.path === '/loop') for (;;);
          log({ path: req.head.path })
          console.debug('asked for', req.head.path)
          return new Message('ok')
        }))
    """
    pipy = start(source, f"--admin-port={admin}", "--threads=2")
    asked = Served(pipy.process, admin, pipy.log_file)
    assert pipy.curl("/a").stdout == "ok"
    pipy.curl("/loop")
    page = asked.ask("GET", "/metrics")[1]
    values: dict[str, float] = {}
    for line in page.splitlines():
        if not line.startswith("#"):
            key, value = line.rsplit(" ", 1)
            values[key] = float(value)
    assert values["size"] == 42
    both = ('{worker="0"}', '{worker="1"}')
    assert sum(values[f"pipy_script_overruns_total{worker}"] for worker in both) == 1
    assert sum(values[f"pipy_inbound_total{worker}"] for worker in both) >= 2
    for worker in both:
        assert values[f"pipy_script_heap_bytes{worker}"] > 100_000
        assert values[f"pipy_pipeline_count{worker}"] == 0
    dump = json.loads(asked.ask("GET", "/dump")[1])
    assert [one["worker"] for one in dump["workers"]] == [0, 1]
    assert asked.ask("GET", "/dump/pipelines+inbound")[1].startswith("WORKER")
    assert asked.ask("GET", "/dump/nonsense")[0] == 404
    assert asked.ask("GET", "/log/audit")[1] == '{"path":"/a"}\n'
    assert "[ERR]" in asked.ask("GET", "/log")[1]
    assert asked.ask("GET", "/log/nothing")[0] == 404
    assert asked.ask("GET", "/options") == (200, "--log-level=info\n")
    assert asked.ask("POST", "/options", "-d", "--log-level=debug")[0] == 201
    assert asked.ask("POST", "/options", "-d", "--log-level=loud")[0] == 400
    assert asked.ask("POST", "/options", "-d", "--threads=3")[0] == 400
    pipy.curl("/b")
    pipy.logged("asked for /b")
    assert "/main.js\n" in asked.ask("GET", "/api/v1/files")[1]
    assert "stats.Gauge" in asked.ask("GET", "/api/v1/files/main.js")[1]
    assert asked.ask("GET", "/api/v1/files/..%2fsecret")[0] in (400, 404)
    assert asked.ask("GET", "/api/v1/program") == (200, "/main.js\n")
    drawn = asked.ask(
        "POST", "/api/v1/graph", "-d", "pipy.listen(1, $ => $.demuxHTTP().to($ => $.dummy()))"
    )
    graph = json.loads(drawn[1])
    names = [node["name"] for node in graph["nodes"]]
    assert names == ["Listen on 1", "demuxHTTP", "", "dummy"]
    assert asked.ask("POST", "/api/v1/graph", "-d", "pipy.listen(")[0] == 400
    assert asked.ask("PATCH", "/api/v1/program")[0] == 201
    pipy.logged("Codebase reloaded")
    assert asked.ask("DELETE", "/api/v1/program")[0] == 204
    assert pipy.process.wait(PATIENCE) == 0


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs a browser: chromium")
def test_the_console_shows_codebases_files_and_instances(run: Run, tmp_path: Path) -> None:
    repo = serve(run)
    (port,) = free_ports(1)
    repo.ask("POST", "/api/v1/repo/team/hello")
    publish(repo, "/team/hello", answering(port, "<b>hello</b>"), "7")
    repo.ask("POST", "/api/v1/repo/other")
    run("--instance-name=edge-<i>1", f"http://127.0.0.1:{repo.port}/repo/team/hello", port=port)
    until("it runs", lambda: any(one["version"] == "7" for one in repo.statuses("/team/hello")))
    repo.ask("POST", "/api/v1/repo-files/team/hello/draft.js", "-d", "// a draft")
    command = [
        "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=4000",
        f"--user-data-dir={tmp_path}/browser", "--dump-dom",
        f"http://127.0.0.1:{repo.port}/#/team/hello",
    ]  # fmt: skip
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    page = done.stdout
    assert 'id="title">/team/hello</h2>' in page, done.stderr
    assert "version 7 · main /main.js" in page
    assert "1 file edited, not committed" in page
    assert "/draft.js" in page
    assert "/other" in page
    assert "edge-&lt;i&gt;1" in page, "names are text, and no markup"
    assert "running" in page
