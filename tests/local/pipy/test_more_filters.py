"""More filters of scripts, one by one: codecs, races, hubs, programs, files, FastCGI, PROXY."""

from __future__ import annotations

import gzip
import socket
import struct
import time
from pathlib import Path

import pytest

from .conftest import PATIENCE, Start, run_once
from .test_filters import talk


def test_bodies_are_packed_and_unpacked_as_heads_say(start: Start) -> None:
    pipy = start(
        """
        pipy()
        .listen(PORT0).demuxHTTP().to($ => $
          .replaceMessage(m => new Message({ headers: { 'content-type': 'text/plain' } }, 'x'.repeat(5000)))
          .compressHTTP(m => 'gzip'))
        .listen(PORT1).demuxHTTP().to($ => $
          .muxHTTP().to($ => $.connect('127.0.0.1:PORT0'))
          .decompressHTTP()
          .handleMessage(m => console.log('size', m.body.size, m.head.headers['content-encoding'])))
        .listen(PORT2).demuxHTTP().to($ => $
          .decompressHTTP()
          .replaceMessage(m => new Message(m.body)))
        """,  # noqa: E501
        ports=3,
    )
    assert "content-encoding: gzip" in pipy.curl("/", "-D", "-", "-o", "/dev/null").stdout.lower()
    assert pipy.curl("/", "--compressed").stdout == "x" * 5000
    assert pipy.curl("/", port=1).stdout == "x" * 5000
    pipy.logged("size 5000 undefined")
    body = pipy.script.parent / "body.gz"
    body.write_bytes(gzip.compress(b"hello"))
    args = ("--data-binary", f"@{body}", "-H", "content-encoding: gzip")
    assert pipy.curl("/", *args, port=2).stdout == "hello"
    broken = pipy.curl("/", "-d", "not packed", "-H", "content-encoding: gzip", port=2)
    assert broken.returncode != 0 or broken.stdout != "not packed"
    pipy.logged("decompressHTTP: ")


def test_streams_are_packed_and_unpacked(start: Start) -> None:
    pipy = start(
        """
        pipy()
        .listen(PORT0).compress('gzip')
        .listen(PORT1).decompress('gzip')
        .listen(PORT2).compress('deflate').decompress('inflate')
        """,
        ports=3,
    )
    assert gzip.decompress(talk(pipy, b"hello " * 100)) == b"hello " * 100
    assert talk(pipy, gzip.compress(b"there"), port=1) == b"there"
    assert talk(pipy, b"round", port=2) == b"round"


def test_http_is_read_and_written_in_halves(start: Start) -> None:
    pipy = start(
        """
        pipy({ _head: null })
        .listen(PORT0)
          .decodeHTTPRequest(head => (_head = head))
          .replaceMessage(m => new Message({ status: 201, headers: { 'x-path': m.head.path } }, m.body))
          .encodeHTTPResponse(() => _head)
        .listen(PORT1)
          .replaceData(d => new Message({ method: 'POST', path: '/made', headers: { host: 'h' } }, d))
          .encodeHTTPRequest()
          .connect('127.0.0.1:PORT0')
          .decodeHTTPResponse(() => ({ method: 'POST' }))
          .replaceMessage(m => new Data(m.head.status + m.head.headers['x-path'] + m.body.toString()))
        """,  # noqa: E501
        ports=2,
    )
    answer = pipy.curl("/some", "-i", "-d", "body").stdout
    assert answer.startswith("HTTP/1.1 201 Created")
    assert "x-path: /some" in answer
    assert answer.endswith("body")
    assert pipy.curl("/", "-I").stdout.startswith("HTTP/1.1 201 Created")
    assert talk(pipy, b"data", port=1) == b"201/madedata"
    with pytest.raises(OSError):  # noqa: PT011
        talk(pipy, b"no HTTP at all\r\n\r\n")
    pipy.logged("decodeHTTPRequest: ")


