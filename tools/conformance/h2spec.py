"""Runs h2spec, and reads what it found.

h2spec is a module of Go; ``tools/setup conformance`` puts it into the virtual environment.
"""

from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from tools.conformance.rig import Address, ConformanceError

_RUN_S = 600.0


@dataclass(frozen=True, slots=True)
class Section:
    """The cases of one part of a specification."""

    name: str
    title: str
    passed: int
    failed: tuple[str, ...]
    skipped: int


async def run(
    binary: Path, at: Address, directory: Path, strict: bool, sections: list[str]
) -> list[Section]:
    """Run all cases, or those of some sections such as ``http2/6.5``."""
    report = directory / "report.xml"
    command = [str(binary), *sections, "-h", at[0], "-p", str(at[1]), "-j", str(report), "-o", "3"]
    command += ["-S"] if strict else []
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _RUN_S)
    except TimeoutError as error:
        raise ConformanceError(f"h2spec still running after {_RUN_S:g} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return read(report, output.decode(errors="replace"))


def read(report: Path, output: str) -> list[Section]:
    """Read the file that h2spec has written."""
    if not report.exists():
        raise ConformanceError(f"h2spec made no report: {output[-500:]}")
    return parse(report.read_text())


def parse(report: str) -> list[Section]:
    """Read a report in the form of JUnit; parts without a case of their own are left out."""
    sections = []
    for suite in ET.fromstring(report).iter("testsuite"):
        cases = suite.findall("testcase")
        failed = tuple(
            f"{case.get('classname', '')}"
            for case in cases
            if case.find("failure") is not None or case.find("error") is not None
        )
        skipped = sum(case.find("skipped") is not None for case in cases)
        if cases:
            sections.append(
                Section(
                    name=suite.get("package", ""),
                    title=suite.get("name", ""),
                    passed=len(cases) - len(failed) - skipped,
                    failed=failed,
                    skipped=skipped,
                )
            )
    if not sections:
        raise ConformanceError("h2spec ran no case")
    return sections
