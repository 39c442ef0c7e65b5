"""Rules of CRDs in CEL (``x-kubernetes-validations``): read once per CRD, asked for each object.

What comes in: an ``openAPIV3Schema``, objects and what they were before. What goes out: causes of
refusal; for CRDs also rules that are wrong, and rules that this server cannot evaluate.

    self     the value at the place of the rule, typed by its schema
    oldSelf  what it was before; a rule that names it is asked on updates alone

Invariants: a rule that cannot be evaluated for want of a function or of syntax is never asked, and
the CRD's warning says so; one that fails while it is evaluated refuses the object, as in
Kubernetes. Items of a list are compared with those of before only where the list is a map by keys.
LIMIT: ``_RULES_MAX`` evaluations per object. Not done here: estimating what a rule will cost (this
server has one user), ``cel.bind``, optional fields (``.?``), and types of Kubernetes' own, such as
quantities.
Source: https://kubernetes.io/docs/reference/using-api/cel/
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from fsm.standalone.apiserver.errors import Cause

Schema = dict[str, Any]

KEY = "x-kubernetes-validations"
_RULES_MAX = 5_000
_ABSENT = object()
#: Reasons that a rule may give, by how a Status says them.
_REASONS = ("FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired", "FieldValueDuplicate")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, ready to be asked."""

    text: str
    message: str
    reason: str
    field_path: str
    transition: bool
    optional_old: bool
    program: Any
    message_program: Any


class Fault(ValueError):
    """A rule that says nothing that can be evaluated."""


class Unsupported(ValueError):
    """A rule that may be right, and that this server cannot evaluate."""


def rules_of(schema: Schema) -> tuple[list[str], list[str]]:
    """Read every rule of a schema: what is wrong, and what is not evaluated, each with its path."""
    wrong: list[str] = []
    left_out: list[str] = []
    for path, entry in _entries(schema, ""):
        try:
            _rule(entry)
        except Fault as error:
            wrong.append(f"{path}: {error}")
        except Unsupported as error:
            left_out.append(f"{path}: {error}")
    return wrong, left_out


def has_rules(schema: Any) -> bool:
    """Tell whether there is any rule, without reading them."""
    return next(_entries(schema, ""), None) is not None


