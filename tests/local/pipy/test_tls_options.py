"""What scripts ask of TLS: ``alpn`` by a function, ``verify``, states, the handshake, versions.

A server is asked by OpenSSL's client where one side is enough. ``verify`` is tried on both sides,
with an answer and with a callback that throws; what a refused peer says must reach nobody.
"""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest

from .conftest import PATIENCE, Running, Start, run_once
from .test_repo_secure import pki

__all__ = ["pki"]

SCRIPT = """
((cert = new crypto.Certificate(os.readFile('PKI/server.pem')),
  key = new crypto.PrivateKey(os.readFile('PKI/server.key')),
  own = new crypto.Certificate(os.readFile('PKI/client.pem')),
  ownKey = new crypto.PrivateKey(os.readFile('PKI/client.key')),
  trusted = [new crypto.Certificate(os.readFile('PKI/root.pem'))],
  told = (who, s) => println(who, s.state, s.protocol || '-', s.hostname || '-',
    s.peer ? s.peer.subject.CN : '-', s.error || '-', `#${_session}`),
  seen = 0,
) => pipy({ _session: 0 })
.listen(PORT0)
  .onStart(() => void (_session = ++seen))
  .acceptTLS({ certificate: { cert, key }, SERVER }).to($ => $
    .replaceData(data => (println('heard', data.toString()), new Data(`<${data.toString()}>`))))
.listen(PORT1)
  .onStart(() => void (_session = ++seen))
  .connectTLS({ certificate: { cert: own, key: ownKey }, CLIENT }).to($ => $
    .connect('127.0.0.1:PORT0'))
)()
"""

ACCEPTED = b"<hello>"


def _begin(start: Start, pki: Path, server: str = "", client: str = "") -> Running:
    script = SCRIPT.replace("PKI", str(pki)).replace("SERVER", server).replace("CLIENT", client)
    return start(script, ports=2)


def _context(pki: Path, *, shows: bool = True) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(pki / "root.pem"))
    if shows:
        context.load_cert_chain(pki / "client.pem", pki / "client.key")
    return context


def _encrypted(pipy: Running, context: ssl.SSLContext) -> tuple[bytes, str | None]:
    """What the server answers to a client that is not pipy, and the protocol agreed on."""
    with (
        socket.create_connection(("127.0.0.1", pipy.ports[0]), PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
    ):
        tls.sendall(b"hello")
        return tls.recv(100), tls.selected_alpn_protocol()


def _refused(pipy: Running, context: ssl.SSLContext) -> bool:
    """Whether the server ends the connection without a word: TLS 1.3 shows that late."""
    try:
        return _encrypted(pipy, context)[0] == b""
    except (ssl.SSLError, ConnectionError):
        return True


def _through_client(pipy: Running) -> bytes:
    """What comes back through pipy's own client; nothing where it is refused."""
    with socket.create_connection(("127.0.0.1", pipy.ports[1]), PATIENCE) as plain:
        plain.sendall(b"hello")
        try:
            return plain.recv(100)
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [(["a", "b"], "b"), (["b", "a"], "b"), (["a"], None), ([], None)],
)
def test_a_function_chooses_the_protocol(
    start: Start, pki: Path, offered: list[str], agreed: str | None
) -> None:
    pipy = _begin(start, pki, "alpn: names => (println('offers', names), names.indexOf('b'))")
    context = _context(pki)
    if offered:
        context.set_alpn_protocols(offered)
    assert _encrypted(pipy, context) == (ACCEPTED, agreed)


def test_a_script_hears_what_was_agreed_on(start: Start, pki: Path) -> None:
    pipy = _begin(
        start,
        pki,
        "alpn: ['b', 'a'], handshake: agreed => println('server agreed', agreed.alpn, '.')",
        "alpn: ['a', 'b'], handshake: agreed => println('client agreed', agreed.alpn, '.')",
    )
    assert _through_client(pipy) == ACCEPTED
    pipy.logged("server agreed b .")
    pipy.logged("client agreed b .")


VERIFY = "trusted, verify: (ok, peer) => ok && peer.subject.CN === '{}'"

REFUSING = [
    VERIFY.format("other"),
    "trusted, onVerify: () => boom()",
    "trusted, verify: () => Promise.resolve(true)",
]


def test_a_client_that_the_script_believes_is_served(start: Start, pki: Path) -> None:
    pipy = _begin(start, pki, VERIFY.format("client"))
    assert _encrypted(pipy, _context(pki)) == (ACCEPTED, None)
    assert _through_client(pipy) == ACCEPTED


