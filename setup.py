"""Puts the wheel together: the Python packages, the bookstore's applications, and the proxy's binary.

The rest is in `pyproject.toml`. With `FSM_SKIP_RUST` set the proxy is left out: `make build` builds it with cargo
directly, where building is incremental.
"""

import os

from setuptools import find_packages, setup
from setuptools_rust import RustBin

skip_rust = bool(os.environ.get("FSM_SKIP_RUST"))

setup(
    packages=[*find_packages("src", exclude=["*.tests", "*.tests.*"]), "fsm_bookstore"],
    package_dir={"": "src", "fsm_bookstore": "examples/bookstore"},
    package_data={
        "fsm": ["py.typed", "manifests/**/*.yaml", "manifests/**/*.json"],
        "fsm_bookstore": ["manifests/**/*.yaml", "**/*.html", "**/*.css"],
    },
    rust_extensions=[]
    if skip_rust
    else [RustBin("pipy", path="proxy/pipy/Cargo.toml", args=["--locked"], debug=False)],
)
