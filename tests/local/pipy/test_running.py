"""What a script changes while it runs: where it listens, what it watches, when it ends.

On one thread, and on several.
"""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import pytest

from .conftest import PATIENCE, Start, free_ports


def ask(port: int, said: bytes = b"x") -> str | None:
    """What a port answers; ``None`` where nobody listens, nothing where that has just ended."""
    try:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            client.sendall(said)
            client.shutdown(socket.SHUT_WR)
            return client.makefile("rb").read().decode()
    except ConnectionRefusedError:
        return None
    except ConnectionResetError:
        return ""


def until(port: int, answer: str | None) -> None:
    """Wait until a port answers this."""
    deadline = time.monotonic() + PATIENCE
    while (found := ask(port)) != answer:
        assert time.monotonic() < deadline, f"{port} answers {found!r}, not {answer!r}"
        time.sleep(0.02)


@pytest.mark.parametrize("threads", [1, 2])
def test_ports_are_opened_and_closed_at_any_time(start: Start, threads: int) -> None:
    other, third, fourth = free_ports(3)
    pipy = start(
        f"""
        var others = new ListenerArray([{third}])
        var answer = text => $ => $.replaceData(() => new Data(text))
        var commands = new algo.SharedMap('commands')
        var done = commands.size

        pipy.listen('127.0.0.1:PORT0', $ => $.replaceData(data => {{
          commands.set(String(commands.size), data.toString())
          return new Data('noted')
        }}))
        pipy.listen(others, answer('listed'))

        // Every thread listens for itself: each does what has been said to any.
        function look() {{
          while (done < commands.size) {{
            switch (commands.get(String(done++))) {{
              case 'open': pipy.listen('127.0.0.1:{other}', answer('opened')); break
              case 'again': pipy.listen('127.0.0.1:{other}', answer('another')); break
              case 'close': pipy.listen('127.0.0.1:{other}', null); break
              case 'more': others.set([{fourth}]); break
            }}
          }}
          setTimeout(look, 20)
        }}
        look()
        """,
        f"--threads={threads}",
    )
    assert ask(other) is None
    assert ask(third) == "listed"
    for command, port, answer in [
        ("open", other, "opened"),
        ("again", other, "another"),
        ("close", other, None),
        ("more", fourth, "listed"),
    ]:
        assert ask(pipy.ports[0], command.encode()) == "noted"
        until(port, answer)
    until(third, None)
    # A script that is loaded anew listens where it says, and nowhere else.
    pipy.reload()
    until(fourth, None)
    until(third, "listed")


def test_a_port_that_is_taken_is_told_and_nothing_else_happens(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        pipy = start(
            f"""
            pipy.listen('127.0.0.1:PORT0', $ => $.replaceData(data => {{
              pipy.listen('127.0.0.1:{port}', $ => $)
              return data
            }}))
            """
        )
        assert ask(pipy.ports[0]) == "x"
        pipy.logged(f"unable to listen on 127.0.0.1:{port}")
        assert ask(pipy.ports[0]) == "x"


def test_a_script_ends_itself_once_everything_is_done(start: Start, tmp_path: Path) -> None:
    told = tmp_path / "told"
    pipy = start(
        f"""
        pipy({{}})
        .listen('127.0.0.1:PORT0')
        .replaceData(() => (
          pipy.exit(async () => {{
            await new Timeout(0.2).wait()
            os.write('{told}', 'callback ' + (os.read('{told}')?.toString() ?? ''))
          }}),
          pipy.exit(3),
          new Data('bye')
        ))
        .exit()
        .onStart(() => (os.write('{told}', 'pipeline'), new StreamEnd))
        """
    )
    assert ask(pipy.ports[0]) == "bye"
    assert pipy.process.wait(PATIENCE) == 3
    assert told.read_text() == "callback pipeline"


def test_a_callback_that_fails_does_not_hold_the_end(start: Start) -> None:
    pipy = start(
        """
        pipy.exit(() => { throw new Error('not today') })
        pipy.listen('127.0.0.1:PORT0', $ => $)
        """
    )
    pipy.process.send_signal(signal.SIGINT)
    assert pipy.process.wait(PATIENCE) == 0
    pipy.logged("not today")


def test_a_pipeline_runs_when_its_file_changes(start: Start) -> None:
    pipy = start(
        """
        ((
          read = () => pipy.load('other.js').toString(),
          text = read(),
        ) => pipy()
          .listen('127.0.0.1:PORT0')
          .replaceData(() => new Data(text))
          .watch('other.js')
          .onStart(() => (text = read(), new StreamEnd))
        )()
        """,
        other="one",
    )
    assert ask(pipy.ports[0]) == "one"
    for text in ["two", "three times"]:
        (pipy.script.parent / "other.js").write_text(text)
        until(pipy.ports[0], text)


def test_each_thread_has_its_script_and_shares_what_is_shared(start: Start) -> None:
    pipy = start(
        """
        pipy({ _mine: 0 })
        .export('counts', { __each: 0 })
        .listen('127.0.0.1:PORT0')
        .replaceData(() => (
          new Data([
            __thread.id, __thread.concurrency,
            new algo.SharedMap('m').get('ticks') > 3 ? 'shared' : 'few',
            new algo.SharedMap('m').get('t' + (1 - __thread.id)) ? 'both' : 'alone',
            new algo.Quota(1000, { key: 'q' }).consume(1)
          ].join())
        ))
        .task('50ms')
        .onStart(() => (
          new algo.SharedMap('m').add('ticks', 1),
          new algo.SharedMap('m').add('t' + __thread.id, 1),
          new StreamEnd
        ))
        """,
        "--threads=2",
    )
    # The kernel chooses a thread for each connection; with so many of them both are asked.
    deadline = time.monotonic() + PATIENCE
    seen: set[str] = set()
    while not {"0,2,shared,both,1", "1,2,shared,both,1"} <= seen:
        assert time.monotonic() < deadline, seen
        answer = ask(pipy.ports[0])
        assert answer is not None
        seen.add(answer)
