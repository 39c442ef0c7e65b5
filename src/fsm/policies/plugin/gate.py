"""What the three kinds of plugins need before they are taken at all.

In: nothing. Out: the gate, which the webhook and ``fsm validate`` ask. Not here: statuses.
"""

from fsm.policies.base import Gate

FLAG = "enablePluginPolicy"
GATE = Gate(FLAG, "FSM is prohibited to apply plugin policy")
