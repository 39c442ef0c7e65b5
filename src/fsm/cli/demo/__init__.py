"""``fsm demo``: the bookstore, told as a story in which every claim is checked as it is made.

``run`` is the director: it opens the box when none runs, plays the chapters (``chapters``) and
cleans up. ``cast`` puts the applications on, ``observer`` follows their counters, ``claims``
decides whether what was said is true, ``wire`` reads captured packets, ``stage`` shows it all.

Invariants: no number on the screen comes from anywhere but the applications, the control plane, or
the wire; a claim that does not hold ends the demo with exit code 1 and says what was expected, what
was seen, and where to look; without ``--keep`` nothing of the demo is left behind, however it ends.
"""
