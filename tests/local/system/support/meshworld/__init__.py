"""A whole mesh, as a user meets it: commands, Pods that call and answer, and what they saw.

`shell` types commands, `waiting` waits for states, `actors` writes Pods, `ledger` reads what the
Pods noted about each request, `host` looks at the machine outside of the box.
"""
