"""Login by OpenID Connect: an issuer that signs, and everything that a login must not take."""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa

from .conftest import EXAMPLES, PATIENCE, PIPY, Start, free_port

EXAMPLE = EXAMPLES / "16-oidc"
SECRET = "a secret of the test, long enough for HS256"


def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("issuer", EXAMPLE / "issuer.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


class Application(BaseHTTPRequestHandler):
    """Says what it was asked with."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        headers = self.headers
        body = f"{self.path} {headers['x-user']} {headers['x-user-email']} {headers['cookie']}"
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())


@dataclass
class World:
    """The proxy's URL, and the issuer."""

    url: str
    issuer: Any

    def browser(self) -> requests.Session:
        return requests.Session()

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=PATIENCE, **options)

    def code(self, session: requests.Session) -> str:
        """Begin a login and let the issuer answer; the address to which it sends back."""
        first = session.get(f"{self.url}/page?a=1", allow_redirects=False, timeout=PATIENCE)
        assert first.status_code == 302
        second = session.get(first.headers["location"], allow_redirects=False, timeout=PATIENCE)
        assert second.status_code == 302
        return second.headers["location"]


@pytest.fixture
def session_seconds() -> int:
    """How long sessions last."""
    return 3600


@pytest.fixture
def world(start: Start, session_seconds: int) -> Iterator[World]:
    issuer = module().Issuer(0, "proxy", "client-secret", "alice")
    application = ThreadingHTTPServer(("127.0.0.1", 0), Application)
    application.daemon_threads = True
    servers = [issuer, application]
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    port = free_port()
    start(
        port,
        PIPY,
        EXAMPLE / "main.js",
        PORT=f"127.0.0.1:{port}",
        ISSUER=issuer.url,
        CLIENT_ID="proxy",
        CLIENT_SECRET="client-secret",
        COOKIE_SECRET=SECRET,
        SESSION_SECONDS=str(session_seconds),
        APPLICATION=f"127.0.0.1:{application.server_port}",
    )
    yield World(f"http://127.0.0.1:{port}", issuer)
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE)


def test_who_logs_in_gets_where_they_wanted_and_only_the_application_knows(world: World) -> None:
    with world.browser() as browser:
        browser.cookies.set("theme", "dark")
        answer = browser.get(f"{world.url}/page?a=1", timeout=PATIENCE)
        # The application sees its own cookies, and not the session's.
        assert answer.text == "/page?a=1 alice alice@example.com theme=dark"
        assert [step.status_code for step in answer.history] == [302, 302, 302]
        forged = {"x-user": "root", "x-user-email": "root@example.com"}
        again = browser.get(f"{world.url}/", headers=forged, timeout=PATIENCE)
        assert again.text.startswith("/ alice alice@example.com")
        assert again.history == []


@pytest.mark.parametrize("session_seconds", [2])
def test_a_session_ends(world: World) -> None:
    with world.browser() as browser:
        browser.get(world.url, timeout=PATIENCE)
        session = browser.cookies["session"]
    deadline = time.monotonic() + PATIENCE
    # The cookie is shown again by one who does not look at its age.
    while world.get("/", cookies={"session": session}, allow_redirects=False).ok and (
        world.get("/", cookies={"session": session}, allow_redirects=False).status_code == 200
    ):
        assert time.monotonic() < deadline, "the session does not end"
        time.sleep(0.1)


def test_logging_out_ends_the_session_of_the_browser(world: World) -> None:
    with world.browser() as browser:
        browser.get(world.url, timeout=PATIENCE)
        assert "session" in browser.cookies
        browser.get(f"{world.url}/oauth2/logout", allow_redirects=False, timeout=PATIENCE)
        assert "session" not in browser.cookies


def encoded(claims: dict[str, object], secret: str = SECRET, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, secret if algorithm != "none" else "", algorithm=algorithm)


@pytest.mark.parametrize(
    "session",
    [
        "",
        "x.y.z",
        encoded(
            {"purpose": "session", "sub": "root", "exp": 2**31},
            "another secret, which is long enough",
        ),
        encoded({"purpose": "session", "sub": "root", "exp": 2**31}, algorithm="none"),
        encoded({"purpose": "session", "sub": "root", "exp": 1}),
        encoded({"purpose": "login", "sub": "root", "exp": 2**31}),
    ],
    ids=["empty", "garbage", "other secret", "no signature", "expired", "for a login"],
)
def test_what_is_no_session_is_none(world: World, session: str) -> None:
    answer = world.get("/", cookies={"session": session}, allow_redirects=False)
    assert answer.status_code == 302


def test_a_script_of_a_page_is_told_so_and_not_sent_to_a_login(world: World) -> None:
    assert requests.post(world.url, timeout=PATIENCE).status_code == 401


@pytest.mark.parametrize(
    ("instead", "why"),
    [
        ({"iss": "http://elsewhere.test"}, "the issuer"),
        ({"aud": "another"}, "it is for"),
        ({"exp": 1}, "it has expired"),
        ({"iat": 2**31}, "it is from the future"),
        ({"nonce": "another"}, "it belongs to another login"),
        ({"sub": ""}, "it names nobody"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_tokens_that_are_not_for_this_login_are_refused(
    world: World, instead: dict[str, object], why: str
) -> None:
    world.issuer.instead = instead
    with world.browser() as browser:
        answer = browser.get(world.url, timeout=PATIENCE)
        assert (answer.status_code, answer.text) == (502, "The login has failed\n")
        assert "session" not in browser.cookies


def test_a_token_that_another_key_has_signed_is_refused(world: World) -> None:
    with world.browser() as browser:
        assert browser.get(world.url, timeout=PATIENCE).ok
    # The same number, another key.
    known = world.issuer.keys()
    world.issuer.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    world.issuer.keys = lambda: known
    with world.browser() as browser:
        assert browser.get(world.url, timeout=PATIENCE).status_code == 502


def test_an_issuer_may_change_its_key(world: World) -> None:
    for _ in range(3):
        with world.browser() as browser:
            assert browser.get(world.url, timeout=PATIENCE).text.startswith("/ alice")
        world.issuer.rotate()


def test_a_code_is_good_once_and_only_where_the_login_began(world: World) -> None:
    with world.browser() as victim, world.browser() as thief:
        back = world.code(victim)
        stolen = thief.get(back, allow_redirects=False, timeout=PATIENCE)
        assert stolen.status_code == 400
        # One who has begun a login of their own has another state, and another verifier.
        world.code(thief)
        assert thief.get(back, allow_redirects=False, timeout=PATIENCE).status_code == 400
        first = victim.get(back, allow_redirects=False, timeout=PATIENCE)
        assert (first.status_code, first.headers["location"]) == (302, "/page?a=1")
        begun = parse_qs(urlsplit(back).query)
        assert begun["code"] != begun["state"]
        assert victim.get(back, allow_redirects=False, timeout=PATIENCE).status_code == 400


def test_an_issuer_that_is_gone_costs_the_login_and_nothing_else(world: World) -> None:
    with world.browser() as browser:
        browser.get(world.url, timeout=PATIENCE)
        back = world.code(world.browser())
        world.issuer.shutdown()
        world.issuer.server_close()
        assert browser.get(world.url, timeout=PATIENCE).text.startswith("/ alice")
        with world.browser() as other:
            answer = other.get(back, allow_redirects=False, timeout=PATIENCE)
            assert answer.status_code == 400
