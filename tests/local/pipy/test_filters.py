"""Filters of scripts, one by one, as users write them: what each lets pass, holds back and says."""

from __future__ import annotations

import datetime
import socket
import ssl
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .conftest import PATIENCE, Running, Start, free_ports, run_once


def talk(pipy: Running, words: bytes, port: int = 0) -> bytes:
    """Say something to a port, and hear all that it answers."""
    with socket.create_connection(("127.0.0.1", pipy.ports[port]), PATIENCE) as peer:
        peer.settimeout(PATIENCE)
        peer.sendall(words)
        peer.shutdown(socket.SHUT_WR)
        heard = b""
        while more := peer.recv(65536):
            heard += more
        return heard


def test_a_tunnel_opens_for_connect_from_both_sides(start: Start) -> None:
    pipy = start(
        """
        pipy({ _isTunnel: false, _target: null })
        .listen(PORT0)
          .demuxHTTP().to($ => $
            .handleMessageStart(msg => msg.head.method === 'CONNECT' && (_isTunnel = true))
            .branch(
              () => _isTunnel, ($ => $
                .acceptHTTPTunnel(msg => (_target = msg.head.path, new Message({ status: 200 })))
                .to($ => $.connect(() => _target))),
              ($ => $.replaceMessage(new Message({ status: 404 }, 'Not Found!\\n')))))
        .listen(PORT1).replaceData(d => new Data('<' + d.toString() + '>'))
        .listen(PORT2)
          .connectHTTPTunnel(new Message({ method: 'CONNECT', path: '127.0.0.1:PORT1' }))
          .to($ => $.muxHTTP().to($ => $.connect('127.0.0.1:PORT0')))
        """,
        ports=3,
    )
    assert talk(pipy, b"through", port=2) == b"<through>"
    refused = pipy.curl("/", "-w", "%{http_code}").stdout
    assert refused == "Not Found!\n404"


def test_a_tunnel_that_is_refused_ends_the_stream(start: Start) -> None:
    pipy = start(
        """
        pipy()
        .listen(PORT0).serveHTTP(() => new Message({ status: 403 }))
        .listen(PORT1)
          .connectHTTPTunnel(new Message({ method: 'CONNECT', path: 'anywhere:80' }))
          .to($ => $.muxHTTP().to($ => $.connect('127.0.0.1:PORT0')))
          .handleStreamEnd(e => console.log('ended with', e.error))
        """,
        ports=2,
    )
    with pytest.raises(ConnectionResetError):
        talk(pipy, b"hello", port=1)
    pipy.logged("ended with Unauthorized")


def test_replay_gives_the_same_input_again_until_it_is_answered(start: Start) -> None:
    pipy = start(
        """
        ((tries = 0) => pipy()
        .listen(PORT0).demuxHTTP().to($ => $
          .replay({ delay: 0.02 }).to($ => $
            .replaceMessage(m => ++tries % 3
              ? new StreamEnd('Replay')
              : new Message(tries + ' ' + m.body.toString())))))()
        """
    )
    assert pipy.curl("/", "-d", "body").stdout == "3 body"
    assert pipy.curl("/", "-d", "again").stdout == "6 again"


def test_repeat_asks_whether_to_run_again(start: Start) -> None:
    pipy = start(
        """
        var tries = 0
        pipy.listen(PORT0, $ => $.demuxHTTP().to($ => $
          .repeat(end => new Timeout(0.01).wait().then(() => ++tries < 3)).to($ => $
            .replaceMessage(m => tries < 2 ? new StreamEnd('nope') : new Message('at ' + tries)))))
        """
    )
    assert pipy.curl("/").stdout == "at 2"


def test_pipe_goes_through_stages_with_arguments(start: Start) -> None:
    pipy = start(
        """
        var $seen = []
        var first = pipeline($ => $
          .onStart(name => { $seen = [name] })
          .handleMessageStart(m => { m.head.headers['x-first'] = 'yes' })
          .pipeNext())
        var last = pipeline($ => $
          .replaceMessage(m => new Message($seen.join() + ' ' + m.head.headers['x-first'])))
        var other = pipeline($ => $.replaceMessage(new Message('other')))
        var kinds = { last, other }
        pipy.listen(PORT0, $ => $.demuxHTTP().to($ => $
          .pipe(evt => evt instanceof MessageStart && evt.head.path === '/o' ? 'other' : 'stages',
            { stages: pipeline($ => $.pipe([first, last], ['hello'])), other })))
        """
    )
    assert pipy.curl("/").stdout == "hello yes"
    assert pipy.curl("/o").stdout == "other"


