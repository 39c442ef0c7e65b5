"""Decides whether a regular expression of a policy is one that every sidecar can carry out.

In: a pattern as a user wrote it. Out: None, or what is wrong and what to write instead.

The sidecar searches in linear time and therefore lacks look-around, back-references, atomic
groups, possessive repeats and conditionals. Users bring patterns from engines that have them, so
each gets a hint. What this page accepts is smaller than what the sidecar accepts: where the two
dialects give one text different meanings, the text is refused. That is on purpose: a pattern that
passes here and fails in the sidecar would hold back the whole configuration, other people's
policies included.

Two steps: a scan of the text, token by token, for what the dialects do not share; then Python's own
parser for the structure (balance, ranges, repeats of nothing), whose tree is walked to estimate how
large the compiled pattern becomes.

Not here: what a pattern is matched against (``docs/reference``), or whether it is wise.
"""

from __future__ import annotations

import importlib
import re
import string
from typing import Any, NamedTuple

LENGTH_MAX = 1_024
"""LIMIT: bytes of one pattern. Paths and headers met in practice need fewer than 200."""
DEPTH_MAX = 50
"""LIMIT: nested groups. The sidecar's parser stops at 250, Python's at its recursion limit."""
COST_MAX = 700_000
"""LIMIT: estimated bytes of the compiled pattern. The sidecar refuses more than 1 MiB; the estimate
errs on the large side, and this leaves a third as a margin."""

# Estimated compiled bytes of one item, measured with the sidecar's engine and rounded up. Unicode
# classes are large because the engine works on bytes.
_COST_LITERAL = 64
_COST_CLASS = 600
_COST_WIDE_CLASS = 5_000
_COST_CATEGORY = {"DIGIT": 5_500, "SPACE": 2_000, "WORD": 48_000}
_COST_NOT = 6_000
# A letter that fits in either case is a small class.
_COST_FOLDED = 450

_PLAIN_ESCAPES = frozenset("dDsSwWtnrfva")
_ASSERTION_ESCAPES = frozenset("bBA")
_HEX_ESCAPES = {"x": 2, "u": 4, "U": 8}
_PUNCTUATION = frozenset(string.punctuation + " ") - set("<>")
_ESCAPE_HINTS = {
    "Z": r"write \z for the end of the text, or $",
    "G": "it has no meaning here; remove it",
    "K": "it has no meaning here; remove it",
    "Q": "put a backslash before each special character instead",
    "E": "put a backslash before each special character instead",
    "h": r"write [ \t]",
    "R": r"write (?:\r\n|\n)",
    "p": "list the characters in brackets, such as [A-Za-z]",
    "P": "list the characters in brackets, such as [^A-Za-z]",
    "N": r"write the character itself, or \u and four hexadecimal digits",
    "<": "write < without a backslash",
    ">": "write > without a backslash",
}
_GROUPS = (
    ("(?<=", "look-behind is not supported", "match the text before it as part of the pattern"),
    ("(?<!", "look-behind is not supported", "match the text before it as part of the pattern"),
    ("(?=", "look-ahead is not supported", "match the text after it as part of the pattern"),
    ("(?!", "look-ahead is not supported", "say what may stand there, such as [^/]*"),
    ("(?>", "atomic groups are not supported", "write (?:…); searching is linear anyway"),
    ("(?(", "conditionals are not supported", "write the two cases as (?:…|…)"),
    ("(?P=", "back-references are not supported", "write the repeated text out"),
    ("(?P>", "recursion is not supported", "write the nested text out"),
    ("(?#", "comments are not supported", "remove the comment"),
)
_OPENER = re.compile(
    r"\((?:\?(?:P?<(?P<name>[A-Za-z_][A-Za-z0-9_]*)>|(?P<flags>[ims]*):|[ims]+\)))?"
)
_FOLDING = re.compile(r"\(\?[ms]*i")
_COUNT = re.compile(r"\{\d{1,6}(?:,\d{0,6})?\}")
_parser: Any = importlib.import_module("re._parser")


