"""The console of a repository, used as a person uses it: in a browser."""

from __future__ import annotations

import shutil
import urllib.request
from pathlib import Path

import pytest

from .browser import page
from .conftest import free_ports
from .test_repo import Run, run, serve

__all__ = ["run"]

pytestmark = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="needs a browser: chromium"
)


def test_a_codebase_is_made_edited_committed_followed_and_watched(run: Run, tmp_path: Path) -> None:
    repo = serve(run)
    (port,) = free_ports(1)
    address = f"http://127.0.0.1:{repo.port}/"
    good = (
        f"pipy().listen({port}).serveHTTP(m => (console.log('asked', m.head.path),"
        " new Message('ok')))"
    )
    with page(address, tmp_path) as console:
        console.shows("#codebases", "There is none yet.")
        console.fill("#name", "hello")
        console.click("#create button")
        console.shows("#title", "/hello")
        console.shows("#file", "/main.js")

        console.fill("#text", good)
        console.click("#save")
        console.shows("#said", "Saved.")
        console.shows("#pending", "1 file edited, not committed")
        console.click("#publish")
        console.shows("#said", "Committed version 1.")
        console.shows("#instances", f"pipy {address}repo/hello")

        run("--instance-name=edge-1", f"{address}repo/hello", port=port)
        console.shows("#instances", "running")
        console.click("#instances button")
        console.shows("#whose", "edge-1")
        console.shows("#lines", "Codebase reloaded")
        urllib.request.urlopen(f"http://127.0.0.1:{port}/from-here", timeout=15).close()
        console.shows("#lines", "asked /from-here")
        console.run("document.querySelector('#metrics').open = true")
        console.shows("#measured", "pipy_uptime_seconds")

        # What does not load is refused where it would run, and the console says why.
        console.fill("#text", good.replace("serveHTTP", "serveHTP"))
        console.click("#publish")
        console.shows("#instances", "refused version 2")
        console.shows("#instances", "did you mean serveHTTP()?")
        console.shows("#lines", "the codebase stays as it was")

        repo.process.kill()
        console.shows("#said", "The repository does not answer")
        assert console.faults == []
