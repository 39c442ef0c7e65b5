"""The command line of scripts: options, exit codes, signals, where the log goes."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import pytest

from .conftest import PATIENCE, Start, run_once

ANSWERS = "pipy().listen(PORT0).serveHTTP(new Message('ok'))"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--bogus"], "unknown option: --bogus"),
        (["--thread=1", "x.js"], "did you mean --threads?"),
        (["-e"], "missing script"),
        (["--check"], "missing script"),
        (["-f", "/no/such/file.js"], "file or directory does not exist: /no/such/file.js"),
        (["no-such-file.js"], "file or directory does not exist: no-such-file.js"),
        (["--threads=x", "-e", "1"], "--threads expects a number"),
        (["--threads=0", "-e", "1"], "--threads expects a number"),
        (["--threads=100000", "-e", "1"], "number of threads exceeds the maximum"),
        (["--log-level=foo", "-e", "1"], "unknown log level: foo"),
        (["--log-local=foo", "-e", "1"], "unknown place of the log: foo"),
        (["--log-file=/no/such/folder/log", "-e", "1"], "--log-file: /no/such/folder/log"),
        (["-e", "pipy().listen(1).nonsense()"], "nonsense"),
        (["-e", "1 +"], "syntax error"),
        (["-e", "throw new Error('mine')"], "mine"),
        (["-e", "pipy().pipeline('a').link('nowhere')"], "pipeline not found: nowhere"),
        (["-e", "pipy().listen(8080).demuxHTTP()"], "missing .to(...) for the last filter"),
        (["-e", "pipy().listen(8080).dummy().to('x')"], "calling to() without a joint-filter"),
        (["-e", "pipy().dummy()"], "no pipeline found"),
        (["-e", "pipy().pipeline().pipeline()"], "more than one entrance pipelines"),
        (["-e", "pipy().task('1 fortnight')"], "1 fortnight"),
        (["-e", "pipy().task('SIGUSR1')"], "invalid signal name: SIGUSR1"),
        (["-e", "pipy().task('1ms')"], "task interval out of range"),
        (["-e", "pipy().listen('a place')"], "is no address to listen on"),
        (["-e", "pipy().listen('192.0.2.1:80')"], "hint: this machine has no such address"),
        (["-e", "pipy().listen(1).use('/no.js').dummy()"], "hint: is it there"),
        (["--check", "/"], "/ is a folder; give its main file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_said_and_ends_with_255(arguments: list[str], said: str) -> None:
    done = run_once(*arguments)
    assert said in done.stderr
    assert done.returncode == 255
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["-e", "1 + 1"], "2\n"),
        (["-eval", "'a' + 'b'"], "ab\n"),
        (["--eval", "({ a: 1 })"], '{ "a": 1 }\n'),
        (["-e", "new Data('hi')"], "Data[ 68 69 ]\n"),
        (["-e", "pipy.argv.slice(1).join()", "--", "a", "--b"], "a,--b\n"),
        (["-e", "pipy.argv.slice(1).join()", "--args", "a", "-c"], "a,-c\n"),
        (
            ["-e", "pipy.argv.slice(1).join()", "--args", "a", "--pipy-options", "--threads=1"],
            "a\n",
        ),
        (["1 + 2"], "3\n"),
        (["-e", "void 0"], ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_expression_is_evaluated(arguments: list[str], printed: str) -> None:
    done = run_once(*arguments)
    assert (done.returncode, done.stdout) == (0, printed), done.stderr


@pytest.mark.parametrize("option", ["-h", "-help", "--help"])
def test_help_is_printed(option: str) -> None:
    assert "usage:" in run_once(option).stdout


@pytest.mark.parametrize("option", ["-v", "-version", "--version"])
def test_the_version_is_printed(option: str) -> None:
    assert run_once(option).stdout.startswith("pipy ")


def test_a_script_chooses_its_exit_code() -> None:
    assert run_once("-e", "pipy.exit(3)").returncode == 3
    assert run_once("-e", "pipy().task().onStart(() => void pipy.exit(7)).dummy()").returncode == 7


def test_an_address_that_is_taken_ends_with_255_unless_forced(start: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        script = tmp_path / "taken.js"
        script.write_text(f"pipy().listen('127.0.0.1:{port}').dummy()")
        done = run_once(str(script))
        assert done.returncode == 255
        said = f"Cannot start listening on TCP port {port} at 127.0.0.1: bind: "
        assert said in done.stderr
        forced = start(
            f"pipy().listen('127.0.0.1:{port}').dummy().listen(PORT0).serveHTTP(new Message('ok'))",
            "--force-start",
        )
        assert forced.curl("/").stdout == "ok"
        assert said in forced.log


def test_an_interrupt_drains_and_a_second_ends(start: Start) -> None:
    pipy = start(
        "pipy().listen(PORT0).demuxHTTP().to($ => $"
        ".replaceMessage(m => new Timeout(m.head.path === '/long' ? 60 : 0).wait()"
        ".then(() => new Message('ok'))))"
    )
    with socket.create_connection(("127.0.0.1", pipy.ports[0]), PATIENCE) as peer:
        peer.sendall(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
        assert pipy.curl("/").stdout == "ok"
        pipy.process.send_signal(signal.SIGINT)
        pipy.logged("Shutting down")
        assert pipy.process.poll() is None
        pipy.process.send_signal(signal.SIGINT)
        assert pipy.process.wait(PATIENCE) == 0


def test_what_has_nothing_left_to_do_ends_with_0() -> None:
    done = run_once(
        "-e", "pipy().task().onStart(() => console.log('ran')).replaceStreamStart(new StreamEnd)"
    )
    assert done.returncode == 0
    assert "ran" in done.stderr


def test_nothing_is_loaded_anew_where_that_is_said(start: Start) -> None:
    pipy = start(ANSWERS, "--no-reload")
    assert pipy.curl("/").stdout == "ok"
    pipy.write(ANSWERS.replace("ok", "changed"))
    pipy.reload()
    assert pipy.curl("/").stdout == "ok"
    assert "Reloading" not in pipy.log


def test_the_log_goes_where_it_is_said(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "pipy().task().onStart(() => { for (let i = 0; i < 50; i++) console.log('line', i) }).replaceStreamStart(new StreamEnd)"  # noqa: E501
    done = run_once(
        "--log-local=null",
        f"--log-file={log}",
        "--log-file-max-size=1k",
        "--log-file-max-count=2",
        "-e",
        script,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "line 49" in log.read_text()
    assert "line" in Path(f"{log}.1").read_text()
    assert not Path(f"{log}.2").exists()
    shown = run_once("--log-local=stdout", "-e", script)
    assert "line 49" in shown.stdout
    assert shown.stderr == ""
    quiet = run_once("--log-level=error", "-e", "console.log('x'); console.error('y')")
    assert "y" in quiet.stderr
    assert "x" not in quiet.stderr


def test_whose_port_it_is_can_be_found_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = run_once("-e", f"pipy().listen('127.0.0.1:{port}').dummy()")
    assert f"Cannot start listening on TCP port {port} at 127.0.0.1: bind:" in done.stderr
    assert "hint: another program has this port" in done.stderr
    assert done.returncode == 255


def test_a_log_that_was_put_aside_is_begun_anew(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "pipy().listen(PORT0).serveHTTP(m => (console.log(m.head.path), new Message('ok')))"
    pipy = start(script, f"--log-file={log}")
    assert pipy.curl("/before").stdout == "ok"
    log.rename(tmp_path / "aside")
    deadline = time.monotonic() + PATIENCE
    while not log.exists():
        assert time.monotonic() < deadline, "no log was begun"
        assert pipy.curl("/after").stdout == "ok"
        time.sleep(0.05)
    assert "/before" in (tmp_path / "aside").read_text()
    assert "/after" in log.read_text()


def test_more_threads_answer_on_one_port(start: Start) -> None:
    pipy = start(
        "pipy().listen(PORT0).serveHTTP(() => new Message(`${__thread.id}/${__thread.concurrency}`))",  # noqa: E501
        "--threads=2",
        "--reuse-port",
    )
    seen = {pipy.curl("/").stdout for _ in range(40)}
    assert seen == {"0/2", "1/2"}


def test_tasks_run_when_their_signal_comes(start: Start) -> None:
    pipy = start(
        """
        pipy()
        .listen(PORT0).serveHTTP(new Message('ok'))
        .task('SIGWINCH').onStart(() => (console.log('wider'), new StreamEnd))
        .task('SIGTERM').onStart(() => (console.log('told to end'), new StreamEnd))
        """
    )
    assert pipy.curl("/").stdout == "ok"
    pipy.process.send_signal(signal.SIGWINCH)
    pipy.logged("wider")
    pipy.process.send_signal(signal.SIGTERM)
    pipy.logged("told to end")
    # A task in its place: it lives on.
    assert pipy.curl("/").stdout == "ok"
    pipy.process.send_signal(signal.SIGINT)
    assert pipy.process.wait(PATIENCE) == 0


def test_what_is_wanted_before_the_end_is_done(start: Start) -> None:
    pipy = start(
        """
        pipy()
        .listen(PORT0).serveHTTP(new Message('ok'))
        .exit()
          .onStart(() => new Timeout(0.05).wait().then(() => (console.log('last words'), new StreamEnd)))
        """  # noqa: E501
    )
    assert pipy.curl("/").stdout == "ok"
    pipy.process.terminate()
    assert pipy.process.wait(PATIENCE) == 0
    assert "last words" in pipy.log
