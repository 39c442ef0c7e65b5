"""Makes ``support`` importable: the worlds that tests describe and the oracle that they ask."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "support"))
