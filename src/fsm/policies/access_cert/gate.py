"""What AccessCerts need before they are taken at all.

In: nothing. Out: the gate, which the webhook and ``fsm validate`` ask. Not here: statuses.
"""

from fsm.policies.base import Gate

FLAG = "enableAccessCertPolicy"
GATE = Gate(FLAG, "FSM is prohibited to issue certificates for external services")
