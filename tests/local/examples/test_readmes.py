"""The READMEs of examples that need no more than their own commands: each shows what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from .readme import at_work

# Example, the ports that its README names, how many commands it shows.
READMES = [
    ("08-static-files", (8080,), 6),
    ("09-reverse-proxy", (8080, 8081), 5),
    ("10-load-balancing", (8080, 8081, 8082, 8083), 1),
    ("11-rate-limits", (8080, 8081), 2),
    ("12-tls-termination", (8080, 8081, 8443), 5),
    ("13-mutual-tls", (8443, 8444), 4),
    ("14-socks", (1080, 8081), 4),
    ("15-gateway", (8080, 8081, 8082, 8083, 8084), 5),
    ("16-oidc", (8080, 8081, 9000), 5),
    ("17-thrift", (9090, 9091), 5),
    ("18-dubbo", (20880, 20881, 20882), 4),
]


@pytest.mark.parametrize(("name", "ports", "count"), READMES, ids=[readme[0] for readme in READMES])
def test_commands_show_what_the_readme_says(
    tmp_path: Path, name: str, ports: tuple[int, ...], count: int
) -> None:
    with at_work(tmp_path, name, *ports) as example:
        example.check(count)
