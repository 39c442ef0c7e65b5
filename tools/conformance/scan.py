"""Scans the TLS of a running sidecar with testssl; any finding of MEDIUM or worse fails.

In: the binary of pipy, testssl (a Debian package). Out: a line per finding, a table, an exit code.
``--write`` puts the table down as ``docs/reference/conformance-tls.md``. Scanned is the inbound
port that demands mutual TLS, as anyone sees it who has no certificate.

Not looked at: what concerns certificates of the public web (trust by browsers, host names, CAA,
OCSP). A sidecar's certificate is of the mesh's own authority and names a SPIFFE identity. Which
peers are believed is tested in ``tests/local/proxy/test_mtls.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tools.bench import certs
from tools.conformance import rig
from tools.conformance.rig import Address, ConformanceError

_ROOT = Path(__file__).parents[2]
_PAGE = _ROOT / "docs" / "reference" / "conformance-tls.md"
_RUN_S = 300.0

# As testssl writes it: id, severity, finding and others, all of them text.
Finding = dict[str, str]
_SEVERE = {"MEDIUM", "HIGH", "CRITICAL", "FATAL"}

# Protocols, ciphers, forward secrecy, known attacks: everything but HTTP and the certificate.
_CHECKS = ["-p", "-s", "-f", "-U", "-P"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="tools.conformance.scan", description=__doc__)
    parser.add_argument("--pipy", type=Path, default=_ROOT / ".venv" / "bin" / "pipy")
    parser.add_argument("--write", action="store_true", help=f"write {_PAGE.relative_to(_ROOT)}")
    flags = parser.parse_args()
    program = shutil.which("testssl")
    if program is None:
        print("testssl is missing; run `tools/setup peers`", file=sys.stderr)
        return 1
    try:
        with tempfile.TemporaryDirectory(prefix="scan-") as directory:
            found = asyncio.run(_scan(flags.pipy, program, Path(directory)))
    except ConformanceError as error:
        print(f"scan: {error}", file=sys.stderr)
        return 1
    severe = [
        f"{one['severity']} {one['id']}: {one['finding']}"
        for one in found
        if one["severity"] in _SEVERE
    ]
    if flags.write:
        _PAGE.write_text(page(found))
    print(*severe, f"{len(severe)} findings of MEDIUM or worse", sep="\n")
    return 1 if severe else 0


async def _scan(pipy: Path, program: str, directory: Path) -> list[Finding]:
    issued = certs.issue(directory)
    async with rig.backend() as app:
        member = (issued, issued.server)
        async with rig.pipy(pipy, directory / "b", app, member) as at:
            return await _testssl(program, at, directory)


async def _testssl(program: str, at: Address, directory: Path) -> list[Finding]:
    report = directory / "report.json"
    command = [program, "--quiet", "--color", "0", "--warnings", "batch", *_CHECKS]
    command += ["--jsonfile", str(report), f"{at[0]}:{at[1]}"]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _RUN_S)
    except TimeoutError as error:
        raise ConformanceError(f"testssl still running after {_RUN_S:g} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if not report.exists():
        raise ConformanceError(f"testssl made no report: {output.decode()[-500:]}")
    found: list[Finding] = json.loads(report.read_text())
    if not any(one["id"] == "TLS1_3" for one in found):
        raise ConformanceError(f"testssl did not get through: {output.decode()[-800:]}")
    return found


def page(found: list[Finding]) -> str:
    """Write the page of the last run."""
    counts = Counter(one["severity"] for one in found)
    summary = ", ".join(f"{count} {severity}" for severity, count in counts.most_common())
    lines = [
        "# TLS, scanned",
        "",
        "Written by `make conformance`, from its last run of testssl against the inbound port of a",
        "sidecar; the run fails on any finding of MEDIUM or worse. Left out is what concerns",
        "certificates of the public web: those of the mesh are its own authority's.",
        "",
        f"In all: {summary}. What is only INFO is not listed; WARN is about testssl's own OpenSSL.",
        "",
        "| check | severity | finding |",
        "|---|---|---|",
    ]
    for one in found:
        if one["severity"] not in ("INFO", "DEBUG"):
            text = one["finding"].replace("|", "/")
            lines.append(f"| {one['id']} | {one['severity']} | {text} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    raise SystemExit(main())