class Rules:
    """The rules of one schema."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._known: dict[int, list[Rule]] = {}
        self._left = 0

    def causes(self, new: dict[str, Any], old: dict[str, Any] | None) -> list[Cause]:
        """Ask every rule about an object."""
        self._left = _RULES_MAX
        before = _ABSENT if old is None else old
        return list(self._ask(self._schema, new, before, ""))

    def _ask(self, schema: Schema, new: Any, old: Any, path: str) -> Iterator[Cause]:
        for rule in self._rules(schema):
            if (cause := self._judge(rule, schema, new, old, path)) is not None:
                yield cause
        if isinstance(new, dict):
            known = schema.get("properties") or {}
            more = schema.get("additionalProperties")
            for key, value in new.items():
                below = known.get(key) or (more if isinstance(more, dict) else None)
                if below is None or value is None:
                    continue
                where = f"{path}.{key}" if key in known and path else key
                if key not in known:
                    where = f"{path}[{key}]"
                before = old.get(key, _ABSENT) if isinstance(old, dict) else _ABSENT
                yield from self._ask(below, value, before, where)
        elif isinstance(new, list) and isinstance(schema.get("items"), dict):
            for index, value in enumerate(new):
                before = _same_item(schema, value, old)
                yield from self._ask(schema["items"], value, before, f"{path}[{index}]")

    def _rules(self, schema: Schema) -> list[Rule]:
        found = self._known.get(id(schema))
        if found is None:
            found = self._known[id(schema)] = []
            for entry in schema.get(KEY) or []:
                try:
                    found.append(_rule(entry))
                except (Fault, Unsupported):
                    # Told when the CRD was stored; an old store may have some that are wrong.
                    continue
        return found

    def _judge(self, rule: Rule, schema: Schema, new: Any, old: Any, path: str) -> Cause | None:
        if rule.transition and old is _ABSENT and not rule.optional_old:
            return None
        where = _joined(path, rule.field_path) or "<root>"
        self._left -= 1
        if self._left < 0:
            text = f"more than {_RULES_MAX} rules would have to be asked"
            return Cause(where, text, "FieldValueInvalid") if self._left == -1 else None
        names = {"self": _typed(schema, new, root=path == "")}
        if rule.transition and old is not _ABSENT:
            names["oldSelf"] = _typed(schema, old, root=path == "")
        kind = schema.get("type") or "object"
        failed = f'Invalid value: "{kind}"'
        try:
            if bool(rule.program.evaluate(names)):
                return None
        except Exception as error:
            # Whatever a rule trips over, it did not say yes; the library raises of many kinds.
            why = str(error.args[0] if error.args else error)
            return Cause(where, f"{failed}: rule {rule.text!r} cannot be evaluated: {why}")
        return Cause(where, f"{failed}: {_message(rule, names)}", rule.reason)


def _message(rule: Rule, names: Mapping[str, Any]) -> str:
    if rule.message_program is not None:
        try:
            if text := str(rule.message_program.evaluate(names)).strip():
                return text
        except Exception:
            # As in Kubernetes: a message that cannot be made gives way to the plain one.
            return rule.message
    return rule.message


def _joined(path: str, field: str) -> str:
    return f"{path}{field}" if path else field.removeprefix(".")


def _entries(schema: Any, path: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(schema, dict):
        return
    # A schema that is malformed is told elsewhere.
    entries, known = schema.get(KEY), schema.get("properties")
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        yield f"{path}.{KEY}[{index}].rule".removeprefix("."), entry
    for key, below in known.items() if isinstance(known, dict) else ():
        yield from _entries(below, f"{path}.properties[{key}]")
    for key in ("items", "additionalProperties"):
        yield from _entries(schema.get(key), f"{path}.{key}")


def _rule(entry: Any) -> Rule:
    text = str(entry.get("rule") or "") if isinstance(entry, dict) else ""
    if not text.strip():
        raise Fault("Required value: rule is not specified")
    program, names = _program(text)
    expression = str(entry.get("messageExpression") or "")
    reason = str(entry.get("reason") or "FieldValueInvalid")
    return Rule(
        text=text,
        message=str(entry.get("message") or "").strip() or f"failed rule: {text.strip()}",
        reason=reason if reason in _REASONS else "FieldValueInvalid",
        field_path=str(entry.get("fieldPath") or ""),
        transition="oldSelf" in names,
        optional_old=bool(entry.get("optionalOldSelf")),
        program=program,
        message_program=_program(expression)[0] if expression else None,
    )


# LIMIT: of the rules of many CRDs those of late; the others are read again.
@lru_cache(maxsize=4096)
def _program(text: str) -> tuple[Any, frozenset[str]]:
    # WHY here: most boxes never see a rule, and the library is large.
    import celpy
    from celpy.celparser import CELParseError

    if re.search(r"\.\?|\[\?", text):
        raise Unsupported("optional fields are not supported here")
    environment = celpy.Environment()
    try:
        tree = environment.compile(text)
    except CELParseError as error:
        told = " ".join(str(error).split())
        raise Fault(f"Invalid value: {text!r}: compilation failed: {told}") from error
    known = {*_functions(), *celpy.evaluation.base_functions, "has", "dyn", *_MACROS}
    for kind in ("ident_arg", "member_dot_arg"):
        for call in tree.find_data(kind):
            name = str(call.children[0] if kind == "ident_arg" else call.children[1])
            if name not in known:
                raise Unsupported(f"function {name} is not supported here")
    names = {str(token) for ident in tree.find_data("ident") for token in ident.children}
    return environment.program(tree, functions=_functions()), frozenset(names)


_MACROS = ("all", "exists", "exists_one", "map", "filter", "min", "max")


@cache
def _functions() -> dict[str, Any]:
    """Return what Kubernetes adds to the language, as far as rules of CRDs use it."""
    from celpy import celtypes as t

    def find(text: str, pattern: str) -> Any:
        found = re.search(str(pattern), str(text))
        return t.StringType(found.group(0) if found else "")

    def ordered(items: Any) -> Any:
        values = list(items)
        pairs = itertools.pairwise(values)
        return t.BoolType(all(first <= second for first, second in pairs))

    def index(where: Any, what: Any) -> Any:
        text = isinstance(where, str)
        found = where.find(what) if text else (where.index(what) if what in where else -1)
        return t.IntType(found)

    def joined(items: Any, between: str = "") -> Any:
        return t.StringType(str(between).join(map(str, items)))

    def split(text: str, at: str) -> Any:
        return t.ListType([t.StringType(part) for part in str(text).split(str(at))])

    def total(items: Any) -> Any:
        values = list(items)
        result = values[0] if values else t.IntType(0)
        for value in values[1:]:
            result = result + value
        return result

    def url(text: str) -> Any:
        return t.BoolType(bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]*://[^/\s]", str(text))))

    def substring(text: str, begin: int, end: int | None = None) -> Any:
        return t.StringType(str(text)[int(begin) : None if end is None else int(end)])

    def replaced(text: str, old: str, new: str) -> Any:
        return t.StringType(str(text).replace(str(old), str(new)))

    return {
        "find": find,
        "isSorted": ordered,
        "indexOf": index,
        "join": joined,
        "split": split,
        "sum": total,
        "isURL": url,
        "substring": substring,
        "replace": replaced,
        "lowerAscii": lambda text: t.StringType(str(text).lower()),
        "upperAscii": lambda text: t.StringType(str(text).upper()),
        "trim": lambda text: t.StringType(str(text).strip()),
        "charAt": lambda text, at: t.StringType(str(text)[int(at) : int(at) + 1]),
    }


def _typed(schema: Schema, value: Any, *, root: bool = False) -> Any:
    """Give a value the type that its schema says; what the schema does not know stays out."""
    from celpy import celtypes as t
    from celpy.adapter import json_to_cel

    if isinstance(value, dict):
        known = schema.get("properties") or {}
        more = schema.get("additionalProperties")
        made = t.MapType()
        for key, below in value.items():
            if root and key == "metadata":
                named = {k: below[k] for k in ("name", "generateName") if k in (below or {})}
                made[t.StringType(key)] = json_to_cel(named)
                continue
            of = known.get(key) or (more if isinstance(more, dict) else {})
            if below is not None:
                made[t.StringType(key)] = _typed(of, below)
        return made
    if isinstance(value, list):
        of = schema.get("items") if isinstance(schema.get("items"), dict) else {}
        return t.ListType([_typed(of or {}, item) for item in value])
    kind, form = schema.get("type"), schema.get("format")
    if kind == "number" and not isinstance(value, bool):
        return t.DoubleType(value)
    if kind == "string" and isinstance(value, str) and form in ("date-time", "duration"):
        try:
            return t.TimestampType(value) if form == "date-time" else t.DurationType(value)
        except (ValueError, TypeError):
            return t.StringType(value)
    return json_to_cel(value)


def _same_item(schema: Schema, value: Any, old: Any) -> Any:
    keys = schema.get("x-kubernetes-list-map-keys") or []
    if schema.get("x-kubernetes-list-type") != "map" or not isinstance(old, list):
        return _ABSENT
    wanted = [value.get(key) for key in keys] if isinstance(value, dict) else None
    for item in old:
        if isinstance(item, dict) and [item.get(key) for key in keys] == wanted:
            return item
    return _ABSENT
