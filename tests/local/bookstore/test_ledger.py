"""The warehouse with a real MariaDB behind it: nothing is lost, nothing is counted twice."""

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from fsm_bookstore import settings

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "bookstore"
SBIN = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"

DEADLINE_S = 40


def until(check, what):
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if found := check():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {DEADLINE_S} s: {what}")


class MariaDb:
    """A server with its own data directory; it can be killed and started again."""

    def __init__(self, home):
        self.home = home
        self.port = None
        user = ["--user=root"] if os.geteuid() == 0 else []
        self.common = ["--no-defaults", f"--datadir={home}/data", *user]
        subprocess.run(
            ["mariadb-install-db", *self.common, "--auth-root-authentication-method=normal"],
            check=True,
            capture_output=True,
            timeout=60,
        )

    def start(self):
        if self.port is None:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        self.process = subprocess.Popen(
            [
                shutil.which("mariadbd", path=SBIN),
                *self.common,
                f"--port={self.port}",
                "--bind-address=127.0.0.1",
                f"--socket={self.home}/s",
                f"--pid-file={self.home}/pid",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(self.answers, "MariaDB answers")

    def answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as wire:
                return b"MariaDB" in wire.recv(200)
        except OSError:
            return False

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def database():
    if shutil.which("mariadbd", path=SBIN) is None:
        pytest.skip("`mariadbd` is not installed (`make peers` installs it)")
    # Not under pytest's own directory: paths of unix sockets must be short.
    home = Path(tempfile.mkdtemp(prefix="fsm-db-", dir="/var/tmp"))
    server = MariaDb(home)
    server.start()
    yield server
    server.kill()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def warehouse(tmp_path):
    (tmp_path / "fsm_bookstore").symlink_to(EXAMPLE)
    running = []

    def begin(port):
        while running:
            process = running.pop()
            process.kill()
            process.communicate()
        env = {"PYTHONPATH": str(tmp_path), "PORT": "0"}
        env |= {"DATABASE_HOST": "127.0.0.1", "DATABASE_PORT": str(port)}
        process = subprocess.Popen(
            [sys.executable, "-m", "fsm_bookstore.bookwarehouse"],
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        running.append(process)
        for line in process.stdout:
            if match := re.search(r"listening on port (\d+)", line):
                return int(match[1])
        raise AssertionError(f"it ended with code {process.wait()}")

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def ask(port, path, method="GET", **headers):
    wire = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    try:
        wire.request(method, path, headers=headers)
        answer = wire.getresponse()
        return answer.status, answer.read().decode()
    finally:
        wire.close()


def order(port, who):
    return ask(port, "/restock-books", "POST", **{"client-app": who})


def counters(port):
    return json.loads(ask(port, "/counters")[1])["counters"]


def test_orders_survive_the_warehouse_and_are_counted_once(database, warehouse):
    port = warehouse(database.port)
    for who in ("bookstore-v1", "bookstore-v1", "bookstore-v2"):
        assert order(port, who)[0] == 200
    before = counters(port)
    assert (before["orders"], before["orders.bookstore-v1"]) == (3, 2)
    port = warehouse(database.port)
    until(lambda: counters(port)["orders"] == 3, "the orders of the earlier life are counted")
    assert order(port, "bookstore-v2")[0] == 200
    assert counters(port) == {**before, "orders": 4, "orders.bookstore-v2": 2}


def test_order_is_refused_while_the_database_is_away(database, warehouse):
    port = warehouse(database.port)
    assert order(port, "bookstore-v1")[0] == 200
    database.kill()
    status, words = order(port, "bookstore-v1")
    assert status == 503
    assert f"database 127.0.0.1:{database.port}" in words
    database.start()
    until(lambda: order(port, "bookstore-v1")[0] == 200, "it is opened again")
    told = counters(port)
    assert told["orders"] == 2
    assert told["failed"] >= 1


def test_sender_with_quotes_in_its_name_is_unknown_not_sql(database, warehouse):
    port = warehouse(database.port)
    assert order(port, "x'); DROP TABLE orders; --")[0] == 200
    assert order(port, "bookstore-v1")[0] == 200
    assert counters(port)["orders.unknown"] == 1


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"DATABASE_NAME": "a`b"}, "DATABASE_NAME='a`b'"),
        ({"DATABASE_PORT": "x"}, "DATABASE_PORT='x'"),
    ],
)
def test_database_that_cannot_be_meant_is_refused(env, words):
    with pytest.raises(settings.SettingsError, match=re.escape(words)):
        settings.database({"DATABASE_HOST": "mysql", **env})


def test_without_a_host_there_is_no_database():
    assert settings.database({"DATABASE_NAME": "x"}) is None