def test_the_parts_of_a_form_are_its_payload(start: Start) -> None:
    pipy = start(
        """
        pipy()
        .listen(PORT0).demuxHTTP().to($ => $
          .decodeMultipart()
          .replaceMessage(m => new Message(m.payload.map(
            p => p.head.headers['content-disposition'].split('name=')[1] + p.body.toString()).join(' '))))
        """  # noqa: E501
    )
    assert pipy.curl("/", "-F", "a=1", "-F", "b=two").stdout == '"a"1 "b"two'


def test_branches_join_and_race(start: Start) -> None:
    pipy = start(
        """
        var $wait
        var seen = []
        pipy.listen(PORT0, $ => $
          .forkJoin([1, 2, 3]).to($ => $
            .onStart(n => { $wait = n })
            .replaceData(() => new Timeout($wait * 0.02).wait().then(() => (seen.push($wait), new StreamEnd))))
          .replaceData(d => new Data(seen.join() + d.toString())))
        pipy.listen(PORT1, $ => $
          .forkRace([3, 1, 2]).to($ => $
            .onStart(n => { $wait = n })
            .replaceData(() => new Timeout($wait * 0.05).wait().then(() => [new Data('first ' + $wait), new StreamEnd]))))
        """,  # noqa: E501
        ports=2,
    )
    with socket.create_connection(("127.0.0.1", pipy.ports[0]), PATIENCE) as peer:
        peer.settimeout(PATIENCE)
        peer.sendall(b"!")
        assert peer.recv(100) == b"1,2,3!"
    with socket.create_connection(("127.0.0.1", pipy.ports[1]), PATIENCE) as peer:
        peer.settimeout(PATIENCE)
        peer.sendall(b"go")
        assert peer.recv(100) == b"first 1"


def test_a_loop_feeds_itself(start: Start) -> None:
    pipy = start(
        """
        pipy().listen(PORT0)
          .loop($ => $.replaceData(d => d.size < 4 ? new Data(d.toString() + 'x') : null))
        """
    )
    assert talk(pipy, b"a") == b"axaxxaxxx"


def reach(one: socket.socket, other: socket.socket) -> None:
    """Say something until the other side hears it: the connections that looked for the listeners may still be there."""  # noqa: E501
    deadline = time.monotonic() + PATIENCE
    other.settimeout(0.1)
    while True:
        one.sendall(b"?")
        try:
            assert set(other.recv(100)) == set(b"?")
            break
        except TimeoutError:
            assert time.monotonic() < deadline
    one.settimeout(PATIENCE)
    other.settimeout(PATIENCE)


def test_pipelines_exchange_at_a_hub(start: Start) -> None:
    pipy = start(
        """
        var hub = new pipeline.Hub
        pipy.listen(PORT0, $ => $.swap(hub))
        pipy.listen(PORT1, $ => $.swap(() => hub))
        """,
        ports=2,
    )
    with (
        socket.create_connection(("127.0.0.1", pipy.ports[0]), PATIENCE) as one,
        socket.create_connection(("127.0.0.1", pipy.ports[1]), PATIENCE) as other,
    ):
        reach(one, other)
        other.sendall(b"back")
        assert one.recv(100) == b"back"
        one.shutdown(socket.SHUT_WR)
        assert other.recv(100) == b""


def test_a_swap_joins_two_pipelines_of_a_link(start: Start) -> None:
    pipy = start(
        """
        ((swap = new Swap) => pipy()
        .listen(PORT0).link(() => swap)
        .listen(PORT1).link(() => swap)
        )()
        """,
        ports=2,
    )
    with (
        socket.create_connection(("127.0.0.1", pipy.ports[0]), PATIENCE) as one,
        socket.create_connection(("127.0.0.1", pipy.ports[1]), PATIENCE) as other,
    ):
        # Which pipeline it is, is asked when something comes.
        other.sendall(b"2")
        reach(one, other)
        assert one.recv(100) == b"2"


def test_what_is_output_comes_out_of_the_input(start: Start) -> None:
    pipy = start(
        """
        pipy({ _out: null })
        .listen(PORT0)
          .input(out => (_out = out)).to($ => $
            .replaceData(d => new Data(d.toString().toUpperCase()))
            .output(() => _out))
        """
    )
    with socket.create_connection(("127.0.0.1", pipy.ports[0]), PATIENCE) as peer:
        peer.settimeout(PATIENCE)
        peer.sendall(b"shout")
        assert peer.recv(100) == b"SHOUT"


