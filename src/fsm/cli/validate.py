"""``fsm validate -f``: all that is wrong or doubtful with manifests, before anyone applies them.

What comes in: files, directories, ``-`` for stdin. What goes out: a line per finding, with file and
line, worst first within a document; exit code 1 when something would be refused.

Invariants: nothing is sent to a cluster; the judgement is that of the admission webhook and of
statuses (``fsm.controllers.validation``); text that is not even YAML is a finding like any other,
and the other files are judged all the same.
"""

from __future__ import annotations

import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fsm.cli import options, output
from fsm.cli.errors import ExitCode, Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    import yaml

    from fsm.controllers.validation import Finding
    from fsm.settings import Settings

SUFFIXES = (".yaml", ".yml", ".json")
BYTES_MAX = 64 * 1024 * 1024
"""LIMIT: bytes of one file of manifests; the API itself takes objects of 3 MiB."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where one document stands."""

    file: str
    value: object
    node: yaml.Node | None
    line: int


def validate(
    ctx: typer.Context,
    files: Annotated[
        list[str],
        typer.Option("--filename", "-f", help="A file, a directory, or - for stdin; repeatable."),
    ],
    against_mesh: Annotated[
        bool,
        typer.Option(
            "--against-mesh", help="Judge them together with what the running mesh has; reads only."
        ),
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on warnings, too.")] = False,
    namespace: options.NamespaceOption = None,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    output_format: output.OutputOption = output.Format.TABLE,
) -> None:
    """Find everything that is wrong with manifests, without applying them."""
    from fsm.cli import runner
    from fsm.controllers.validation import validate_documents

    target = options.target(ctx, kubeconfig, context, namespace)
    sources: list[Source] = []
    rows: list[dict[str, object]] = []
    for name, text in _texts(files):
        _parse(name, text, sources, rows)
    world, settings = None, None
    if against_mesh:
        world, settings = runner.run(_world(target), "reading what the mesh has")
    values = [source.value for source in sources]
    found = validate_documents(values, world, settings, namespace=target.pod_namespace())
    found = runner.run(_examined(values, found))
    rows += [_row(finding, sources[finding.document]) for finding in found]
    if output_format is output.Format.TABLE:
        for row in rows:
            print(_text(row))
    else:
        output.emit(output_format, rows, (), ())
    if not sources and not rows:
        raise Failure(
            f"there is no object in {', '.join(files)}",
            hint="an object has apiVersion, kind and metadata",
        )
    counts = {kind: sum(r["severity"] == kind for r in rows) for kind in ("error", "warning")}
    documents = sum(source.value is not None for source in sources)
    parts = [f"{documents} document{'s' * (documents != 1)}"]
    parts += [f"{n} {kind}{'s' * (n != 1)}" for kind, n in counts.items()]
    print(", ".join(parts), file=sys.stderr)
    if counts["error"] or (strict and counts["warning"]):
        raise typer.Exit(ExitCode.FAILED)


def _texts(names: list[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        if name == "-":
            yield "stdin", sys.stdin.read()
            continue
        path = Path(name)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file())
            if not inside:
                raise Failure(
                    f"there are no manifests in {path}",
                    hint=f"they end with {', '.join(SUFFIXES)}",
                    code=ExitCode.USAGE,
                )
        else:
            inside = [path]
        for file in inside:
            try:
                if file.stat().st_size > BYTES_MAX:
                    raise Failure(f"{file} is longer than {BYTES_MAX} bytes")
                yield str(file), file.read_text(encoding="utf-8")
            except OSError as error:
                raise Failure(f"{file}: {error.strerror}", code=ExitCode.USAGE) from error
            except UnicodeDecodeError as error:
                raise Failure(f"{file} is not text: {error.reason}") from error


def _parse(name: str, text: str, sources: list[Source], rows: list[dict[str, object]]) -> None:
    import yaml

    loader: yaml.SafeLoader | None = None
    try:
        loader = yaml.SafeLoader(text)
        while loader.check_node():
            node = loader.get_node()
            line = node.start_mark.line + 1 if node is not None else 1
            # Values are made from the same nodes whose places the findings name.
            value = loader.construct_document(node) if node is not None else None
            sources.append(Source(name, value, node, line))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or " ".join(str(error).split())
        deep = isinstance(error, RecursionError)
        rows.append(
            {
                "file": name,
                "line": mark.line + 1 if mark else 1,
                "severity": "error",
                "kind": "document",
                "namespace": "",
                "name": "",
                "path": "",
                "message": "is nested too deeply" if deep else f"is not YAML: {what}",
                "hint": "indent with blanks; YAML takes no tabs" if "'\\t'" in what else "",
            }
        )
    finally:
        if loader is not None:
            loader.dispose()


def _row(finding: Finding, source: Source) -> dict[str, object]:
    fields = asdict(finding)
    del fields["document"]
    return {"file": source.file, "line": _line(source, finding.path), **fields}


def _line(source: Source, path: str) -> int:
    """Return the line of the innermost part of ``path`` that the document has."""
    import yaml

    node, line = source.node, source.line
    for word in re.findall(r"[^.\[\]]+", path):
        below: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == word:
                    below, line = value, key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and word.isdigit() and int(word) < len(node.value):
            below = node.value[int(word)]
            line = below.start_mark.line + 1
        if below is None:
            break
        node = below
    return line


def _text(row: dict[str, object]) -> str:
    who = " ".join(
        str(part)
        for part in (row["kind"], "/".join(str(row[k]) for k in ("namespace", "name") if row[k]))
        if part
    )
    where = f"{row['path']}: " if row["path"] else ""
    text = f"{row['file']}:{row['line']}: {row['severity']}: {who}: {where}{row['message']}"
    return f"{text}\n    hint: {row['hint']}" if row["hint"] else text


async def _examined(documents: list[object], found: list[Finding]) -> list[Finding]:
    from fsm.controllers.scripts import Scripts
    from fsm.controllers.validation import examine_documents

    return await examine_documents(documents, found, Scripts().violations)


async def _world(
    target: options.Target,
) -> tuple[dict[str, list[dict[str, Any]]], Settings | None]:
    from fsm.cli import kinds, planes
    from fsm.kube import NotFound
    from fsm.kube.resources import ENDPOINTSLICES, NAMESPACES, PODS, SERVICEACCOUNTS, SERVICES

    world: dict[str, list[dict[str, Any]]] = {}
    async with target.client() as client:
        core = (NAMESPACES, PODS, SERVICES, ENDPOINTSLICES, SERVICEACCOUNTS)
        for resource in (*core, *kinds.resources()):
            try:
                world[resource.kind] = (await client.list(resource)).items
            except NotFound:
                continue
        settings = await planes.settings(client, target.fsm_namespace)
    return world, settings
