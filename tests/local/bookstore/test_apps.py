"""The four applications as processes: they serve, shop, count, and end when asked."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "bookstore"

DEADLINE_S = 20


@pytest.fixture
def start(tmp_path):
    """Starts an application on a free port and returns (process, port); all end with the test."""
    (tmp_path / "fsm_bookstore").symlink_to(EXAMPLE)
    running = []

    def begin(name, **env):
        process = subprocess.Popen(
            [sys.executable, "-m", f"fsm_bookstore.{name}"],
            env={**os.environ, "PYTHONPATH": str(tmp_path), "PORT": "0", **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        running.append(process)
        for line in process.stdout:
            if match := re.search(r"listening on port (\d+)", line):
                return process, int(match[1])
        raise AssertionError(f"{name} ended with code {process.wait()}")

    yield begin
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


def ask(port, path, method="GET", headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def counters(port):
    return json.loads(ask(port, "/counters")[1])


def until(condition):
    deadline = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return found


def test_a_book_travels_from_the_warehouse_to_the_buyer(start):
    _, warehouse = start("bookwarehouse")
    _, shop = start(
        "bookstore", BOOKSTORE_VERSION="v1", BOOKWAREHOUSE_URL=f"http://127.0.0.1:{warehouse}"
    )
    _, buyer = start("bookbuyer", BOOKSTORE_URL=f"http://127.0.0.1:{shop}", SHOP_INTERVAL_MS="5")
    until(lambda: counters(buyer)["counters"]["books_bought"] >= 20)

    bought = counters(buyer)
    sold = counters(shop)
    ordered = counters(warehouse)
    assert bought["counters"]["books_bought.bookstore-v1"] == bought["counters"]["books_bought"]
    assert bought["failures"] == {}
    assert sold["counters"]["books_sold"] >= bought["counters"]["books_bought"]
    assert sold["counters"]["books_restocked"] <= sold["counters"]["books_sold"]
    assert ordered["counters"]["orders.bookstore-v1"] == ordered["counters"]["orders"]
    assert ordered["counters"]["orders"] >= sold["counters"]["books_restocked"]


def test_the_thief_counts_what_it_stole_under_its_own_name(start):
    _, shop = start("bookstore", IDENTITY="bookstore-v2", BOOKWAREHOUSE_URL="http://127.0.0.1:9")
    _, thief = start("bookthief", BOOKSTORE_URL=f"http://127.0.0.1:{shop}", SHOP_INTERVAL_MS="5")
    until(lambda: counters(thief)["counters"]["books_stolen"] >= 5)
    assert counters(thief)["identity"] == "bookthief"
    assert counters(thief)["counters"]["books_stolen.bookstore-v2"] >= 5


def test_a_shop_without_its_warehouse_sells_and_counts_the_failed_orders(start):
    _, shop = start("bookstore", BOOKWAREHOUSE_URL="http://127.0.0.1:9")
    answer, body = ask(shop, "/buy-a-book/new")
    assert answer.status == 200
    assert answer.headers["Identity"] == "bookstore"
    assert answer.headers["Booksbought"] == "1"
    assert json.loads(body) == {"identity": "bookstore", "books_sold": 1}
    seen = counters(shop)
    assert seen["counters"]["books_restocked"] == 0
    assert seen["failures"] == {"POST /restock-books: connection refused": 1}


@pytest.mark.parametrize("name", ["bookbuyer", "bookthief", "bookstore", "bookwarehouse"])
def test_every_application_says_that_it_is_ready(start, name):
    _, port = start(
        name, BOOKSTORE_URL="http://127.0.0.1:9", BOOKWAREHOUSE_URL="http://127.0.0.1:9"
    )
    answer, body = ask(port, "/health")
    assert (answer.status, body) == (200, b"ok\n")
    assert ask(port, "/health", "POST")[0].status == 405


def test_a_buyer_keeps_trying_and_says_why_it_fails(start):
    _, buyer = start("bookbuyer", BOOKSTORE_URL="http://127.0.0.1:9", SHOP_INTERVAL_MS="5")
    until(lambda: counters(buyer)["counters"]["failed"] >= 10)
    seen = counters(buyer)
    assert seen["counters"]["succeeded"] == 0
    assert set(seen["failures"]) == {
        "GET /books-bought: connection refused",
        "GET /buy-a-book/new: connection refused",
    }


def test_trace_headers_travel_on_to_the_warehouse(start, peers):
    warehouse = peers.open([peers.answer()])
    _, shop = start("bookstore", BOOKWAREHOUSE_URL=f"http://127.0.0.1:{warehouse.port}")
    ask(shop, "/buy-a-book/new", headers={"x-b3-traceid": "abc123", "cookie": "secret"})
    until(lambda: warehouse.requests)
    assert b"x-b3-traceid: abc123" in warehouse.requests[0]
    assert b"secret" not in warehouse.requests[0]


@pytest.mark.parametrize("name", ["bookbuyer", "bookthief", "bookstore", "bookwarehouse"])
def test_the_page_is_complete_in_itself(start, name):
    _, port = start(name)
    answer, body = ask(port, "/")
    page = body.decode()
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "{{" not in page
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert "http://" not in page
    assert "https://" not in page


def test_requests_that_make_no_sense_get_an_answer_that_does(start):
    _, port = start("bookwarehouse")
    assert ask(port, "/nothing")[0].status == 404
    assert ask(port, "/reset")[0].status == 405
    assert ask(port, "/restock-books")[0].status == 405
    assert ask(port, "/", method="HEAD")[1] == b""
    assert ask(port, "/reset", "POST", {"Content-Length": "99999999"})[0].status == 413
    assert ask(port, "/reset", "POST", {"Content-Length": "ten"})[0].status == 411
    assert ask(port, "/counters")[0].status == 200


def test_a_reset_forgets_and_is_counted(start):
    _, port = start("bookwarehouse")
    ask(port, "/restock-books", "POST", {"client-app": "someone", "Content-Length": "0"})
    assert counters(port)["counters"] == {"orders": 1, "failed": 0, "orders.someone": 1}
    ask(port, "/reset", "POST", {"Content-Length": "0"})
    assert counters(port)["counters"] == {"orders": 0, "failed": 0}
    assert counters(port)["resets"] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_application_at_once_and_in_order(start, number):
    process, _ = start("bookbuyer", BOOKSTORE_URL="http://127.0.0.1:9")
    process.send_signal(number)
    assert process.wait(timeout=5) == 0
    assert "stopped" in process.stdout.read()


def test_a_wrong_setting_ends_an_application_with_words(tmp_path):
    (tmp_path / "fsm_bookstore").symlink_to(EXAMPLE)
    done = subprocess.run(
        [sys.executable, "-m", "fsm_bookstore.bookbuyer"],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "SHOP_INTERVAL_MS": "often"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "SHOP_INTERVAL_MS='often'" in done.stderr
    assert "Traceback" not in done.stderr