def test_merged_messages_share_a_pipeline_and_are_not_answered(start: Start) -> None:
    pipy = start(
        """
        pipy({ _n: 0 })
        .listen(PORT0).demuxHTTP().to($ => $
          .fork().to($ => $.merge('log', () => ''))
          .replaceMessage(new Message('ok')))
        .pipeline('log')
          .onStart(() => void console.log('one log'))
          .handleMessage(m => console.log('logged', m.head.path))
        """
    )
    assert pipy.curl("/a").stdout == "ok"
    assert pipy.curl("/b").stdout == "ok"
    pipy.logged("logged /a")
    pipy.logged("logged /b")
    assert pipy.log.count("one log") == 1


def test_stages_go_down_and_up_and_turn(start: Start) -> None:
    pipy = start(
        """
        pipy({ _turn: false })
        .export('main', { __turn: false, __way: '' })
        .listen(PORT0).demuxHTTP().to($ => $
          .use(['first.js', 'second.js'], 'request', 'response', () => __turn)
          .replaceMessage(m => new Message(__way)))
        """,
        first="""
        pipy().import({ __turn: 'main', __way: 'main' })
        .pipeline('request')
          .handleMessageStart(m => (__way += 'd1 ', m.head.path === '/turn' && (__turn = true)))
        .pipeline('response').handleMessageStart(() => (__way += 'u1 '))
        """,
        second="""
        pipy().import({ __way: 'main' })
        .pipeline('request').handleMessageStart(() => (__way += 'd2 '))
        .pipeline('response').handleMessageStart(() => (__way += 'u2 '))
        """,
    )
    assert pipy.curl("/").stdout == "d1 d2 u2 u1 "
    assert pipy.curl("/turn").stdout == "d1 u1 "


def test_bytes_are_deframed_by_the_scripts_own_states(start: Start) -> None:
    pipy = start(
        """
        ((body = null) => pipy().listen(PORT0)
          .deframe({
            'start': length => [new MessageStart({}), 'body', length, body = new Data],
            'body': data => [data, new MessageEnd, 'start'],
          })
          .replaceMessage(m => new Data('<' + m.body.toString() + '>'))
        )()
        """
    )
    with socket.create_connection(("127.0.0.1", pipy.ports[0]), PATIENCE) as peer:
        peer.settimeout(PATIENCE)
        heard = b""
        for byte in b"\x02ab\x05hello\x01":
            peer.sendall(bytes([byte]))
        while len(heard) < 11:
            heard += peer.recv(100)
        assert heard == b"<ab><hello>"
        peer.sendall(b"x")
        assert peer.recv(100) == b"<x>"


def test_a_program_reads_and_writes(start: Start) -> None:
    pipy = start(
        """
        pipy()
        .listen(PORT0).exec('tr a-z A-Z', { onStart: pid => console.log('pid', pid > 1), onExit: c => console.log('exit', c) })
        .listen(PORT1).exec(['sh', '-c', 'printf "%s" "$GREETING"; exit 3'], {
           env: { GREETING: 'hi' }, onExit: code => console.log('code', code) })
        .listen(PORT2).exec('no-such-program-anywhere')
        """,  # noqa: E501
        ports=3,
    )
    assert talk(pipy, b"hello" * 1000) == b"HELLO" * 1000
    pipy.logged("pid true")
    pipy.logged("exit 0")
    assert talk(pipy, b"x", port=1) == b"hi"
    pipy.logged("code 3")
    with pytest.raises(OSError):  # noqa: PT011
        talk(pipy, b"x", port=2)
    pipy.logged("cannot run no-such-program-anywhere")


