"""AccessControl: what one comes to.

In: the snapshot and the policy. Out: a ``Judgement``. Who is let in is worked out together with
IngressBackend, because both open the same ports (``fsm.policies.ingress_backend.compile``).
"""

from fsm.policies.ingress_backend.compile import judge

__all__ = ["judge"]