@pytest.mark.parametrize("verify", REFUSING)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_that_the_script_refuses_is_not_heard(
    start: Start, pki: Path, verify: str, version: ssl.TLSVersion
) -> None:
    states = "onState: s => told('server', s)"
    pipy = _begin(start, pki, f"{verify}, {states}")
    context = _context(pki)
    context.maximum_version = version
    assert _refused(pipy, context)
    log = pipy.logged("server closed - - client the peer was refused #")
    assert "heard" not in log
    assert "server connected" not in log


def test_verify_excuses_nobody(start: Start, pki: Path) -> None:
    pipy = _begin(start, pki, "trusted, verify: () => true")
    assert _refused(pipy, _context(pki, shows=False))
    assert "heard" not in pipy.logged("NoCertificate")


def test_a_server_that_the_script_believes_is_spoken_to(start: Start, pki: Path) -> None:
    pipy = _begin(start, pki, client=VERIFY.format("server"))
    assert _through_client(pipy) == ACCEPTED


@pytest.mark.parametrize("verify", REFUSING)
def test_a_server_that_the_script_refuses_hears_nothing(
    start: Start, pki: Path, verify: str
) -> None:
    pipy = _begin(start, pki, client=f"{verify}, onState: s => told('client', s)")
    assert _through_client(pipy) == b""
    log = pipy.logged("client closed - - server the peer was refused #")
    assert "heard" not in log
    assert "client connected" not in log


def test_a_script_is_told_each_state_of_a_session(start: Start, pki: Path) -> None:
    pipy = _begin(
        start,
        pki,
        "trusted, alpn: ['a'], onState: s => told('server', s)",
        "sni: 'localhost', alpn: ['a'], onState: s => told('client', s)",
    )
    assert _through_client(pipy) == ACCEPTED
    for who, peer in (("server", "client"), ("client", "server")):
        expected = [
            f"{who} connecting - localhost - -",
            f"{who} handshake - localhost - -",
            f"{who} connected a localhost {peer} -",
            f"{who} closed - localhost - -",
        ]
        # WHY not the first of them: whoever waited for the ports has begun a session, too.
        number = pipy.logged(expected[2]).split(f"{expected[2]} #")[-1].split()[0]
        log = pipy.logged(f"{expected[3]} #{number}\n").splitlines()
        ours = [line for line in log if line.startswith(who) and line.endswith(f" #{number}")]
        assert ours == [f"{line} #{number}" for line in expected]


def test_a_script_is_told_why_a_session_failed(start: Start, pki: Path) -> None:
    pipy = _begin(
        start,
        pki,
        "alpn: ['a'], onState: s => told('server', s)",
        "alpn: ['b'], onState: s => told('client', s)",
    )
    assert _through_client(pipy) == b""
    pipy.logged("server closed - - - the handshake failed: Failed #")
    pipy.logged("client closed - - - Unauthorized #")


@pytest.mark.parametrize(
    ("option", "refused", "spoken"),
    [
        ("minVersion: 'TLS1.3'", ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3),
        ("maxVersion: 'TLS1.2'", ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2),
    ],
)
def test_a_server_speaks_only_the_versions_it_is_told(
    start: Start, pki: Path, option: str, refused: ssl.TLSVersion, spoken: ssl.TLSVersion
) -> None:
    pipy = _begin(start, pki, option)
    for version in (refused, spoken):
        context = _context(pki)
        context.minimum_version = context.maximum_version = version
        if version == refused:
            with pytest.raises(ssl.SSLError, match=r"(?i)version"):
                _encrypted(pipy, context)
        else:
            assert _encrypted(pipy, context) == (ACCEPTED, None)


@pytest.mark.parametrize(("most", "heard"), [("TLS1.2", b""), ("TLS1.3", ACCEPTED)])
def test_a_client_speaks_only_the_versions_it_is_told(
    start: Start, pki: Path, most: str, heard: bytes
) -> None:
    pipy = _begin(start, pki, f"maxVersion: '{most}'", "minVersion: 'TLS1.3'")
    assert _through_client(pipy) == heard


@pytest.mark.parametrize(
    ("filter_", "said"),
    [
        ("connectTLS({ alpn: () => 0 })", "expects the name of a protocol, or a list of names"),
        ("connectTLS({ minVersion: 'TLS9' })", "minVersion"),
        (
            "connectTLS({ minVersion: 'TLS1.3', maxVersion: 'TLS1.2' })",
            "leaves none of TLS1.2 and TLS1.3",
        ),
    ],
)
def test_what_cannot_be_is_refused_when_the_script_loads(
    tmp_path: Path, filter_: str, said: str
) -> None:
    script = tmp_path / "main.js"
    script.write_text(f"pipy().task().onStart(new Data).{filter_}.to($ => $)")
    ended = run_once(str(script))
    assert ended.returncode != 0
    assert said in ended.stdout + ended.stderr
