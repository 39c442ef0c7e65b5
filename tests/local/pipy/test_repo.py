"""The repository with the real binary and curl: versions, instances that follow, the admin port."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .conftest import PATIENCE, PIPY, Start, free_ports, run_once


@dataclass
class Served:
    """A pipy at work, and the port that it is asked on."""

    process: subprocess.Popen[bytes]
    port: int
    log_file: Path

    def ask(self, method: str, path: str, *args: str) -> tuple[int, str]:
        """The status and the body of an answer; 0 where there is none."""
        url = f"http://127.0.0.1:{self.port}{path}"
        command = ["curl", "-s", "-m", "10", "-X", method, "-w", "\n%{http_code}", *args, url]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body

    def show(self, name: str) -> dict[str, Any]:
        """A codebase as the API shows it."""
        status, body = self.ask("GET", f"/api/v1/repo{name}")
        assert status == 200, body
        shown: dict[str, Any] = json.loads(body)
        return shown

    def statuses(self, name: str) -> list[dict[str, Any]]:
        """What the instances of a codebase report."""
        return [instance["status"] for instance in self.show(name)["instances"].values()]

    def stop(self) -> int:
        """End it; its exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE)


Run = Callable[..., Served]


def until(what: str, true: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline, f"not within {patience} s: {what}"
        time.sleep(0.02)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Starts a pipy with these arguments; what runs at the end is stopped."""
    running: list[Served] = []

    def begin(*args: str, port: int, token: str = "") -> Served:
        log_file = tmp_path / f"log-{len(running)}"
        with log_file.open("wb") as log:
            environment = {**os.environ, "PIPY_TOKEN": token}
            process = subprocess.Popen([PIPY, *args], stdout=log, stderr=log, env=environment)
        running.append(Served(process, port, log_file))
        return running[-1]

    yield begin
    for served in running:
        if served.process.poll() is None:
            served.process.kill()
            served.process.wait(PATIENCE)


def serve(run: Run, *folder: str, token: str = "", ip: str = "127.0.0.1") -> Served:
    """Start a repository."""
    (port,) = free_ports(1)
    repo = run(f"--admin-port={ip}:{port}", *folder, port=port, token=token)

    def answers() -> bool:
        assert repo.process.poll() is None, repo.log_file.read_text()
        return repo.ask("GET", "/api/v1/repo")[0] != 0

    until("the repository answers", answers)
    return repo


def answering(port: int, text: str) -> str:
    """A script that answers with a text."""
    return f"pipy.listen({port}, $ => $.serveHTTP(() => new Message('{text}')))"


def publish(repo: Served, name: str, source: str, version: str) -> None:
    """Put a script in and commit it."""
    written = repo.ask("POST", f"/api/v1/repo-files{name}/main.js", "--data-binary", source)
    assert written[0] == 201, written
    committed = repo.ask("PATCH", f"/api/v1/repo{name}", "-d", json.dumps({"version": version}))
    assert committed[0] == 201, committed


def test_codebases_are_made_edited_committed_and_survive_a_kill(run: Run, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    folder = str(tmp_path / "store")
    repo = serve(run, folder)
    assert repo.ask("POST", "/api/v1/repo/team/hello", "-d", "{}")[0] == 201
    again = repo.ask("POST", "/api/v1/repo/team/hello", "-d", "{}")
    assert again == (400, "Codebase already exists\n")
    assert repo.ask("GET", "/api/v1/repo") == (200, "/team/hello\n")
    assert repo.show("/team/hello")["version"] == "0"

    file = "/api/v1/repo-files/team/hello/lib/a%20b.txt"
    assert repo.ask("POST", file, "--data-binary", "one\ntwo")[0] == 201
    assert repo.ask("GET", "/repo/team/hello/lib/a%20b.txt")[0] == 404
    assert repo.show("/team/hello")["editFiles"] == ["/lib/a b.txt"]
    assert repo.ask("PATCH", "/api/v1/repo/team/hello", "-d", '{"version":2}')[0] == 201
    assert repo.ask("PATCH", "/api/v1/repo/team/hello", "-d", '{"version":2}')[0] == 400
    assert repo.ask("DELETE", "/api/v1/repo-files/team/hello/main.js")[0] == 204

    repo.process.kill()
    repo.process.wait(PATIENCE)
    repo = serve(run, folder)
    shown = repo.show("/team/hello")
    assert (shown["version"], shown["erasedFiles"]) == ("2", ["/main.js"])
    assert repo.ask("GET", "/repo/team/hello/lib/a%20b.txt") == (200, "one\ntwo")
    manifest = repo.ask("GET", "/repo/team/hello/", "-i")[1].lower()
    assert "etag: 2\n" in manifest
    assert manifest.endswith("\n\n/main.js\n/lib/a b.txt\n")
    assert repo.ask("PATCH", "/api/v1/repo-files/team/hello/main.js")[0] == 201
    assert repo.show("/team/hello")["erasedFiles"] == []
    assert repo.ask("DELETE", "/api/v1/repo/team/hello")[0] == 204
    assert repo.ask("GET", "/api/v1/repo/team/hello")[0] == 404
    assert repo.stop() == 0


def test_one_process_has_a_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    serve(run, str(tmp_path / "store"))
    (port,) = free_ports(1)
    other = run_once(f"--admin-port={port}", str(tmp_path / "store"))
    assert other.returncode == 255
    assert "another process serves this folder" in other.stderr


def test_derived_codebases_inherit_hide_and_replace(run: Run) -> None:
    repo = serve(run)
    assert repo.ask("POST", "/api/v1/repo/no", "-d", '{"base":"/base"}') == (
        400,
        "Base codebase not found\n",
    )
    repo.ask("POST", "/api/v1/repo/base")
    repo.ask("POST", "/api/v1/repo-files/base/shared.js", "-d", "base")
    repo.ask("PATCH", "/api/v1/repo/base")
    assert repo.ask("POST", "/api/v1/repo/mine", "-d", '{"base":"/base"}')[0] == 201
    assert repo.show("/base")["derived"] == ["/mine"]
    assert repo.show("/mine")["baseFiles"] == ["/main.js", "/shared.js"]
    assert repo.ask("GET", "/repo/mine/shared.js") == (200, "base")
    repo.ask("POST", "/api/v1/repo-files/mine/shared.js", "-d", "own")
    repo.ask("PATCH", "/api/v1/repo/mine")
    assert repo.ask("GET", "/repo/mine/shared.js") == (200, "own")
    repo.ask("DELETE", "/api/v1/repo-files/mine/shared.js")
    repo.ask("PATCH", "/api/v1/repo/mine")
    assert repo.ask("GET", "/repo/mine/shared.js")[0] == 404
    assert repo.ask("GET", "/repo/base/shared.js") == (200, "base")
    assert repo.ask("DELETE", "/api/v1/repo/base")[0] == 400


def test_other_machines_need_the_token(run: Run) -> None:
    repo = serve(run, ip="0.0.0.0", token="secret")
    # A name of another host, as a page in a browser would send it, counts as foreign.
    foreign = ("-H", "Host: repo.example")
    assert repo.ask("GET", "/api/v1/repo", *foreign)[0] == 401
    wrong = ("-H", "Authorization: Bearer wrong")
    assert repo.ask("POST", "/api/v1/repo/x", *foreign, *wrong)[0] == 401
    right = ("-H", "Authorization: Bearer secret")
    assert repo.ask("POST", "/api/v1/repo/x", *foreign, *right)[0] == 201
    (port,) = free_ports(1)
    bare = run_once(f"--admin-port=0.0.0.0:{port}")
    assert bare.returncode == 255
    assert "set PIPY_TOKEN" in bare.stderr


def test_an_instance_follows_and_keeps_what_runs(run: Run) -> None:
    repo = serve(run)
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{repo.port}/repo/app"
    # The codebase may come later than its instance.
    instance = run("--instance-name=first", url, port=port)
    repo.ask("POST", "/api/v1/repo/app")
    publish(repo, "/app", answering(port, "one"), "1")
    until("version 1 answers", lambda: instance.ask("GET", "/") == (200, "one"))

    publish(repo, "/app", answering(port, "two"), "2")
    until("version 2 answers", lambda: instance.ask("GET", "/") == (200, "two"), 3)
    until("2 is reported", lambda: repo.statuses("/app")[0]["version"] == "2", 3)

    publish(repo, "/app", "pipy.listen(", "3")
    until("3 is refused", lambda: "refused" in repo.statuses("/app")[0], 3)
    (status,) = repo.statuses("/app")
    assert (status["name"], status["version"]) == ("first", "2")
    assert status["refused"]["version"] == "3"
    assert "main.js" in status["refused"]["error"]
    assert instance.ask("GET", "/") == (200, "two")

    publish(repo, "/app", answering(port, "four"), "4")
    until("version 4 answers", lambda: instance.ask("GET", "/") == (200, "four"), 3)
    until("nothing is refused", lambda: "refused" not in repo.statuses("/app")[0], 3)
    assert 'pipy_repo_instances{codebase="/app"} 1' in repo.ask("GET", "/metrics")[1]
    repo.process.kill()
    until("the loss is said", lambda: "asking again" in instance.log_file.read_text())
    assert instance.ask("GET", "/") == (200, "four")
    assert instance.stop() == 0


def test_a_hundred_instances_follow_one_repository(run: Run) -> None:
    repo = serve(run)
    repo.ask("POST", "/api/v1/repo/many")
    publish(repo, "/many", "pipy().task('1h').replaceMessage(() => new StreamEnd)", "1")
    url = f"http://127.0.0.1:{repo.port}/repo/many"
    for number in range(100):
        run(f"--instance-name=i-{number}", url, port=0)

    def all_run(version: str) -> bool:
        statuses = repo.statuses("/many")
        return len(statuses) == 100 and all(one["version"] == version for one in statuses)

    until("all run version 1", lambda: all_run("1"), 60)
    assert len({status["name"] for status in repo.statuses("/many")}) == 100
    publish(repo, "/many", "pipy().task('2h').replaceMessage(() => new StreamEnd)", "2")
    until("all run version 2", lambda: all_run("2"), 20)


def test_the_admin_port_has_metrics_and_status(start: Start, run: Run) -> None:
    (admin,) = free_ports(1)
    source = """
        const hits = new stats.Counter('hits', ['path'])
        const size = new stats.Histogram('size', [1, 10])
        pipy.listen(PORT0, $ => $.serveHTTP(req => (
          hits.withLabels(req.head.path).increase(), size.observe(5), new Message('ok'))))
    """
    pipy = start(source, f"--admin-port={admin}")
    asked = Served(pipy.process, admin, pipy.log_file)
    assert [pipy.curl("/a").stdout for _ in range(3)] == ["ok"] * 3
    page = asked.ask("GET", "/metrics")[1].splitlines()
    assert 'hits{path="/a"} 3' in page
    assert 'size_bucket{le="1"} 0' in page
    assert 'size_bucket{le="10"} 3' in page
    assert 'size_bucket{le="+Inf"} 3' in page
    assert "pipy_script_loads_total 1" in page
    pipy.write("pipy.listen(")
    pipy.reload()
    pipy.logged("stays as it was")
    status = json.loads(asked.ask("GET", "/status")[1])
    assert (status["failures"], status["version"]) == (1, "0")
    assert "main.js" in status["error"]
    assert asked.ask("GET", "/status", "-H", "Host: evil.example")[0] == 401
    assert asked.ask("GET", "/other")[0] == 404
