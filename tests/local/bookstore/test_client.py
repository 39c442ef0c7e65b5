"""The client keeps its connection, tells a refused request from a closed idle one, and says why."""

import socket

import pytest
from fsm_bookstore.client import BODY_BYTES_MAX, CallFailed, Client, ClientPool
from fsm_bookstore.settings import Target


@pytest.fixture
def client_of():
    """Makes a client of a peer; closes it with the test."""
    made = []

    def make(peer):
        made.append(Client(Target("127.0.0.1", peer.port), timeout_s=2))
        return made[-1]

    yield make
    for client in made:
        client.close()


def test_requests_share_one_connection(peers, client_of):
    peer = peers.open([peers.answer(b"one"), peers.answer(b"two")])
    client = client_of(peer)
    assert client.call("GET", "/a", {}).body == b"one"
    assert client.call("GET", "/b", {}).body == b"two"
    assert peer.accepted == 1


def test_a_closed_idle_connection_is_replaced_without_counting(peers, client_of):
    peer = peers.open([peers.answer(), peers.CLOSE], [peers.answer(b"again")])
    client = client_of(peer)
    client.call("GET", "/", {})
    assert client.call("GET", "/", {}).body == b"again"
    assert peer.accepted == 2


def test_an_empty_reply_on_a_fresh_connection_is_an_outcome(peers, client_of):
    peer = peers.open([peers.CLOSE])
    with pytest.raises(CallFailed, match=r"^empty reply$"):
        client_of(peer).call("GET", "/", {})
    assert len(peer.requests) == 1


def test_an_empty_reply_is_not_retried_for_ever(peers, client_of):
    peer = peers.open([peers.answer(), peers.CLOSE], [peers.CLOSE], [peers.answer()])
    client = client_of(peer)
    client.call("GET", "/", {})
    with pytest.raises(CallFailed, match="empty reply"):
        client.call("GET", "/", {})
    assert peer.accepted == 2


def test_a_refused_connection_says_so():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(CallFailed, match=r"^connection refused$"):
        Client(Target("127.0.0.1", port)).call("GET", "/", {})


def test_an_answer_that_never_comes_times_out():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(Target("127.0.0.1", silent.getsockname()[1]), timeout_s=0.05)
        with pytest.raises(CallFailed, match=r"^timed out$"):
            client.call("GET", "/", {})


def test_an_answer_cut_short_is_a_failure(peers, client_of):
    peer = peers.open([b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"])
    with pytest.raises(CallFailed, match=r"^answer cut short$"):
        client_of(peer).call("GET", "/", {})


def test_garbage_is_a_failure_in_words(peers, client_of):
    peer = peers.open([b"\x16\x03\x01 not http\r\n\r\n"])
    with pytest.raises(CallFailed, match="not an HTTP answer"):
        client_of(peer).call("GET", "/", {})


def test_a_name_that_does_not_exist_is_a_failure_in_words():
    with pytest.raises(CallFailed, match=r"^name not found$"):
        Client(Target("no-such-host.invalid", 80), timeout_s=5).call("GET", "/", {})


def test_a_refusal_is_a_reply_with_a_reason(peers, client_of):
    peer = peers.open([peers.answer(b"Access denied", "403 Forbidden")])
    reply = client_of(peer).call("GET", "/", {})
    assert not reply.ok
    assert reply.reason() == "403 Access denied"


def test_a_reason_is_short_and_printable(peers, client_of):
    peer = peers.open([peers.answer(b"\x1b[31mred\x07" + b"x" * 500 + b"\nmore", "500 Oops")])
    reason = client_of(peer).call("GET", "/", {}).reason()
    assert reason.startswith("500 [31mredxxx")
    assert len(reason) == len("500 ") + 60


def test_a_huge_answer_is_read_in_part_and_its_connection_dropped(peers, client_of):
    body = b"x" * (BODY_BYTES_MAX + 1)
    peer = peers.open([peers.answer(body)], [peers.answer(b"next")])
    client = client_of(peer)
    assert len(client.call("GET", "/", {}).body) == BODY_BYTES_MAX
    assert client.call("GET", "/", {}).body == b"next"


def test_connection_close_is_obeyed(peers, client_of):
    peer = peers.open([peers.answer(b"a", "200 OK", "Connection: close")], [peers.answer(b"b")])
    client = client_of(peer)
    client.call("GET", "/", {})
    assert client.call("GET", "/", {}).body == b"b"


def test_a_pool_lends_an_idle_connection_again(peers):
    peer = peers.open([peers.answer(), peers.answer()])
    pool = ClientPool(Target("127.0.0.1", peer.port), timeout_s=2)
    for _ in range(2):
        with pool.client() as client:
            client.call("GET", "/", {})
    pool.close()
    assert peer.accepted == 1
