"""The scripts of the documents, word for word: each loads as it is, or in a frame.

A frame is what an article leaves out around a fragment.

The copies are in ``documents/``. The table says which test runs each of them from end to end.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from .conftest import Start, run_once

DOCUMENTS = Path(__file__).parent / "documents"
EXAMPLES = "tests/local/examples"


@dataclass(frozen=True)
class Document:
    """A script of the documents."""

    name: str
    runs_in: str
    """Where it runs from end to end."""
    frame: str = "{}"
    """What the article leaves out, around it."""
    refused: str = ""
    """What is said where it cannot load without what is not here."""


TABLE = [
    Document("tunnel-server", f"{EXAMPLES}/test_http_tunnel.py"),
    Document("tunnel-proxy", f"{EXAMPLES}/test_http_tunnel.py"),
    Document("serve-v1", "tests/local/pipy/test_documents.py"),
    Document("serve-pod", "tests/local/pipy/test_documents.py"),
    Document("serve-cluster", "tests/local/pipy/test_documents.py"),
    Document("ext-auth", "tests/local/pipy/test_documents.py"),
    Document("token-injector", f"{EXAMPLES}/test_token_plugins.py"),
    Document("token-verifier", f"{EXAMPLES}/test_token_plugins.py"),
    Document(
        "dns-fragment",
        f"{EXAMPLES}/test_dns_proxy.py",
        frame=(
            "((config, local, line, getDNS, setDNS) => pipy({{ _forward: false }})\n{}"
            "\n)({{ upstreamDNSServer: '127.0.0.1' }}, {{}}, {{}}, () => null, () => null)"
        ),
    ),
    Document(
        "waf-nmi",
        f"{EXAMPLES}/test_waf.py",
        refused="cannot load native module '/etc/pipy/modules/inject-nmi.so'",
    ),
]
ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("document", TABLE, ids=lambda document: document.name)
def test_it_loads(document: Document, tmp_path: Path) -> None:
    text = (DOCUMENTS / f"{document.name}.js").read_text()
    script = tmp_path / "main.js"
    script.write_text(document.frame.format(text) if document.frame != "{}" else text)
    checked = run_once("--check", str(script))
    if document.refused:
        assert checked.returncode == 255
        assert document.refused in checked.stderr
    else:
        assert (checked.returncode, checked.stderr) == (0, "")
    assert (ROOT / document.runs_in).exists()


def test_no_copy_is_left_out() -> None:
    assert {path.stem for path in DOCUMENTS.iterdir()} == {document.name for document in TABLE}


def served(start: Start, name: str, port: str, *args: str) -> str:
    text = (DOCUMENTS / f"{name}.js").read_text()
    assert f".listen({port})" in text
    pipy = start(text.replace(f".listen({port})", ".listen(PORT0)"))
    return pipy.curl("/", *args).stdout


def test_they_answer_as_their_pages_say(start: Start) -> None:
    assert served(start, "serve-v1", "8080") == "Hi, I am v1!\n"
    assert served(start, "serve-pod", "8000").startswith("Response from pod ")
    said = served(start, "serve-cluster", "8080")
    assert said == "Hi, I am from ${CLUSTER_NAME} and controlled by mesh!\n"


def test_the_authorization_service_knows_its_token(start: Start) -> None:
    code = ("-o", "/dev/null", "-w", "%{http_code}")
    token = ("-H", "x-iam-token: 2f1acc6c3a606b082e5eef5e54414ffb")
    assert served(start, "ext-auth", "8079", *code) == "401"
    assert served(start, "ext-auth", "8079", *code, *token) == "200"
