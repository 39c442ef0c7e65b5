"""MeshRootCertificate: what is wrong with one, and what is probably not meant.

In: the object's JSON. Out: all violations, or warnings. Not here: whether the Secret holds a root
that can sign (the controller says so in the status).
"""

from __future__ import annotations

from fsm.model.fields import JsonObject
from fsm.policies.mesh_root_certificate.schema import read_root_certificate
from fsm.policies.violation import Violation
from fsm.settings import Settings


def validate(obj: JsonObject, settings: Settings) -> list[Violation]:
    """Return all faults."""
    reading = read_root_certificate(obj)
    found = list(reading.violations)
    body = reading.body
    if body is None:
        return found
    named = body.provider.named
    if len(named) != 1:
        text = f"{', '.join(named)} are given" if named else "none is given"
        found.append(Violation(reading.at("provider"), text, "one of tresor, vault, certManager"))
    if body.trustDomain != settings.trust_domain:
        found.append(
            Violation(
                reading.at("trustDomain"),
                f"{body.trustDomain!r} is not the trust domain of this mesh",
                f"{settings.trust_domain}; identities of two domains cannot be mixed",
            )
        )
    tresor = body.provider.tresor
    if tresor and tresor.ca.secretRef.namespace != settings.fsm_namespace:
        path = reading.at("provider", "tresor", "ca", "secretRef", "namespace")
        text = f"{tresor.ca.secretRef.namespace!r} is not the namespace of the mesh"
        found.append(Violation(path, text, f"only Secrets in {settings.fsm_namespace} are read"))
    return found


def warnings(obj: JsonObject) -> list[Violation]:
    """Return what is allowed and probably not meant."""
    reading = read_root_certificate(obj)
    if reading.body is None or len(reading.body.provider.named) != 1:
        return []
    (name,) = reading.body.provider.named
    if name == "tresor":
        return []
    return [
        Violation(
            reading.at("provider", name),
            "this provider is not supported yet, so the object has no effect",
            "tresor with a root of your own",
        )
    ]
