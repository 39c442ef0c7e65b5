"""Certificates: who may sign them, what they say, and how long they hold.

What comes in: a signing request or a list of server names, a lifetime, and the time. What goes out:
certificate chains in PEM, with the trust bundle that verifies them.

``provider`` is what the rest of the control plane sees; ``tresor`` is the built-in authority;
``csr`` takes the public key out of a request; ``store`` keeps the roots in a Secret; ``rotation``
decides how one root follows another, ``roots`` describes them, ``live`` is the authority of the
moment.

Invariants: no private key of a workload ever exists here; ``now`` is always an argument.
Not done here: deciding whose request it is (``fsm.delivery``), carrying a rotation out
(``fsm.controllers.rotation``).
"""

from fsm.ca.csr import CsrError
from fsm.ca.live import LiveAuthority
from fsm.ca.provider import Authority, CaError, Issued, ServerCertificate
from fsm.ca.roots import Root, read_root, signer_of, trust_id
from fsm.ca.store import load_or_create_root, read_state
from fsm.ca.tresor import Tresor, new_root

__all__ = [
    "Authority",
    "CaError",
    "CsrError",
    "Issued",
    "LiveAuthority",
    "Root",
    "ServerCertificate",
    "Tresor",
    "load_or_create_root",
    "new_root",
    "read_root",
    "read_state",
    "signer_of",
    "trust_id",
]
