"""Makes ``differential`` importable, and ``proxyrig`` of the proxy's tests."""

from __future__ import annotations

import sys
from pathlib import Path

_HERE = Path(__file__).parent

sys.path.insert(0, str(_HERE.parent / "local" / "proxy" / "support"))
sys.path.insert(0, str(_HERE / "support"))
