"""A repository while things happen: logs that are watched, a kill amid commits, a relay.

And what the admin port of a script changes: its files.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from .conftest import PATIENCE, Start, free_ports, run_once
from .test_repo import Run, Served, answering, publish, run, serve, until

__all__ = ["run"]

ROOT = Path(__file__).parents[3]


@contextmanager
def watch(port: int, path: str, **headers: str) -> Iterator[ClientConnection]:
    """Watch a log."""
    url = f"ws://127.0.0.1:{port}/api/v1/log/{path}"
    with connect(url, additional_headers=headers, open_timeout=PATIENCE, proxy=None) as socket:
        socket.send("watch\n")
        yield socket


def told(socket: ClientConnection, text: str) -> str:
    """Wait until a log says this; all that it has said."""
    said = ""
    while text not in said:
        piece = socket.recv(PATIENCE)
        said += piece if isinstance(piece, str) else piece.decode()
    return said


LOGGING = """
pipy({{ _log: null }})
.listen({port})
.serveHTTP(msg => (console.log('asked for ' + msg.head.path), new Message('ok')))
"""


def test_the_log_of_an_instance_is_watched_at_the_repository(run: Run) -> None:
    repo = serve(run)
    (port,) = free_ports(1)
    repo.ask("POST", "/api/v1/repo/app")
    publish(repo, "/app", LOGGING.format(port=port), "1")
    url = f"http://127.0.0.1:{repo.port}/repo/app"
    instance = run("--instance-uuid=one", url, port=port)
    until("it runs", lambda: instance.ask("GET", "/before")[0] == 200)
    # Nobody has a link yet, or has: who watches hears in either case.
    with watch(repo.port, "one/pipy") as first:
        told(first, "asked for /before")
        instance.ask("GET", "/during")
        assert "asked for /before" not in told(first, "asked for /during")
        with watch(repo.port, "one/pipy") as second:
            both = told(second, "asked for /during")
            assert both.index("asked for /before") < both.index("asked for /during")
            instance.ask("GET", "/later")
            for socket in (first, second):
                assert told(socket, "asked for /later").count("asked for /later") == 1
    # The instance comes back with another process: it is asked again.
    with watch(repo.port, "one/pipy") as third:
        told(third, "asked for /later")
        instance.process.kill()
        instance.process.wait(PATIENCE)
        again = run("--instance-uuid=one", url, port=port)
        until("it runs", lambda: again.ask("GET", "/anew")[0] == 200)
        told(third, "asked for /anew")
    assert repo.stop() == 0


def test_a_log_is_watched_at_the_script_s_own_port_by_who_may(start: Start) -> None:
    (admin,) = free_ports(1)
    pipy = start(LOGGING.format(port="PORT0"), f"--admin-port={admin}")
    assert pipy.curl("/one").stdout == "ok"
    with watch(admin, "pipy") as socket:
        told(socket, "asked for /one")
        pipy.curl("/two")
        told(socket, "asked for /two")
    with (
        pytest.raises(InvalidStatus, match="401"),
        watch(admin, "pipy", Origin="http://elsewhere.example"),
    ):
        pass


def test_a_repository_that_is_killed_amid_commits_has_each_whole(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    repo = serve(run, str(folder))
    repo.ask("POST", "/api/v1/repo/app")
    done = 0
    for _ in range(2):
        over = threading.Event()
        acknowledged = [done]

        def work(
            repo: Served = repo, over: threading.Event = over, ends: list[int] = acknowledged
        ) -> None:
            while not over.is_set():
                number = ends[-1] + 1
                for name in ("a", "b"):
                    path = f"/api/v1/repo-files/app/{name}"
                    if repo.ask("POST", path, "--data-binary", str(number) * 2000)[0] != 201:
                        return
                body = json.dumps({"version": str(number)})
                if repo.ask("PATCH", "/api/v1/repo/app", "-d", body)[0] != 201:
                    return
                ends.append(number)

        worker = threading.Thread(target=work)
        worker.start()

        def enough(ends: list[int] = acknowledged) -> bool:
            return len(ends) > 5

        until("some are committed", enough)
        repo.process.kill()
        over.set()
        repo.process.wait(PATIENCE)
        worker.join()
        repo = serve(run, str(folder))
        version = int(repo.show("/app")["version"])
        # What was answered is there; the one that was under way is there as a whole, or not at all.
        assert version in (acknowledged[-1], acknowledged[-1] + 1)
        for name in ("a", "b"):
            assert repo.ask("GET", f"/repo/app/{name}") == (200, str(version) * 2000)
        done = version


def test_instances_reach_a_repository_through_a_relay(run: Run) -> None:
    repo = serve(run)
    port, relayed = free_ports(2)
    repo.ask("POST", "/api/v1/repo/app")
    publish(repo, "/app", answering(port, "one"), "1")
    relay = run(f"--admin-port={relayed}", f"http://127.0.0.1:{repo.port}", port=relayed)
    until("it hands on", lambda: relay.ask("GET", "/repo/app/")[0] == 200)
    assert relay.ask("GET", "/api/v1/repo")[0] == 404
    instance = run(f"http://127.0.0.1:{relayed}/repo/app", port=port)
    until("it runs", lambda: instance.ask("GET", "/") == (200, "one"))
    publish(repo, "/app", answering(port, "two"), "2")
    until("it follows", lambda: instance.ask("GET", "/") == (200, "two"))
    until("it reports", lambda: [s["version"] for s in repo.statuses("/app")] == ["2"])
    repo.stop()
    assert relay.ask("GET", "/repo/app/")[0] == 502


def test_a_repository_runs_a_codebase_itself(run: Run, tmp_path: Path) -> None:
    port, admin = free_ports(2)
    (tmp_path / "init/app").mkdir(parents=True)
    (tmp_path / "init/app/main.js").write_text(answering(port, "here"))
    both = run(
        f"--admin-port={admin}", f"--init-repo={tmp_path}/init", "--init-code=app", port=port
    )
    until("the codebase runs", lambda: both.ask("GET", "/") == (200, "here"))
    repo = Served(both.process, admin, both.log_file)
    publish(repo, "/app", answering(port, "changed"), "2")
    until("it follows", lambda: both.ask("GET", "/") == (200, "changed"))
    assert both.stop() == 0


def test_files_of_a_script_are_written_through_its_admin_port(start: Start, tmp_path: Path) -> None:
    (admin,) = free_ports(1)
    (tmp_path / "outside").mkdir()
    pages, requests = tmp_path / "pages", tmp_path / "requests"
    pages.mkdir()
    (pages / "hello.html").write_text("a page")
    pipy = start(
        "pipy.listen(PORT0, $ => $.serveHTTP(() => new Message(pipy.load('text')?.toString())))",
        f"--admin-port={admin}",
        f"--admin-gui={pages}",
        f"--admin-log-file={requests}",
    )
    port = Served(pipy.process, admin, pipy.log_file)
    files = "/api/v1/files"
    assert pipy.curl("/").stdout == ""
    assert port.ask("POST", f"{files}/text", "--data-binary", "written")[0] == 201
    assert pipy.curl("/").stdout == "written"
    assert port.ask("POST", f"{files}/lib/new.js", "--data-binary", "1")[0] == 201
    assert port.ask("GET", f"{files}/lib/new.js") == (200, "1")
    assert port.ask("DELETE", f"{files}/lib/new.js")[0] == 204
    assert port.ask("DELETE", f"{files}/lib/new.js")[0] == 404
    # Nothing leads out of the folder.
    (pipy.script.parent / "link").symlink_to(tmp_path / "outside")
    for path in ("link/x", "link"):
        status, why = port.ask("POST", f"{files}/{path}", "--data-binary", "x")
        assert (status, "not within" in why) == (400, True), why
    assert list((tmp_path / "outside").iterdir()) == []
    # Another file becomes the script, where it loads.
    other = f"pipy.listen({pipy.ports[0]}, $ => $.serveHTTP(new Message('other')))"
    assert port.ask("POST", f"{files}/other.js", "--data-binary", other)[0] == 201
    assert port.ask("PATCH", files, "-d", '{"main":"/none.js"}')[0] == 400
    assert port.ask("PATCH", files, "-d", '{"main":"/other.js"}')[0] == 201
    until("the other one runs", lambda: pipy.curl("/").stdout == "other")
    assert port.ask("GET", "/hello.html") == (200, "a page")
    assert port.ask("GET", "/nothing.html")[0] == 404
    assert "GET /hello.html 200" in requests.read_text()


def test_options_and_their_page_tell_the_same() -> None:
    page = (ROOT / "docs/reference/pipy.md").read_text()
    helped = run_once("--help").stdout
    # Those of sidecars are for fsm alone.
    own, _, _ = helped.partition("where a sidecar's configuration comes from:")
    options = set(re.findall(r"--[a-z][a-z-]+", own)) - {"--plugin", "--control-plane", "--config"}
    options -= {"--ca", "--token", "--cert", "--key", "--roots"}
    missing = {option for option in options if f"`{option}" not in page}
    assert not missing
    strange = set(re.findall(r"`(--[a-z][a-z-]+)", page)) - options - {"--openssl-engine"}
    assert not strange
    for option in options - {"--help", "--version", "--list-filters", "--args"}:
        # One that is known is passed, with a value where it wants one; what comes behind it is not.
        done = run_once(option, "--bogus", "--bogus")
        assert f"unknown option: {option}" not in done.stderr, option
        assert done.returncode == 255, option


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--openssl-engine=x", "-e", "1"], "there is no OpenSSL here"),
        (["repo://hello"], "there are no built-in codebases"),
        (["--init-code=x", "-e", "1"], "--init-code is for a repository"),
        (["--log-file-rotate-interval=soon", "-e", "1"], "is no time"),
        (["--admin-gui=/no/such/folder", "--admin-port=0"], "/no/such/folder is no folder"),
    ],
)
def test_what_cannot_be_is_said(arguments: list[str], said: str) -> None:
    done = run_once(*arguments)
    assert said in done.stderr
    assert done.returncode != 0
