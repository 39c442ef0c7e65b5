"""What proxies report of their plugins: counted once, shown while it is news."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from fsm.delivery import Failing, FailingPlugins, ProxyKey
from fsm.delivery.failing import RECENT_S, BadReport

ONE, TWO = ProxyKey("shop", "one", "u1"), ProxyKey("shop", "two", "u2")


class Board:
    def __init__(self) -> None:
        self.now = 0.0
        self.alive = {ONE, TWO}
        self.told = 0
        self.metrics = CollectorRegistry()
        self.plugins = FailingPlugins(
            self.metrics,
            clock=lambda: self.now,
            alive=lambda key: key in self.alive,
            on_change=self._tell,
        )

    def _tell(self) -> None:
        self.told += 1

    def report(self, proxy: ProxyKey, **errors: int) -> None:
        said = {name: {"errors": n, "last": f"{name}:{n}"} for name, n in errors.items()}
        self.plugins.report(proxy, {"plugins": said})

    def total(self, plugin: str) -> float | None:
        return self.metrics.get_sample_value("fsm_plugin_errors_total", {"plugin": plugin})


def test_an_error_is_counted_once_however_often_it_is_reported() -> None:
    board = Board()
    board.report(ONE, verifier=3)
    board.report(ONE, verifier=3, cors=1)
    board.report(TWO, verifier=2)
    assert (board.total("verifier"), board.total("cors")) == (5, 1)
    # It began anew: all that it has is new.
    board.report(ONE, verifier=1)
    assert board.total("verifier") == 6
    assert board.told == 4


def test_a_status_names_how_many_and_one_of_them() -> None:
    board = Board()
    assert board.plugins.failing("verifier") is None
    board.report(TWO, verifier=1)
    assert str(board.plugins.failing("verifier")) == "fails on 1 proxy; on shop/two: verifier:1"
    board.report(ONE, verifier=7)
    assert str(board.plugins.failing("verifier")) == "fails on 2 proxies; on shop/one: verifier:7"


def test_what_is_over_is_in_no_status() -> None:
    board = Board()
    board.report(ONE, verifier=1)
    board.report(TWO, verifier=1)
    board.alive.remove(ONE)
    assert str(board.plugins.failing("verifier")) == "fails on 1 proxy; on shop/two: verifier:1"
    board.report(TWO)
    assert board.plugins.failing("verifier") is None
    board.report(TWO, verifier=4)
    board.now = RECENT_S - 1
    board.report(TWO, verifier=4)
    assert board.plugins.failing("verifier") is not None
    board.now = RECENT_S + 1
    assert board.plugins.failing("verifier") is None, "the same again is no news"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"plugins": []},
        {"plugins": {"a": 1}},
        {"plugins": {"a": {"errors": "1", "last": ""}}},
        {"plugins": {"a": {"errors": True, "last": ""}}},
        {"plugins": {"a": {"errors": -1, "last": ""}}},
        {"plugins": {"a": {"errors": 1}}},
        {"plugins": {"a" * 300: {"errors": 1, "last": ""}}},
        {"plugins": {str(n): {"errors": 1, "last": ""} for n in range(65)}},
    ],
)
def test_what_is_no_report_changes_nothing(body: dict[str, object]) -> None:
    board = Board()
    board.report(ONE, verifier=1)
    with pytest.raises(BadReport):
        board.plugins.report(ONE, body)
    assert board.plugins.failing("verifier") is not None
    assert board.told == 1


def test_words_are_one_short_line() -> None:
    board = Board()
    said = {"errors": 1, "last": "a\nb " + "c" * 1000}
    board.plugins.report(ONE, {"plugins": {"verifier": said}})
    failing = board.plugins.failing("verifier")
    assert failing is not None
    assert failing.words.startswith("a b ccc")
    assert len(failing.words) == 400


def test_what_two_replicas_know_is_joined_and_a_proxy_counts_once() -> None:
    three = ProxyKey("shop", "three", "u3")
    here, there = Failing((TWO,), "here"), Failing((ONE, TWO), "there", 7)
    for joined in (here.joined(there), there.joined(here)):
        assert joined == Failing((ONE, TWO), "there", 7)
    assert str(here.joined(Failing((three,), "no"))).startswith("fails on 2 proxies; on shop/three")


def test_all_that_fails_is_listed() -> None:
    board = Board()
    board.report(ONE, verifier=1, cors=2)
    board.report(TWO, cors=1)
    assert board.plugins.all() == {
        "cors": Failing((ONE, TWO), "cors:2"),
        "verifier": Failing((ONE,), "verifier:1"),
    }
