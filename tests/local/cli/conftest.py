"""Makes the example importable from a checkout that is not installed."""

import importlib.util
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "bookstore"

if importlib.util.find_spec("fsm_bookstore") is None:
    spec = importlib.util.spec_from_file_location(
        "fsm_bookstore", EXAMPLE / "__init__.py", submodule_search_locations=[str(EXAMPLE)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fsm_bookstore"] = module
    spec.loader.exec_module(module)
