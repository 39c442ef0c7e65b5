"""The DNS proxy of the documents, asked by dig and dnspython; its upstream counts questions."""

from __future__ import annotations

import random
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rrset
import pytest

from .conftest import EXAMPLES, PATIENCE, PIPY, Start, free_port, said_and_done

LISTING = ".listen(5300, { protocol: 'udp' })"


class Upstream:
    """Answers A with 10.9.8.7, refuses names that begin with ``refused``, and counts."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        # The listing asks port 53: an address of the loopback network that nobody else has.
        self.address = f"127.{random.randint(64, 127)}.{random.randint(1, 254)}.1"
        try:
            self._socket.bind((self.address, 53))
        except PermissionError:
            pytest.skip("port 53 needs privileges")
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            wire, peer = self._socket.recvfrom(65535)
            if not wire:
                return
            query = dns.message.from_wire(wire)
            # What is no query is dropped, as servers do: an answer may run out of the cache between
            # two questions of the script, which then sends it on.
            if query.flags & dns.flags.QR:
                continue
            name = query.question[0].name.to_text()
            self.asked.append(name)
            answer = dns.message.make_response(query)
            if name.startswith("refused"):
                answer.set_rcode(dns.rcode.REFUSED)
            else:
                ttl = 1 if name.startswith("short") else 60
                answer.answer.append(dns.rrset.from_text(name, ttl, "IN", "A", "10.9.8.7"))
            self._socket.sendto(answer.to_wire(), peer)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", (self.address, 53))
        self._thread.join(PATIENCE)
        self._socket.close()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    made = Upstream()
    yield made
    made.close()


@pytest.fixture
def port(start: Start, upstream: Upstream, tmp_path: Path) -> int:
    """The proxy's port."""
    folder = tmp_path / "example"
    shutil.copytree(EXAMPLES / "03-dns-proxy", folder)
    chosen, tcp = free_port(), free_port()
    script = (folder / "main.js").read_text()
    assert LISTING in script
    # A listener for connections besides tells when the script is at work.
    ready = f".listen({tcp}).dummy()\n"
    (folder / "main.js").write_text(
        script.replace(LISTING, ready + LISTING.replace("5300", str(chosen)))
    )
    (folder / "config.json").write_text(f'{{"upstreamDNSServer": "{upstream.address}"}}')
    start(tcp, PIPY, folder / "main.js")
    return chosen


def ask(port: int, name: str, kind: str = "A", source: str = "127.0.0.1") -> dns.message.Message:
    """Ask as a resolver does: again, when nothing comes."""
    query = dns.message.make_query(name, kind)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return dns.query.udp(query, "127.0.0.1", 1.0, port, source)
        except (dns.exception.Timeout, dns.query.BadResponse):
            # The listing looks into its cache twice: what runs out in between comes back as asked.
            assert time.monotonic() < deadline, f"no answer for {name}"


def test_dig_sees_what_the_readme_shows(port: int) -> None:
    results = said_and_done(EXAMPLES / "03-dns-proxy" / "README.md", {5300: port})
    assert len(results) == 6
    for command, expected, got in results:
        assert sorted(got.splitlines()) == sorted(expected.splitlines()), command


def test_answers_of_our_own_have_the_flags_of_the_article(port: int) -> None:
    answer = ask(port, "example.com")
    flags = dns.flags.to_text(answer.flags).split()
    assert flags == ["QR", "AA", "RD", "RA"]
    assert [rrset.ttl for rrset in answer.answer] == [60]


def test_upstream_is_asked_once_while_its_answer_holds(port: int, upstream: Upstream) -> None:
    for _ in range(3):
        answer = ask(port, "elsewhere.test")
        assert [rr.to_text() for rr in answer.answer[0]] == ["10.9.8.7"]
    assert upstream.asked == ["elsewhere.test."]


def test_an_answer_is_forgotten_when_it_has_run_out(port: int, upstream: Upstream) -> None:
    deadline = time.monotonic() + PATIENCE
    while len(upstream.asked) < 2:
        assert time.monotonic() < deadline, "upstream was not asked again"
        ask(port, "short.test")


def test_a_refusal_comes_through_and_is_not_cached(port: int, upstream: Upstream) -> None:
    for _ in range(2):
        assert ask(port, "refused.test").rcode() == dns.rcode.REFUSED
    assert upstream.asked == ["refused.test."] * 2


def test_garbage_is_no_end_of_the_proxy(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as garbage:
        garbage.sendto(b"\xff" * 5, ("127.0.0.1", port))
        garbage.sendto(b"", ("127.0.0.1", port))
    assert ask(port, "example.com", "MX").answer[0].ttl == 600


def test_many_clients_are_answered_each_their_own(port: int) -> None:
    answers = {
        source: ask(port, "example.com", source=source).answer[0][0].to_text()
        for source in ("127.0.0.1", "127.0.0.2") * 20
    }
    assert answers == {"127.0.0.1": "192.168.139.11", "127.0.0.2": "192.168.139.10"}
