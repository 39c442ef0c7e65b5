"""The small Kubernetes controllers of the standalone world.

``deployments`` make ReplicaSets, ``replicasets`` make Pods, ``statefulsets`` and ``jobs`` too,
``endpoints`` turn Services and Pods into EndpointSlices, ``namespaces`` empties those that are
being deleted, ``garbage`` removes what lost its owner. ``controller`` is the loop they share,
``cluster`` their view of the API.

Invariant: each one is level-triggered. An event says "look", the stores say "what"; whatever was
missed while one was down is made good when it looks again.
"""
