"""Certificates: who may sign them, what they say, and how long they hold.

What comes in: a signing request or a list of server names, a lifetime, and the time. What goes out:
certificate chains in PEM, with the trust bundle that verifies them.

``provider`` is what the rest of the control plane sees; ``tresor`` is the built-in authority;
``csr`` takes the public key out of a request; ``store`` keeps the root in a Secret.

Invariants: no private key of a workload ever exists here; ``now`` is always an argument.
Not done here: deciding whose request it is (``fsm.delivery``), rotation of the root.
"""

from fsm.ca.csr import CsrError
from fsm.ca.provider import Authority, CaError, Issued, ServerCertificate
from fsm.ca.store import load_or_create_root
from fsm.ca.tresor import Tresor, new_root

__all__ = [
    "Authority",
    "CaError",
    "CsrError",
    "Issued",
    "ServerCertificate",
    "Tresor",
    "load_or_create_root",
    "new_root",
]
