"""``python -m tools.conformance``: see the package."""

from tools.conformance.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