def test_a_program_ends_with_its_connection(start: Start) -> None:
    pipy = start(
        """
        pipy().listen(PORT0).exec('sleep 1000', { onStart: pid => console.log('pid=' + pid + ';') })
        """
    )
    with socket.create_connection(("127.0.0.1", pipy.ports[0]), PATIENCE) as peer:
        peer.sendall(b"x")
        pid = pipy.logged(";").split("pid=")[1].split(";")[0]
        assert Path(f"/proc/{pid}").exists()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    deadline = time.monotonic() + PATIENCE
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_bodies_are_deposited_in_a_file_until_they_are_complete(
    start: Start, tmp_path: Path
) -> None:
    pipy = start(
        f"""
        pipy({{ _id: 0 }})
        .listen(PORT0).demuxHTTP().to($ => $
          .depositMessage(m => '{tmp_path}' + m.head.path, {{ threshold: 10, keep: true }})
          .replaceMessage(m => new Message(m.body.size.toString())))
        .listen(PORT1).demuxHTTP().to($ => $
          .depositMessage(m => '{tmp_path}' + m.head.path)
          .replaceMessage(m => new Message(m.body)))
        """,
        ports=2,
    )
    assert pipy.curl("/small", "-d", "123").stdout == "3"
    assert not (tmp_path / "small").exists()
    body = tmp_path / "body"
    body.write_bytes(b"z" * 300_000)
    assert pipy.curl("/large", "--data-binary", f"@{body}").stdout == "300000"
    assert (tmp_path / "large").read_bytes() == body.read_bytes()
    assert pipy.curl("/gone", "--data-binary", f"@{body}", port=1).stdout == "z" * 300_000
    assert not (tmp_path / "gone").exists()


def test_the_proxy_header_is_written_and_read(start: Start) -> None:
    pipy = start(
        """
        pipy({ _from: '' })
        .listen(PORT0)
          .acceptProxyProtocol(h => (
            _from = [h.version, h.command, h.protocol, h.sourceAddress, h.sourcePort, h.targetPort].join(),
            h.sourceAddress !== '6.6.6.6'
          )).to($ => $.replaceData(d => new Data(_from + ' ' + d.toString())))
        .listen(PORT1)
          .connectProxyProtocol({ version: 1, sourceAddress: '1.2.3.4', sourcePort: 5, targetAddress: '5.6.7.8', targetPort: 80 })
          .to($ => $.connect('127.0.0.1:PORT0'))
        .listen(PORT2)
          .connectProxyProtocol(() => ({ sourceAddress: '::1', sourcePort: 7, targetAddress: '::2', targetPort: 8 }))
          .to($ => $.connect('127.0.0.1:PORT0'))
        """,  # noqa: E501
        ports=3,
    )
    assert talk(pipy, b"hi", port=1) == b"1,PROXY,TCP4,1.2.3.4,5,80 hi"
    assert talk(pipy, b"hi", port=2) == b"2,PROXY,TCP6,::1,7,8 hi"
    assert talk(pipy, b"PROXY TCP4 6.6.6.6 5.6.7.8 1 2\r\nevil") == b""
    with pytest.raises(OSError):  # noqa: PT011
        talk(pipy, b"GET / HTTP/1.1\r\n\r\n")
    pipy.logged("does not begin with a PROXY header")


def test_fastcgi_is_spoken_on_both_sides(start: Start) -> None:
    pipy = start(
        """
        pipy()
        .listen(PORT0).demuxHTTP().to($ => $
          .replaceMessageStart(m => new MessageStart({ role: 1, params: { SCRIPT_NAME: m.head.path } }))
          .muxFastCGI(() => 'app').to($ => $.connect('127.0.0.1:PORT1'))
          .replaceMessage(m => new Message({ status: 200 }, m.body)))
        .listen(PORT1).demuxFastCGI().to($ => $
          .replaceMessage(m => new Message({}, 'ran ' + m.head.params.SCRIPT_NAME + ' with ' + m.body.toString())))
        """,  # noqa: E501
        ports=2,
    )
    assert pipy.curl("/x.php", "-d", "abc").stdout == "ran /x.php with abc"
    assert pipy.curl("/y.php").stdout == "ran /y.php with "
    with pytest.raises(OSError):  # noqa: PT011
        talk(pipy, b"garbage!garbage!", port=1)
    pipy.logged("demuxFastCGI: ")


def test_every_filter_has_a_line_of_help() -> None:
    listed = run_once("--list-filters").stdout.splitlines()
    assert len(listed) > 90
    assert all(len(line.split(None, 1)) == 2 for line in listed)
