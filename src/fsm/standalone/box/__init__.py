"""The box: one set of namespaces in which the whole standalone world lives.

``lifecycle`` opens and closes it from the host (`fsm up`, `fsm down`), ``enter`` makes the
namespaces, ``supervise`` is PID 1 inside, ``world`` gives that PID 1 its mounts and its network.

Invariant: nothing outside the box is changed except files below the state directory. When PID 1
ends, however it ends, the kernel removes every process, link, rule and mount of the box.
"""
