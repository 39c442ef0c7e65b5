"""Whether this machine can open a box.

What comes in: the machine. What goes out: what it lacks, in words, or nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess

from meshworld.shell import BIN


def why_no_box() -> str | None:
    """Say what this machine lacks to open a box, or ``None``."""
    if not (BIN / "pipy").exists():
        return "the proxy is not built (`make build` puts it there)"
    for tool in ("ip", "nft", "nsenter", "kubectl", "curl"):
        if shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
            return f"`{tool}` is not installed (`make system` installs it)"
    flags = ["-m"] if os.geteuid() == 0 else ["-U", "-r", "-m"]
    tried = subprocess.run(["unshare", *flags, "true"], capture_output=True, text=True, check=False)
    return f"namespaces are not permitted: {tried.stderr.strip()}" if tried.returncode else None
