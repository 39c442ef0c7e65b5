"""``Table`` answers: rows that kubectl prints as they are.

What comes in: objects of one kind and the call. What goes out: a ``Table`` with the columns of the
kind: built-in (``columns``), of its CRD, or name and age.

Invariants: columns depend on the kind only, so the rows of a watch fit the header of its list.
Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from fsm.standalone.apiserver import bodies, jsonpath
from fsm.standalone.apiserver.calls import Call
from fsm.standalone.apiserver.columns import AGE, COLUMNS, NAME, TableColumn, age
from fsm.standalone.apiserver.crds import Column
from fsm.standalone.apiserver.decoding import version_of
from fsm.standalone.apiserver.store import KubeObject

Json = dict[str, Any]


def columns_of(call: Call) -> tuple[TableColumn, ...]:
    """Return the columns of the kind of a call."""
    version = version_of(call)
    if version is not None and version.columns:
        return (NAME, *(_custom(column) for column in version.columns))
    return COLUMNS.get(call.resource.gr, (NAME, AGE))


def _custom(column: Column) -> TableColumn:
    def cell(obj: KubeObject, now: datetime) -> Any:
        found = jsonpath.find(column.path, obj)
        if not found:
            return None
        value = found[0]
        if column.type == "date":
            return age(value, now)
        if column.type in ("integer", "number", "boolean"):
            return value
        if len(found) > 1:
            return ",".join(str(item) for item in found)
        return value if isinstance(value, str) else bodies.compact(value)

    # Ages are computed here, so a date is printed as the text that it became.
    shown = "string" if column.type == "date" else column.type
    return TableColumn(column.name, cell, shown, column.priority, column.format, column.description)


def table(
    call: Call, objects: Sequence[KubeObject], meta: Json, version: str, include: str
) -> Json:
    """Make a table.

    Args:
        call: names the kind.
        objects: one per row.
        meta: the metadata of the table (version, continue token).
        version: of the meta.k8s.io API that the client asked for.
        include: what of each object comes along: ``Metadata``, ``Object`` or ``None``.
    """
    columns, now = columns_of(call), datetime.now(UTC)
    rows: list[Json] = []
    for obj in objects:
        row: Json = {"cells": [column.cell(obj, now) for column in columns]}
        if include == "Object":
            row["object"] = obj
        elif include != "None":
            row["object"] = bodies.partial(obj, version)
        rows.append(row)
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": meta,
        "columnDefinitions": [
            {
                "name": column.name,
                "type": column.type,
                "format": column.format,
                "description": column.description or column.name,
                "priority": column.priority,
            }
            for column in columns
        ],
        "rows": rows,
    }
