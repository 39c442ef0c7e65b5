"""Entry point of ``python -m tools.bench``; everything is in ``cli``."""

import sys

from tools.bench.cli import main

sys.exit(main())
