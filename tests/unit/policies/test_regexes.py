"""Which patterns are taken: what users write passes, what no sidecar can carry out gets a hint."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm.policies.regexes import COST_MAX, LENGTH_MAX, regex_fault

TAKEN = [
    "",
    ".*",
    "/",
    "/books-bought",
    ".*a-book.*new",
    ".*-http-client/*.*",
    "^/api/v[0-9]+/users/[^/]+$",
    r"^/static/.*\.(?:css|js)$",
    r"\/escaped\/slash\-and\_more",
    "(?i)curl",
    "(?i:chrome|firefox)/[0-9]+",
    "(?P<name>a)(?<other>b)",
    r"\d{1,3}(?:\.\d{1,3}){3}",
    r"^\w+\s\S+$",
    r"a*?b+?c??d{2,}?",
    r"[]a-z]",
    r"[^]a-z]",
    r"[\w.-]+@[\w.-]+",
    r"\A.*\z",
    "é|[à-ü]",
    r"\x41é\U0001F600",
    r"\{id\}",
    "a|",
]

REFUSED = [
    ("(?=a)", "look-ahead", "after it"),
    ("(?!internal)", "look-ahead", "[^/]*"),
    ("(?<=a)b", "look-behind", "before it"),
    ("(?<!a)b", "look-behind", "before it"),
    (r"(a)\1", "back-references", "write the repeated text out"),
    ("(?P<n>a)(?P=n)", "back-references", "write the repeated text out"),
    ("(?>a*)b", "atomic groups", "(?:…)"),
    ("a++", "possessive", "write + alone"),
    ("a*+", "possessive", "write * alone"),
    ("a?+", "possessive", "write ? alone"),
    ("a{2}+", "possessive", "write } alone"),
    ("(a)(?(1)b|c)", "conditionals", "(?:…|…)"),
    ("(?#comment)a", "comments", "remove"),
    (r"a\Z", r"\Z is not supported", r"\z"),
    (r"\p{L}+", r"\p is not supported", "brackets"),
    (r"\h", r"\h is not supported", r"[ \t]"),
    (r"\q", r"\q is not supported", "without a backslash"),
    (r"\<b\>", r"\< is not supported", "without a backslash"),
    ("/users/{id}", "no repeat count", r"\{"),
    ("{2}", "no repeat count", r"\{"),
    ("a{,3}", "no repeat count", r"\{"),
    ("a**", "repeats a repeat", "(?:…)"),
    ("a{2}{3}", "repeats a repeat", "(?:…)"),
    ("a???", "repeats a repeat", "(?:…)"),
    ("[[:alpha:]]", "a [ stands within brackets", r"\["),
    ("[a&&b]", "&& within brackets", "once"),
    ("[a--b]", "-- within brackets", "once"),
    ("[a", "never closed", r"\["),
    (r"[a\b]", r"\b is not supported", ""),
    ("(?-i)a", "opens no group", "(?P<name>…)"),
    ("(?x) a", "opens no group", ""),
    ("(?", "opens no group", ""),
    (r"a\ud800", "is no character", ""),
    (r"\u12", "needs 4 hexadecimal digits", ""),
    ("a\\", "ends with a backslash", ""),
    ("(a", "no regular expression", ""),
    ("a)", "no regular expression", ""),
    ("*a", "no regular expression", ""),
    ("[z-a]", "no regular expression", ""),
    ("a(?i)b", "no regular expression", ""),
    (r"\w{50}", "too large", "[A-Za-z0-9_]"),
    ("(?:a{1000}){1000}", "too large", ""),
    ("a{999999}", "too large", ""),
    ("(" * 60 + "a" + ")" * 60, "nested groups", ""),
    ("a" * (LENGTH_MAX + 1), f"has {LENGTH_MAX + 1} bytes", "several matches"),
    ("é" * LENGTH_MAX, "bytes", ""),
    ("a\x00", "cannot be matched", ""),
    ("\ud800", "cannot be matched", ""),
]


@pytest.mark.parametrize("pattern", TAKEN)
def test_what_users_write_is_taken(pattern: str) -> None:
    assert regex_fault(pattern) is None


@pytest.mark.parametrize(("pattern", "message", "hint"), REFUSED, ids=lambda v: str(v)[:24])
def test_what_no_sidecar_can_carry_out_is_refused(pattern: str, message: str, hint: str) -> None:
    fault = regex_fault(pattern)
    assert fault is not None
    assert message in fault.message
    assert hint in fault.hint


@given(st.text(alphabet="ab/.*+?()[]{}|^$\\-,:=<>!iPdwW0129é ", max_size=20))
def test_any_text_gets_an_answer_and_what_is_taken_is_a_pattern(pattern: str) -> None:
    if regex_fault(pattern) is None:
        # Python spells two things differently from the sidecar; the rest must compile as it is.
        re.compile(pattern.replace("(?<", "(?P<").replace(r"\z", r"\Z"))


@given(st.text(max_size=40))
def test_no_text_is_an_error(pattern: str) -> None:
    regex_fault(pattern)


@given(st.text(alphabet="abc/-.", max_size=40))
def test_escaped_text_is_always_taken(text: str) -> None:
    assert regex_fault(re.escape(text)) is None


def test_the_cost_is_bounded_where_repeats_multiply() -> None:
    assert regex_fault("[a-z]{200}") is None
    assert regex_fault("(?:[a-z]{200}){200}") is not None
    assert COST_MAX < 1 << 20
