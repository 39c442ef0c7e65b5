"""Probes of applications in the mesh, on a real box: the node asks, the sidecar answers for the
application, and nobody gets further than the probes that its Pod declares.

Policy allows nothing here, so whatever is answered is answered because it is a probe.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from meshworld import actors
from meshworld.shell import Shell, namespace, traffic
from meshworld.waiting import until

pytestmark = pytest.mark.box

CLINIC, OUTSIDE = "clinic", "outside"

PATIENT = r"""
import http.server, os, socket, threading
ill = threading.Event()
life = socket.create_server(("", 9090))
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path in ("/fall-ill", "/get-well"):
            (ill.set if self.path == "/fall-ill" else ill.clear)()
        elif self.path == "/die":
            life.close()
        elif self.path != "/health?deep=1" or self.headers["X-Probe"] != "ready":
            return self.send_error(404)
        elif ill.is_set():
            return self.send_error(503)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.headers["Host"].encode())
http.server.ThreadingHTTPServer(("", 8080), H).serve_forever()
"""


def patient(name: str, **probes: Any) -> list[actors.Object]:
    """An application whose health can be told; it answers probes with their Host header."""
    container = {
        "image": "python",
        "command": [sys.executable, "-c", PATIENT],
        "ports": [{"containerPort": 8080, "name": "web"}, {"containerPort": 9090}],
        **probes,
    }
    return actors.deployment(name, CLINIC, container)


@pytest.fixture(scope="module")
def clinic(mesh: Shell) -> Shell:
    """A patient with all three probes, one whose probe asks nobody, and a stranger outside."""
    traffic(mesh, enablePermissiveTrafficPolicyMode=False)
    mesh.apply(namespace(CLINIC), namespace(OUTSIDE))
    mesh.fsm("namespace", "add", CLINIC)
    headers = [{"name": "X-Probe", "value": "ready"}]
    ask = {"path": "/health?deep=1", "port": "web", "httpHeaders": headers}
    often = {"periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": 2}
    mesh.apply(
        *patient(
            "patient",
            startupProbe={"httpGet": ask, "periodSeconds": 1, "failureThreshold": 60},
            readinessProbe={"httpGet": ask, **often},
            livenessProbe={"tcpSocket": {"port": 9090}, **often},
        ),
        *patient("unheard", readinessProbe={"tcpSocket": {"port": 9999}, **often}),
        actors.service("patient", CLINIC, {"name": "http", "port": 80, "targetPort": "web"}),
        *actors.client("stranger", OUTSIDE),
    )
    mesh.ready(OUTSIDE, "stranger")
    return mesh


def ready(shell: Shell, app: str) -> bool:
    (pod,) = shell.pods(CLINIC, app)
    conditions = {c["type"]: c["status"] for c in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True"


def state_of(shell: Shell, app: str, container: str = "main") -> Any:
    (pod,) = shell.pods(CLINIC, app)
    statuses = pod["status"]["containerStatuses"] + pod["status"]["initContainerStatuses"]
    return next(status for status in statuses if status["name"] == container)


def tell(shell: Shell, word: str) -> None:
    """Speak to the patient from inside its Pod."""
    pod = shell.ready(CLINIC, "patient")
    assert shell.curl(CLINIC, pod, f"http://127.0.0.1:8080/{word}") == (0, "200")


def ask(shell: Shell, app: str, port: int, **target: Any) -> tuple[int, str]:
    """Ask a probe listener from outside of the mesh, as the node does."""
    stranger = shell.ready(OUTSIDE, "stranger")
    headers = [f"-HOriginal-{name}: {value}" for name, value in target.items()]
    url = f"http://{shell.ip(CLINIC, app)}:{port}/fsm-healthcheck"
    return shell.curl(OUTSIDE, stranger, url, *(h.replace("_", "-") for h in headers))


def test_an_application_with_probes_becomes_ready_in_the_mesh(clinic: Shell) -> None:
    clinic.ready(CLINIC, "patient")
    (pod,) = clinic.pods(CLINIC, "patient")
    kept = json.loads(pod["metadata"]["annotations"]["flomesh.io/original-probes"])
    assert kept["main"]["livenessProbe"] == {"tcpSocket": {"port": 9090}}
    assert kept["main"]["readinessProbe"]["httpGet"]["port"] == "web"
    assert state_of(clinic, "patient")["restartCount"] == 0
    # Not because its ports are open: they are as closed to strangers as ever.
    stranger = clinic.ready(OUTSIDE, "stranger")
    url = f"http://{clinic.ip(CLINIC, 'patient')}:8080/health?deep=1"
    assert clinic.curl(OUTSIDE, stranger, url, "-HX-Probe: ready")[0] == 56


def test_the_probe_listeners_lead_to_the_probes_and_nowhere_else(clinic: Shell) -> None:
    clinic.ready(CLINIC, "patient")
    health = {"Http_Port": 8080, "Http_Path": "/health?deep=1"}
    # What the probe declares, though without the header that makes this application say yes.
    assert ask(clinic, "patient", 15902, **health) == (0, "404")
    assert ask(clinic, "patient", 15904, Tcp_Port=9090) == (0, "200")
    for target in (
        {"Http_Port": 15000, "Http_Path": "/quitquitquit"},
        {"Http_Port": 15000, "Http_Path": "/config_dump"},
        {"Http_Port": 8080, "Http_Path": "/die"},
        {"Http_Port": 9090, "Http_Path": "/health?deep=1"},
        {"Tcp_Port": 15000},
        {"Tcp_Port": 8080},
    ):
        for port in (15902, 15903, 15904):
            assert ask(clinic, "patient", port, **target) == (0, "403"), (port, target)
    # There is no liveness probe over HTTP: its listener is closed.
    assert ask(clinic, "patient", 15901, **health)[0] == 7
    assert state_of(clinic, "patient", "sidecar")["restartCount"] == 0


def test_a_tcp_probe_of_a_port_where_nobody_listens_never_succeeds(clinic: Shell) -> None:
    def runs() -> bool:
        return "running" in state_of(clinic, "unheard")["state"]

    until(runs, "the container runs")
    until(lambda: ask(clinic, "unheard", 15904, Tcp_Port=9999) == (0, "404"), "its probe is open")
    # It runs, its sidecar answers, and still it is not ready.
    assert not ready(clinic, "unheard")


def test_a_failing_application_is_not_ready_until_it_is_well_again(clinic: Shell) -> None:
    tell(clinic, "fall-ill")
    until(lambda: not ready(clinic, "patient"), "the patient is not ready")
    (pod,) = clinic.pods(CLINIC, "patient")
    name = pod["metadata"]["name"]
    assert clinic.curl(CLINIC, name, "http://127.0.0.1:8080/get-well") == (0, "200")
    clinic.ready(CLINIC, "patient")
    assert state_of(clinic, "patient")["restartCount"] == 0


def test_an_application_that_no_longer_lives_is_restarted_and_its_sidecar_is_not(
    clinic: Shell,
) -> None:
    tell(clinic, "die")
    until(lambda: state_of(clinic, "patient")["restartCount"] == 1, "the patient is restarted")
    clinic.ready(CLINIC, "patient")
    assert state_of(clinic, "patient", "sidecar")["restartCount"] == 0
