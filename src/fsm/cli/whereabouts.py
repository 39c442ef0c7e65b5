"""Whether there may be a mesh to talk to, found out without importing anything large.

What comes in: the environment and the home directory. What goes out: yes or no. A yes is no
promise; a no is certain as far as the default places go.
"""

from __future__ import annotations

import os
from pathlib import Path


def may_have_mesh() -> bool:
    """Tell whether a kubeconfig is named or lies where it usually does."""
    return bool(
        os.environ.get("KUBECONFIG") or usual_kubeconfig().is_file() or box_kubeconfig().is_file()
    )


def usual_kubeconfig() -> Path:
    """Return where ``kubectl`` looks when nobody says otherwise."""
    return Path.home() / ".kube" / "config"


def box_kubeconfig() -> Path:
    """Return where the box of this user keeps its kubeconfig, while it runs."""
    from fsm.standalone.box.settings import default_state_dir

    return default_state_dir() / "kubeconfig"