def test_a_message_rate_holds_back_what_is_over_it(start: Start) -> None:
    pipy = start(
        """
        ((quota = new algo.Quota(2, { per: 0.4 })) => pipy()
        .listen(PORT0).demuxHTTP().to($ => $
          .throttleMessageRate(quota)
          .replaceMessage(new Message('in'))))()
        """
    )
    begun = time.monotonic()
    for _ in range(5):
        assert pipy.curl("/").stdout == "in"
    # Two at once, two after a period, one after another.
    assert time.monotonic() - begun > 0.6


def test_a_data_rate_lets_every_byte_through_in_order(start: Start) -> None:
    pipy = start(
        """
        ((quota = new algo.Quota(1000, { per: 0.05 })) => pipy()
        .listen(PORT0).throttleDataRate(quota))()
        """
    )
    words = bytes(index % 251 for index in range(5000))
    begun = time.monotonic()
    assert talk(pipy, words) == words
    assert time.monotonic() - begun > 0.15


def test_the_protocol_is_found_out_before_the_branch(start: Start) -> None:
    pipy = start(
        """
        pipy({ _proto: undefined, _names: null })
        .listen(PORT0)
          .detectProtocol(p => void (_proto = p))
          .handleTLSClientHello(hello => void (_names = hello.serverNames))
          .branch(
            () => _proto === 'HTTP', $ => $.serveHTTP(() => new Message('web')),
            () => _proto === 'TLS', $ => $.replaceData(() => new Data('tls for ' + _names)),
            () => _proto === '', $ => $.replaceData(() => new Data('something else')))
        """
    )
    assert pipy.curl("/").stdout == "web"
    hello = ssl.MemoryBIO()
    context = ssl.create_default_context()
    client = context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="shop.example")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    assert talk(pipy, hello.read()) == b"tls for shop.example"
    assert talk(pipy, b"\x00\x01\x02 what is this?\n") == b"something else"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A folder with ``cert.pem`` and ``key.pem`` of ``shop.example``, its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop.example")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("shop.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return tmp_path


TLS = """
((cert = new crypto.Certificate(os.readFile('FOLDER/cert.pem')),
  key = new crypto.PrivateKey(os.readFile('FOLDER/key.pem'))) => pipy({ _name: null })
.listen(PORT0)
  .acceptTLS({ certificate: sni => (_name = sni, { cert, key }) }).to($ => $
    .demuxHTTP().to($ => $.replaceMessage(() => new Message('hello ' + _name))))
.listen(PORT1)
  .demuxHTTP().to($ => $.muxHTTP().to($ => $
    .connectTLS({ sni: 'shop.example', trusted: [cert] }).to($ => $.connect('127.0.0.1:PORT0'))))
.listen(PORT2)
  .demuxHTTP().to($ => $.muxHTTP().to($ => $
    .connectTLS({ sni: 'other.example', trusted: [cert] }).to($ => $.connect('127.0.0.1:PORT0'))))
)()
"""


def test_tls_is_ended_and_begun(start: Start, certificate: Path) -> None:
    pipy = start(TLS.replace("FOLDER", str(certificate)), ports=3)
    context = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    with (
        socket.create_connection(("127.0.0.1", pipy.ports[0]), PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname="shop.example") as tls,
    ):
        tls.sendall(b"GET / HTTP/1.0\r\nHost: shop.example\r\n\r\n")
        heard = b""
        while more := tls.recv(65536):
            heard += more
    assert heard.endswith(b"hello shop.example")
    assert pipy.curl("/", port=1).stdout == "hello shop.example"


def test_a_server_with_another_name_is_not_believed(start: Start, certificate: Path) -> None:
    pipy = start(TLS.replace("FOLDER", str(certificate)), ports=3)
    answer = pipy.curl("/", "-o", "/dev/null", "-w", "%{http_code}", port=2).stdout
    assert answer == "401"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("pipy().listen(PORT0).acceptTLS({}).to($ => $)", "needs the option certificate"),
        ("pipy().listen(PORT0).throttleMessageRate()", "expects an algo.Quota"),
        ("pipy().listen(PORT0).pipe('nowhere')", "pipeline not found: nowhere"),
        ("pipy().listen(PORT0).acceptHTTPTunnel(() => null)", "missing .to(...)"),
    ],
)
def test_what_a_filter_needs_is_said_when_the_script_loads(
    tmp_path: Path, script: str, said: str
) -> None:
    file = tmp_path / "main.js"
    file.write_text(script.replace("PORT0", str(free_ports(1)[0])))
    checked = run_once("--check", str(file))
    assert checked.returncode != 0
    assert said in checked.stderr
    assert "/main.js:1:" in checked.stderr


