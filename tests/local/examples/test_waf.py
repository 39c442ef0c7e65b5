"""The firewall before a shop that is made to be broken: PHP, MariaDB, libinjection."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from .conftest import EXAMPLES, PATIENCE, PIPY, Start, free_port, said_and_done, starting
from .test_native_modules import compile_module

EXAMPLE = EXAMPLES / "07-waf"
UNION = "1000 union select firstname, nric, email from users LIMIT 0, 100"
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts programs for all tests here: a database takes its time."""
    with starting(tmp_path_factory.mktemp("waf")) as begin:
        yield begin


@pytest.fixture(scope="module")
def shop(world: Start, tmp_path_factory: pytest.TempPathFactory) -> int:
    port = free_port()
    folder = tmp_path_factory.mktemp("shop")
    world(port, "sh", EXAMPLE / "shop.sh", str(port), folder)
    return port


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("module") / "inject-nmi.so"
    return compile_module(EXAMPLE / "inject-nmi.c", target, "-l:libmodsecurity.so.3")


@pytest.fixture(scope="module")
def firewall(world: Start, shop: int, module: Path) -> str:
    """The firewall's URL."""
    port = free_port()
    world(
        port,
        PIPY,
        EXAMPLE / "main.js",
        PORT=f"127.0.0.1:{port}",
        APPLICATION=f"127.0.0.1:{shop}",
        MODULE=str(module),
    )
    return f"http://127.0.0.1:{port}/"


def test_attacks_work_without_it_and_are_refused_with_it(firewall: str, shop: int) -> None:
    port = int(firewall.split(":")[2].strip("/"))
    results = said_and_done(EXAMPLE / "README.md", {8080: port, 8081: shop})
    assert len(results) == 13
    for command, expected, got in results:
        assert got == expected, command


def test_the_script_of_the_article_does_the_same(
    start: Start, shop: int, module: Path, tmp_path: Path
) -> None:
    port = free_port()
    text = (EXAMPLE / "nmi.js").read_text()
    for known, here in (
        (".listen(8000)", f".listen({port})"),
        ("/etc/pipy/modules/inject-nmi.so", str(module)),
        ("localhost:80", f"localhost:{shop}"),
    ):
        assert text.count(known) == 1
        text = text.replace(known, here)
    (tmp_path / "nmi.js").write_text(text)
    log = start(port, PIPY, tmp_path / "nmi.js")
    url = f"http://127.0.0.1:{port}/"
    refused = requests.post(url, data={"catid": UNION}, timeout=PATIENCE)
    assert (refused.status_code, refused.text) == (403, "Forbidden")
    assert "SQL Injection found with Fingerprint: 1UEnk" in log.read_text()
    assert requests.get(url, params={"q": SCRIPT}, timeout=PATIENCE).status_code == 403
    allowed = requests.post(url, data={"catid": "3"}, timeout=PATIENCE)
    assert allowed.status_code == 200
    assert "Teddy" in allowed.text


@pytest.mark.parametrize(
    "request_",
    [
        {"data": {"catid": UNION}},
        {"data": {UNION: "1"}},
        {"data": f"catid={UNION}".replace(" ", "/**/"), "headers": {"content-type": "x"}},
        {"params": {"a": "1", "b": "1' or '1'='1"}},
        {"params": {"a": "x=1 union select password from users"}},
        {"files": {"catid": (None, UNION)}},
        {"files": {"file": (f"{SCRIPT}.png", b"x")}},
        {"json": {"list": [{"deep": UNION}]}},
        {"json": {"escaped": SCRIPT}},
        {
            "data": json.dumps({"a": SCRIPT}).replace("<", "\\u003c"),
            "headers": {"content-type": "application/json"},
        },
        {"cookies": {"name": SCRIPT}},
        {"data": {"page": "<img src=x onerror=alert(1)>"}},
    ],
    ids=lambda request: next(iter(request)),
)
def test_attacks_are_found_wherever_values_are(firewall: str, request_: dict[str, object]) -> None:
    answer = requests.request("POST", firewall, timeout=PATIENCE, **request_)  # type: ignore[arg-type]
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "request_",
    [
        {"data": {"catid": "2"}},
        {"params": {"q": "tea & coffee, 50% off; select a drink"}},
        {"params": {"q": "Conor O'Brien"}},
        {"params": {"redirect": "https://example.com/?a=1&b=2#top"}},
        {"json": {"text": 'We were there from 5 or so, and "left" at 7.'}},
        {"files": {"picture": ("cat.png", os.urandom(1000))}},
        {"cookies": {"session": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_"}},
        {"data": "", "headers": {"content-type": "application/x-www-form-urlencoded"}},
    ],
    ids=lambda request: next(iter(request)),
)
def test_harmless_requests_pass(firewall: str, request_: dict[str, object]) -> None:
    answer = requests.request("POST", firewall, timeout=PATIENCE, **request_)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text


def test_padding_is_no_way_around(firewall: str) -> None:
    padded = {"pad": "x" * 2_000_000, "catid": UNION}
    assert requests.post(firewall, data=padded, timeout=PATIENCE).status_code == 413


def test_one_connection_carries_good_and_bad(firewall: str) -> None:
    with requests.Session() as session:
        codes = [
            session.post(firewall, data={"catid": catid}, timeout=PATIENCE).status_code
            for catid in ("1", UNION, "2", UNION, "3")
        ]
    assert codes == [200, 403, 200, 403, 200]
