"""The table of a run: classes of cases by servers.

In: the verdicts of each server, and what each reads without the proxy. Out: a page of Markdown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from differential.corpus import Family
from differential.run import Verdict

_HEAD = """# Strict HTTP: what the proxy keeps from servers

Written by `make conformance`, from its last whole run; the run fails on any finding. The cases are
in `tests/differential/corpus`. Each goes through a sidecar to each server; the server writes down
every request that it reads, and so does the proxy. Compared are: the answer and what the case
demands; what the server read and what the case demands, body by body; what the server read and what
the proxy read. After each case an honest request on a kept connection must get its own response.

- **read / not read**: cases that the server read as demanded; the others, refused by the proxy, or
  sound ones refused by the server. Findings, if there were any, would stand behind as **n wrong**.
- **alone**: of the cases that the proxy refuses, those of which the server carries something out
  when it is asked without the proxy (HTTP/2 not counted).

What Apache answers by Lua reads no chunked bodies: it refuses the sound ones by itself.
"""


def page(
    families: Sequence[Family],
    verdicts: Mapping[str, Sequence[Verdict]],
    alone: Mapping[str, Mapping[str, int]],
) -> str:
    """Write the page."""
    names = list(verdicts)
    lines = [_HEAD, "## Through the proxy", ""]
    lines += ["| class | cases | " + " | ".join(names) + " |", "|---|---:|" + "---|" * len(names)]
    for family in families:
        cells = [_cell([v for v in verdicts[n] if v.case.family == family.name]) for n in names]
        lines.append(f"| {family.name} | {len(family.cases)} | " + " | ".join(cells) + " |")
    total = [_cell(verdicts[name]) for name in names]
    cases = sum(len(family.cases) for family in families)
    lines.append(f"| **all** | {cases} | " + " | ".join(total) + " |")
    lines += ["", "## Alone", "", "| class | " + " | ".join(names) + " |"]
    lines.append("|---|" + "---:|" * len(names))
    for name in [*(family.name for family in families), "the server ended"]:
        counts = [alone[server].get(name, 0) for server in names]
        if any(counts):
            lines.append(f"| {name} | " + " | ".join(map(str, counts)) + " |")
    sums = [str(sum(alone[name].values())) for name in names]
    lines.append("| **all** | " + " | ".join(sums) + " |")
    lines += ["", "## Classes", "", "| class | about |", "|---|---|"]
    lines += [f"| {family.name} | {family.about} |" for family in families]
    return "\n".join([*lines, ""])


def _cell(verdicts: Sequence[Verdict]) -> str:
    wrong = sum(bool(verdict.findings) for verdict in verdicts)
    read = sum(verdict.read > 0 for verdict in verdicts)
    return f"{read} / {len(verdicts) - read}" + (f", **{wrong} wrong**" if wrong else "")
