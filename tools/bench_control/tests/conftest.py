"""Makes ``tools`` importable: it is run from the top of the repository, never installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