def test_messages_of_many_streams_share_a_session_and_find_their_way_back(start: Start) -> None:
    pipy = start(
        """
        pipy()
        .listen(PORT0)
          .decodeRESP()
          .demuxQueue().to($ => $
            .muxQueue(() => 'one').to($ => $
              .onStart(() => void console.log('session'))
              .encodeRESP().connect('127.0.0.1:PORT1').decodeRESP()))
          .encodeRESP()
        .listen(PORT1)
          .decodeRESP()
          .replaceMessage(m => new Message(null, null, null, 'you said ' + m.payload[0].toString()))
          .encodeRESP()
        """,
        ports=2,
    )

    def ask(word: bytes) -> bytes:
        return b"*1\r\n$%d\r\n%s\r\n" % (len(word), word)

    with (
        socket.create_connection(("127.0.0.1", pipy.ports[0]), PATIENCE) as first,
        socket.create_connection(("127.0.0.1", pipy.ports[0]), PATIENCE) as second,
    ):
        for peer in (first, second):
            peer.settimeout(PATIENCE)
        first.sendall(ask(b"a") + ask(b"b"))
        second.sendall(ask(b"c"))
        expected = {first: b"+you said a\r\n+you said b\r\n", second: b"+you said c\r\n"}
        for peer, words in expected.items():
            heard = b""
            while len(heard) < len(words):
                more = peer.recv(4096)
                assert more, heard
                heard += more
            assert heard == words
    # One more that was shared: the first connection's probe made none.
    assert pipy.log.count("session") == 1


def test_answers_leave_in_the_order_of_the_questions(start: Start) -> None:
    pipy = start(
        """
        pipy({ _slow: false })
        .listen(PORT0)
          .decodeRESP()
          .demux().to($ => $
            .handleMessageStart(() => void 0)
            .replaceMessage(m => m.payload[0].toString() === 'slow'
              ? new Timeout(0.1).wait().then(() => new Message(null, null, null, 'slow'))
              : new Message(null, null, null, 'fast')))
          .encodeRESP()
        """
    )
    heard = talk(pipy, b"*1\r\n$4\r\nslow\r\n*1\r\n$4\r\nfast\r\n")
    assert heard == b"+slow\r\n+fast\r\n"


def test_socks_is_taken_and_asked_for(start: Start) -> None:
    pipy = start(
        """
        pipy({ _to: null })
        .listen(PORT0)
          .acceptSOCKS(({ ip, domain, port }) =>
            domain !== 'forbidden' && (_to = (ip || domain) + ':' + port, true))
          .to($ => $.connect(() => _to))
        .listen(PORT1).serveHTTP(() => new Message('behind'))
        .listen(PORT2)
          .connectSOCKS('127.0.0.1:PORT1').to($ => $.connect('127.0.0.1:PORT0'))
        .listen(PORT3)
          .acceptSOCKS((host, port, id) => (_to = host + ':' + port, true))
          .to($ => $.connect(() => _to))
        """,
        ports=4,
    )
    for scheme in ("socks4", "socks4a", "socks5", "socks5h"):
        proxy = f"{scheme}://127.0.0.1:{pipy.ports[0]}"
        assert pipy.curl("/", "-x", proxy, port=1).stdout == "behind", scheme
    older = f"socks5://127.0.0.1:{pipy.ports[3]}"
    assert pipy.curl("/", "-x", older, port=1).stdout == "behind"
    assert pipy.curl("/", port=2).stdout == "behind"
    refused = pipy.curl("/", "-x", f"socks5h://127.0.0.1:{pipy.ports[0]}", "http://forbidden/")
    assert "curl: (97)" in refused.stderr


def test_parts_become_messages_and_messages_are_packed(start: Start) -> None:
    pipy = start(
        """
        pipy()
        .listen(PORT0)
          .split('\\n')
          .replaceMessage(m => new Message(m.body.toString().toUpperCase()))
          .pack(2, { prefix: '[', separator: ',', postfix: ']' })
        """
    )
    assert talk(pipy, b"one\ntw") == b"[ONE,TW]"
    assert talk(pipy, b"a\nb\nc\n") == b"[A,B][C]"


def test_files_are_read_and_written_as_streams(start: Start, tmp_path: Path) -> None:
    content = bytes(index % 253 for index in range(300_000))
    (tmp_path / "source").write_bytes(content)
    pipy = start(
        f"""
        pipy()
        .listen(PORT0).read('{tmp_path}/source').tee('{tmp_path}/copy')
        .listen(PORT1).read('{tmp_path}/source', {{ seek: 10, size: 5 }})
        .listen(PORT2).insert(new Data('first ')).insert(() => new Timeout(0.02).wait().then(
          () => new Data('very ')))
        """,
        ports=3,
    )
    assert talk(pipy, b"x") == content
    assert (tmp_path / "copy").read_bytes() == content
    assert talk(pipy, b"x", port=1) == content[10:15]
    assert talk(pipy, b"last", port=2) == b"very first last"


def test_produce_asks_until_there_is_nothing_more(start: Start) -> None:
    pipy = start(
        """
        pipy({ _left: 3 })
        .listen(PORT0)
          .produce(() => _left-- > 0 ? new Data('' + _left) : new StreamEnd)
        """
    )
    assert talk(pipy, b"go") == b"210"
