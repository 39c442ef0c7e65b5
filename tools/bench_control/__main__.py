"""Entry point of ``python -m tools.bench_control``; everything is in ``cli``."""

import sys

from tools.bench_control.cli import main

sys.exit(main())
