"""Datagrams that the firewall hands to a script, in real network namespaces."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import PIPY

WORLD = Path(__file__).parent / "tproxy_world.py"

SCRIPT = """
var $ib
var answer = $ => $
  .onStart(ib => { $ib = ib })
  .replaceMessage(m => new Message(`${m.body} to ${$ib.destinationAddress} ${$ib.destinationPort}`))

pipy.listen('5300', 'udp', { masquerade: true }, answer)
pipy.listen('[::]:5300', 'udp', { masquerade: true, transparent: true }, answer)
pipy.listen('5301', 'udp', { transparent: true }, answer)
"""


def _can() -> bool:
    programs = ("nft", "ip", "unshare", "nsenter")
    if not all(shutil.which(program) for program in programs):
        return False
    return subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not _can(), reason="needs root, nft and network namespaces")
def test_captured_datagrams_are_answered_by_whom_the_options_say(tmp_path: Path) -> None:
    script = tmp_path / "main.js"
    script.write_text(SCRIPT)
    done = subprocess.run(
        ["unshare", "--net", sys.executable, str(WORLD), str(PIPY), str(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        # In the name of whom was asked, over both families.
        "198.51.100.7 7000": ["hello to 198.51.100.7 7000", "198.51.100.7 7000"],
        "2001:db8::7 7000": ["hello to 2001:db8::7 7000", "2001:db8::7 7000"],
        # By who answers, where only the destination was wanted.
        "198.51.100.7 7001": ["hello to 198.51.100.7 7001", "10.9.0.2 5301"],
    }, done.stderr
