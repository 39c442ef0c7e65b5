"""The control plane's loops: watch, compile, publish, write status, keep the house in order.

What comes in: the Kubernetes API. What goes out: configurations for ``fsm.delivery``, statuses,
and the few objects that the mesh itself needs. ``main`` puts everything together.

Invariants: level-triggered; an event says "look", the state says "what". Every loop runs on signal
and on period, and none of them stops another.
"""
