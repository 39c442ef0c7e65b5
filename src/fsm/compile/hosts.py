"""Under which names a Service is known: the Host headers that mean it.

In: a Service, a port, who asks, MeshConfig. Out: host names in lower case, each once. Invariants:
pure; the order is fixed, short forms first.

From its own namespace a Service is ``svc``; from anywhere ``svc.ns``, ``svc.ns.svc`` and, label by
label, the cluster's domain after that; each also with ``:port``. Where MeshConfig's
``serviceAccessMode`` is ``ip`` or ``mixed`` its addresses are names too. Source: fsm-interfaces
sections 1 and 2.1.
"""

from __future__ import annotations

from collections.abc import Iterable

from fsm.model.mesh_config import MeshConfig
from fsm.model.service import Service
from fsm.settings import Settings


def by_name(mesh: MeshConfig) -> bool:
    """Tell whether Services are reached by name."""
    return mesh.traffic.service_access_mode in ("domain", "mixed")


def by_address(mesh: MeshConfig) -> bool:
    """Tell whether Services are reached by the addresses of their Pods."""
    return mesh.traffic.service_access_mode in ("ip", "mixed")


def service_names(
    service: Service,
    ports: Iterable[int],
    *,
    same_namespace: bool,
    mesh: MeshConfig,
    settings: Settings,
    pod: str = "",
) -> list[str]:
    """Return the DNS forms of a Service's name.

    Args:
        service: the Service.
        ports: numbers that may follow the name.
        same_namespace: whether the short form means this Service where the name is used.
        mesh: which forms are wanted.
        settings: for the cluster's domain.
        pod: host name of one Pod of a headless Service; the names are then that Pod's.

    """
    if not by_name(mesh):
        return []
    wanted = mesh.traffic.service_access_names
    name = f"{pod}.{service.name}" if pod else service.name
    forms = [name] if same_namespace or not wanted.must_with_namespace else []
    form = f"{name}.{service.namespace}"
    forms.append(form)
    forms.append(form := f"{form}.svc")
    if wanted.with_trust_domain:
        for label in settings.cluster_domain.split("."):
            forms.append(form := f"{form}.{label}")
    return with_ports(forms, ports, alone=not wanted.must_with_service_port)


def address_names(addresses: Iterable[str], ports: Iterable[int], mesh: MeshConfig) -> list[str]:
    """Return addresses as Host headers, each alone and with each port."""
    if not by_address(mesh):
        return []
    return with_ports([bracketed(address) for address in addresses], ports)


def with_ports(forms: Iterable[str], ports: Iterable[int], *, alone: bool = True) -> list[str]:
    """Return each form alone and with each port."""
    numbers = list(dict.fromkeys(ports))
    found: list[str] = []
    for form in forms:
        if alone:
            found.append(form)
        found += [f"{form}:{number}" for number in numbers]
    return found


def bracketed(address: str) -> str:
    """Return an address as it stands before a port: IPv6 in brackets (RFC 3986 section 3.2.2)."""
    return f"[{address}]" if ":" in address else address


def network(address: str) -> str:
    """Return an address as a network of one."""
    return f"{address}/128" if ":" in address else f"{address}/32"
