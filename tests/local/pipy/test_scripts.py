"""Scripts of both styles, as users start them: contexts, files, errors, limits, reload."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Start, run_once


def test_a_script_answers_and_proxies(start: Start) -> None:
    pipy = start(
        """
        pipy({ _path: '' })
        .listen(PORT0)
          .demuxHTTP().to($ => $
            .handleMessageStart(m => (_path = m.head.path, m.head.headers['x-added'] = 'yes'))
            .branch(
              () => _path.startsWith('/hi'),
              $ => $.replaceMessage(() => new Message('Hi, ' + _path)),
              $ => $.muxHTTP(() => 'upstream').to($ => $.connect('localhost:PORT1'))
            ))
        .listen(PORT1)
          .serveHTTP(req => new Message(
            { status: 201, headers: { 'x-saw': req.head.headers['x-added'] } },
            req.head.method + ' ' + req.body.size))
        """,
        ports=2,
    )
    assert pipy.curl("/hi/there").stdout == "Hi, /hi/there"
    answer = pipy.curl("/other", "-i", "-d", "12345").stdout
    assert answer.startswith("HTTP/1.1 201 ")
    assert "x-saw: yes" in answer
    assert answer.endswith("POST 5")


def test_each_request_has_a_context_of_its_own(start: Start) -> None:
    pipy = start(
        """
        pipy({ _count: 0 })
        .listen(PORT0)
          .onStart(() => void (_count = 10))
          .demuxHTTP().to($ => $
            .handleMessageStart(() => _count++)
            .replaceMessage(() => new Message(String(_count))))
        """
    )
    # Two requests on one connection: each got a copy of the connection's variables.
    url = f"http://127.0.0.1:{pipy.ports[0]}/"
    assert pipy.curl("/", url).stdout == "1111"


def test_files_share_variables_by_namespace_and_chain_into_each_other(start: Start) -> None:
    pipy = start(
        """
        pipy().export('main', { __user: 'nobody' })
        .listen(PORT0)
          .demuxHTTP().to($ => $.chain(['plugins_auth.js', 'plugins_answer.js']))
        """,
        plugins_auth="""
        pipy().import({ __user: 'main' })
        .pipeline().handleMessageStart(msg => __user = msg.head.headers['x-user'] || __user).chain()
        """,
        plugins_answer="""
        pipy().import({ __user: 'main' })
        .pipeline().replaceMessage(() => new Message('you are ' + __user + ', says ' + __filename))
        """,
    )
    assert pipy.curl("/", "-H", "x-user: ann").stdout == "you are ann, says /plugins_answer.js"
    assert pipy.curl("/").stdout == "you are nobody, says /plugins_answer.js"


def test_the_newer_style_has_modules_and_fiber_variables(start: Start) -> None:
    pipy = start(
        """
        import greet, { SUFFIX } from './greet.js'
        var $who
        pipy.listen(PORT0, $ => $
          .demuxHTTP().to($ => $
            .handleMessageStart(msg => { $who = msg.head.path.slice(1) })
            .replaceMessage(async () => {
              const text = await greet($who)
              return new Message(text + SUFFIX + $who)
            })))
        """,
        greet="export default async who => `Hello ${who}`\nexport const SUFFIX = '! '",
    )
    assert pipy.curl("/ann").stdout == "Hello ann! ann"


def test_a_failing_callback_costs_its_request_and_says_where(start: Start) -> None:
    pipy = start(
        "pipy()\n.listen(PORT0)\n  .serveHTTP(req =>\n"
        "    req.head.path == '/bad' ? boom() : new Message('fine'))\n"
    )
    assert "200" not in pipy.curl("/bad", "-o", "/dev/null", "-w", "%{http_code}").stdout
    log = pipy.logged("unresolved identifier 'boom'")
    assert "/main.js:4:31" in log
    assert "req.head.path == '/bad' ? boom()" in log
    assert pipy.curl("/good").stdout == "fine"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{ for (;;); }", "took longer than"),
        ("(f => f(f))(f => f(f))", "stack"),
        ("{ return new Uint8Array(400 * 1024 * 1024) }", "memory"),
    ],
    ids=["endless", "deep", "greedy"],
)
def test_an_overrun_costs_its_request_alone(start: Start, body: str, said: str) -> None:
    pipy = start(
        "pipy().listen(PORT0).serveHTTP(r => "
        f"r.head.path == '/bad' ? (() => {body})() : new Message('fine'))"
    )
    assert pipy.curl("/bad", "-o", "/dev/null", "-w", "%{http_code}").stdout != "200"
    assert "/main.js:1:" in pipy.logged(said)
    assert pipy.curl("/good").stdout == "fine"


def test_reload_takes_the_new_script_and_keeps_the_old_when_it_does_not_load(start: Start) -> None:
    pipy = start("pipy().listen(PORT0).serveHTTP(new Message('one'))")
    assert pipy.curl("/").stdout == "one"
    pipy.write("pipy().listen(PORT0).serveHTTP(")
    pipy.reload()
    assert "/main.js:1:" in pipy.logged("stays as it was")
    assert pipy.curl("/").stdout == "one"
    pipy.write("pipy().listen(PORT0).serveHTTP(new Message('two'))")
    pipy.reload()
    pipy.logged("Codebase reloaded")
    assert pipy.curl("/").stdout == "two"


def test_fork_copies_and_wait_waits_for_what_it_sets(start: Start) -> None:
    pipy = start(
        """
        pipy({ _checked: false })
        .listen(PORT0)
          .demuxHTTP().to($ => $
            .fork().to($ => $
              .replaceMessageStart(async m => { await null; _checked = true; return m }))
            .wait(() => _checked)
            .replaceMessage(() => new Message('checked: ' + _checked)))
        """
    )
    assert pipy.curl("/").stdout == "checked: true"


def test_what_no_server_answers_is_said_by_status(start: Start) -> None:
    pipy = start(
        "pipy().listen(PORT0).demuxHTTP().to($ => $.muxHTTP().to($ => $.connect('127.0.0.1:1')))"
    )
    assert pipy.curl("/", "-o", "/dev/null", "-w", "%{http_code}").stdout == "502"


def test_expressions_print_their_value() -> None:
    assert run_once("-e", "1 + 1").stdout == "2\n"
    assert (
        run_once("-e", "({ a: [1, 'x'], d: new Data('hi') })").stdout
        == '{ "a": [ 1, "x" ], "d": Data[ 68 69 ] }\n'
    )


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("pipy().listen(1).muxHTP()", "did you mean muxHTTP()?"),
        ("pipy().listen(1).demuxHTTP()", ".to(...)"),
        ("pipy().dummy()", "no pipeline found"),
        ("pipy().listen(1).link('nowhere')", "pipeline not found: nowhere"),
        ("pipy().listen(1).chain(['gone.js'])", "cannot open script: /gone.js"),
        ("pipy().listen(", "main.js:1:"),
    ],
)
def test_a_script_that_cannot_be_is_refused_with_the_reason(script: str, said: str) -> None:
    result = run_once("-e", script)
    assert result.returncode != 0
    assert said in result.stderr


def test_check_says_whether_a_script_loads(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.js", tmp_path / "bad.js"
    good.write_text("pipy().listen(18080).serveHTTP(new Message('x'))")
    bad.write_text("pipy()\n  .listen(80)\n  .nothing()")
    assert run_once("--check", str(good)).returncode == 0
    refused = run_once("--check", str(bad))
    assert refused.returncode == 255
    assert "/bad.js:3:4" in refused.stderr
    assert "does not exist" in run_once(str(tmp_path / "none.js")).stderr


def test_the_filters_are_listed() -> None:
    listed = run_once("--list-filters").stdout.splitlines()
    names = [line.split()[0] for line in listed]
    assert {"demuxHTTP", "muxHTTP", "handleMessage", "branch", "chain"} <= set(names)
    assert len(names) == len(set(names))
    assert all(len(line.split()) > 2 for line in listed)