class RegexFault(NamedTuple):
    """Why a pattern is refused."""

    message: str
    hint: str


def regex_fault(pattern: str) -> RegexFault | None:
    """Return why a sidecar could not carry out the pattern, or None when it can."""
    if (length := len(pattern.encode("utf-8", "surrogatepass"))) > LENGTH_MAX:
        return RegexFault(
            f"the pattern has {length} bytes, at most {LENGTH_MAX} are taken",
            "split it over several matches",
        )
    try:
        tree = _parser.parse(_Scanner(pattern).scan())
        cost = _cost(tree, _COST_FOLDED if _FOLDING.search(pattern) else _COST_LITERAL)
    except _Refused as refused:
        return refused.fault
    except (re.error, OverflowError) as error:
        return RegexFault(f"it is no regular expression: {error}", "")
    if cost > COST_MAX:
        return RegexFault(
            "the pattern is too large once compiled",
            r"lower its repeat counts; [A-Za-z0-9_] is far smaller than \w, [0-9] than \d",
        )
    return None


class _Refused(Exception):
    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.fault = RegexFault(message, hint)


class _Scanner:
    """Walks over the pattern once and rewrites it in Python's spelling."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.depth = 0
        self.out: list[str] = []

    def scan(self) -> str:
        repeated = False
        while self.at < len(self.pattern):
            char = self.pattern[self.at]
            if char == "\x00" or "\ud800" <= char <= "\udfff":
                raise _Refused(f"position {self.at}: the character {char!r} cannot be matched")
            repeat = char in "*+?{"
            if repeat and repeated:
                self._repeat_of_repeat(char)
            if char == "\\":
                self._escape(in_class=False)
            elif char == "[":
                self._class()
            elif char == "(":
                self._group()
            elif char == "{":
                self._count()
            else:
                self.depth -= char == ")"
                self._take(1)
            # "a*?" is one lazy repeat, after which nothing may follow either.
            repeated = repeat
        return "".join(self.out)

    def _take(self, count: int, instead: str | None = None) -> None:
        text = self.pattern[self.at : self.at + count]
        self.out.append(text if instead is None else instead)
        self.at += count

    def _repeat_of_repeat(self, char: str) -> None:
        before = self.pattern[self.at - 1]
        if char == "?" and not (
            before == "?" and self.pattern[self.at - 2 : self.at - 1] in "*+?}"
        ):
            return
        if char == "+":
            raise _Refused(
                f"position {self.at}: possessive repeats are not supported",
                f"write {before} alone; searching is linear anyway",
            )
        raise _Refused(f"position {self.at}: {char!r} repeats a repeat", "group it: (?:…)")

    def _escape(self, *, in_class: bool) -> None:
        char = self.pattern[self.at + 1 : self.at + 2]
        where = f"position {self.at}"
        if not char:
            raise _Refused(f"{where}: the pattern ends with a backslash", r"write \\ for one")
        if char in _HEX_ESCAPES:
            digits = self.pattern[self.at + 2 : self.at + 2 + _HEX_ESCAPES[char]]
            if len(digits) < _HEX_ESCAPES[char] or set(digits) - set(string.hexdigits):
                raise _Refused(f"{where}: \\{char} needs {_HEX_ESCAPES[char]} hexadecimal digits")
            if not _is_scalar(int(digits, 16)):
                raise _Refused(f"{where}: \\{char}{digits} is no character")
            self._take(2 + len(digits))
        elif char.isdigit() and char.isascii():
            raise _Refused(
                f"{where}: back-references are not supported", "write the repeated text out"
            )
        elif char == "z" and not in_class:
            self._take(2, instead=r"\Z")
        elif char in _PLAIN_ESCAPES or char in _PUNCTUATION:
            self._take(2)
        elif char in _ASSERTION_ESCAPES and not in_class:
            self._take(2)
        else:
            hint = _ESCAPE_HINTS.get(char, f"write {char} without a backslash")
            raise _Refused(f"{where}: \\{char} is not supported", hint)

    def _class(self) -> None:
        start = self.at
        self._take(2 if self.pattern.startswith("[^", self.at) else 1)
        if self.pattern.startswith("]", self.at):
            self._take(1, instead=r"\]")
        while not self.pattern.startswith("]", self.at):
            char = self.pattern[self.at : self.at + 1]
            if not char:
                raise _Refused(f"position {start}: the bracket [ is never closed", r"write \[")
            if char == "\\":
                self._escape(in_class=True)
            elif char == "[":
                raise _Refused(f"position {self.at}: a [ stands within brackets", r"write \[")
            elif (pair := self.pattern[self.at : self.at + 2]) in ("&&", "--", "~~", "||"):
                raise _Refused(
                    f"position {self.at}: {pair} within brackets means different things to"
                    " different engines",
                    f"write \\{char} once",
                )
            else:
                self._take(1)
        self._take(1)

    def _group(self) -> None:
        for opener, message, hint in _GROUPS:
            if self.pattern.startswith(opener, self.at):
                raise _Refused(f"position {self.at}: {message}", hint)
        found = _OPENER.match(self.pattern, self.at)
        text = found.group() if found else "("
        if text == "(" and self.pattern.startswith("(?", self.at):
            raise _Refused(
                f"position {self.at}: {self.pattern[self.at : self.at + 4]!r} opens no group that"
                " is known here",
                "groups are (…), (?:…), (?P<name>…), (?i:…); (?i) may begin the pattern",
            )
        if not text.endswith(")"):
            self.depth += 1
        if self.depth > DEPTH_MAX:
            raise _Refused(f"position {self.at}: more than {DEPTH_MAX} nested groups")
        name = found.group("name") if found else None
        self._take(len(text), instead=f"(?P<{name}>" if name else None)

    def _count(self) -> None:
        found = _COUNT.match(self.pattern, self.at)
        if found is None or self.at == 0:
            raise _Refused(
                f"position {self.at}: a {{ that is no repeat count", r"write \{ for the character"
            )
        self._take(len(found.group()))


def _is_scalar(code: int) -> bool:
    return 0 < code < 0xD800 or 0xDFFF < code <= 0x10FFFF


def _cost(tree: Any, literal: int) -> int:
    total = 0
    for operator, argument in tree:
        name = str(operator)
        if name == "AT":
            total += _COST_LITERAL
        elif name == "LITERAL":
            total += literal if argument < 0x80 else 3 * literal
        elif name in ("ANY", "NOT_LITERAL"):
            total += _COST_WIDE_CLASS
        elif name == "IN":
            total += _class_cost(argument)
        elif name in ("MAX_REPEAT", "MIN_REPEAT"):
            least, most, body = argument
            copies = most if most < _parser.MAXREPEAT else least + 1
            total += (max(copies, 1) + 1) * (_COST_LITERAL + _cost(body, literal))
        elif name == "SUBPATTERN":
            total += 2 * _COST_LITERAL + _cost(argument[-1], literal)
        elif name == "BRANCH":
            total += sum(_COST_LITERAL + _cost(branch, literal) for branch in argument[1])
        else:
            # The scan has refused what leads here; a newer Python may know more.
            raise _Refused(f"{name.lower().replace('_', ' ')} is not supported")
    return total


def _class_cost(members: Any) -> int:
    cost = _COST_CLASS
    for operator, argument in members:
        name = str(operator)
        if name == "NEGATE":
            cost += _COST_WIDE_CLASS
        elif name == "CATEGORY":
            words = str(argument).split("_")
            cost += _COST_CATEGORY[words[-1]] + (_COST_NOT if "NOT" in words else 0)
        elif name == "LITERAL":
            cost += _COST_LITERAL if argument < 0x80 else _COST_CLASS
        else:
            cost += _COST_LITERAL if argument[1] < 0x80 else _COST_WIDE_CLASS
    return cost
