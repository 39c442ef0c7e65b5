"""Proves that a script has done its work, before it is timed.

In: a running site and what its script is to do. Out: nothing, or a ``RowError``. Two paths are
asked for, so that an answer that was made once for all is found out; the requests are sent from
inside the client's namespace, by this module run as a program.
"""

from __future__ import annotations

import http.client
import json
import sys
from typing import Any

from tools.bench import addresses as at
from tools.bench.errors import RowError
from tools.bench.peers.scripts import Script
from tools.bench.processes import run, wrap
from tools.bench.sites import SEEN, Site

_PATHS = (at.PATH, at.PATH.replace("a-book", "b-book"))
"""The row's path, and another one as long."""


def check(site: Site, script: Script, body_bytes: int) -> None:
    """Ask for both paths, and compare what comes with what the script is to make of them.

    Raises:
        RowError: something else came.

    """
    asked = json.dumps([*site.target, _PATHS])
    command = [sys.executable, "-m", "tools.bench.script_probe", asked]
    output = run(wrap(command, core=at.LOAD_CORE, namespace_pid=site.client_namespace))
    for path, answer in zip(_PATHS, json.loads(output), strict=True):
        if fault := _fault(script, body_bytes, path, answer):
            raise RowError(f"the script does not do the work: {path}: {fault}")


def _fault(script: Script, body_bytes: int, path: str, answer: dict[str, Any]) -> str | None:
    if answer["status"] != 200:
        return f"status {answer['status']}"
    if len(answer["body"]) != body_bytes:
        return f"{len(answer['body'])} bytes of body, not {body_bytes}"
    if script is Script.ANSWER and not answer["body"].startswith(path):
        return "the body does not begin with the path"
    if script is Script.HEADER and answer["seen"] != path:
        return f"the backend has seen {answer['seen']!r} in the header"
    return None


def main(address: str, port: int, paths: list[str]) -> int:
    """Send the requests, print their outcomes."""
    answers: list[dict[str, Any]] = []
    for path in paths:
        connection = http.client.HTTPConnection(address, port, timeout=5)
        try:
            connection.request("GET", path, headers={"Host": at.HOST})
            response = connection.getresponse()
            body = response.read().decode("latin1")
            seen = response.headers.get(SEEN)
        except (OSError, http.client.HTTPException) as error:
            answers.append({"status": f"none: {error or type(error).__name__}"})
        else:
            answers.append({"status": response.status, "body": body, "seen": seen})
        finally:
            connection.close()
    print(json.dumps(answers))
    return 0


if __name__ == "__main__":
    sys.exit(main(*json.loads(sys.argv[1])))
