"""The application's probes that a proxy carries out.

In: the Pod, the settings. Out: the probes of its configuration. Invariants: the ports of the
sidecar itself are never a target, whatever the Pod says: its administration trusts whoever calls it
over loopback; what the contract would refuse is left out, so that one odd probe costs itself only;
one entry per question.
"""

from __future__ import annotations

from fsm.compile.contract import Probe, ProbeKind, ProbeListener
from fsm.model import probes as model
from fsm.model.names import origin
from fsm.model.workload import Pod
from fsm.settings import Ports


def pod_probes(pod: Pod, ports: Ports) -> tuple[Probe, ...]:
    """Compile the probes of one Pod."""
    own = model.sidecar_ports(ports)
    found: dict[tuple[object, ...], Probe] = {}
    for probe in pod.probes:
        if probe.port in own or not _sound(probe):
            continue
        key = (probe.listener, probe.port, probe.path, probe.host)
        before = found.get(key)
        # Two containers may ask the same: either's headers are passed on, the patient one waits.
        headers = {*probe.headers, *(before.headers if before else ())}
        found[key] = Probe(
            listener=ProbeListener(probe.listener),
            kind=ProbeKind.TCP if probe.path is None else ProbeKind.HTTP,
            port=probe.port,
            path=probe.path,
            host=probe.host,
            headers=tuple(sorted(headers)),
            timeout_ms=max(probe.timeout_s * 1_000, before.timeout_ms if before else 0),
            origin=before.origin
            if before
            else origin("Pod", pod.namespace, pod.name, part=probe.place),
        )
    return tuple(found.values())


def _sound(probe: model.Probe) -> bool:
    texts = [text for text in (probe.path, probe.host, *probe.headers) if text is not None]
    if not all(text and all("!" <= c <= "~" for c in text) for text in texts):
        return False
    return probe.path is None or (probe.path.startswith("/") and "#" not in probe.path)
