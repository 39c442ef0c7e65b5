"""The differential test: what the proxy read, and what real servers behind it read, are the same.

``corpus`` gives the cases (``tests/differential/corpus/*.yaml``), ``servers`` starts real servers
that write down what they read, ``run`` sends every case through a proxy to a server and compares,
``report`` makes the table. ``python -m differential --write`` (part of ``make conformance``) writes
``docs/reference/conformance-strict.md``; ``tests/differential`` fails on any finding.
"""
