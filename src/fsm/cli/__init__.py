"""What people type: the ``fsm`` command (``osm`` is the same program).

``main`` builds the program, each command lives in a file of its name, and the long ones keep their
substance elsewhere: the mesh installation in ``install``, the demo in ``demo/``.

Invariants: stdout is data only; errors go to stderr in words with a ``hint:`` line; exit codes are
those of ``errors.ExitCode``; a command imports what it needs when it runs, so that the short
commands start at once.
"""
