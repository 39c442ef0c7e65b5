"""The counters: parts add up to sums, failures to reasons, and nothing grows without bound."""

import threading

import pytest
from fsm_bookstore import counters, settings
from fsm_bookstore.counters import Counters


def test_a_part_counts_in_its_sum():
    counts = Counters("books_bought")
    counts.add("books_bought", "bookstore-v1")
    counts.add("books_bought", "bookstore-v2")
    counts.add("books_bought", "bookstore-v1")
    assert counts.snapshot()["counters"] == {
        "books_bought": 3,
        "books_bought.bookstore-v1": 2,
        "books_bought.bookstore-v2": 1,
    }


def test_failures_are_counted_by_reason():
    counts = Counters("failed")
    counts.fail("GET /", "connection refused")
    counts.fail("GET /", "connection refused")
    counts.fail("GET /x", "403 Access denied")
    seen = counts.snapshot()
    assert seen["failures"] == {"GET /: connection refused": 2, "GET /x: 403 Access denied": 1}
    assert seen["counters"]["failed"] == 3
    assert seen["last_failure"] == "GET /x: 403 Access denied"


def test_ever_new_reasons_and_parts_are_bounded_and_lose_no_count():
    counts = Counters("failed", "orders")
    for number in range(500):
        counts.fail("GET /", f"reason {number}")
        counts.add("orders", f"customer-{number}")
    seen = counts.snapshot()
    assert len(seen["failures"]) == counters.REASONS_MAX + 1
    assert sum(seen["failures"].values()) == 500
    assert len(seen["counters"]) == counters.NAMES_MAX
    assert seen["counters"]["orders"] == 500


def test_a_reset_starts_from_the_declared_zeros():
    counts = Counters("books_sold", "failed")
    counts.add("books_sold", "x")
    counts.fail("a", "b")
    counts.reset()
    seen = counts.snapshot()
    assert seen["counters"] == {"books_sold": 0, "failed": 0}
    assert seen["failures"] == {}
    assert seen["last_failure"] is None
    assert seen["resets"] == 1


def test_threads_lose_no_count():
    counts = Counters("orders")
    threads = [
        threading.Thread(target=lambda: [counts.add("orders", "x") for _ in range(1000)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts.snapshot()["counters"] == {"orders": 8000, "orders.x": 8000}


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, "bookstore"),
        ({"BOOKSTORE_VERSION": "v2"}, "bookstore-v2"),
        ({"BOOKSTORE_VERSION": "2"}, "bookstore-v2"),
        ({"IDENTITY": "shop", "BOOKSTORE_VERSION": "2"}, "shop"),
    ],
)
def test_identity_comes_from_the_environment(env, expected):
    assert settings.identity("bookstore", env) == expected


@pytest.mark.parametrize("bad", ["a b", "x\r\nSet-Cookie: y", "-x", "x" * 64, "ä"])
def test_an_identity_that_is_no_plain_name_is_refused(bad):
    with pytest.raises(settings.SettingsError, match="identity"):
        settings.identity("bookstore", {"IDENTITY": bad})


@pytest.mark.parametrize("bad", ["0", "-1", "1.5", "fast", "3600001", "²"])
def test_an_interval_that_is_no_number_is_refused_by_name(bad):
    with pytest.raises(settings.SettingsError, match="SHOP_INTERVAL_MS"):
        settings.interval_ms({"SHOP_INTERVAL_MS": bad})


@pytest.mark.parametrize(
    "bad", ["shop", "https://shop", "http://", "http://shop/path", "http://shop:99999"]
)
def test_a_target_that_is_no_plain_http_url_is_refused_by_name(bad):
    with pytest.raises(settings.SettingsError, match="BOOKSTORE_URL"):
        settings.target("BOOKSTORE_URL", "http://x", {"BOOKSTORE_URL": bad})


def test_a_target_has_a_default_and_a_default_port():
    assert settings.target("U", "http://shop.ns:14001", {}) == settings.Target("shop.ns", 14001)
    assert settings.target("U", "", {"U": "http://shop"}) == settings.Target("shop", 80)
