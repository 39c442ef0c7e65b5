"""Measures pipy beside nginx, HAProxy and Envoy, in one run, doing the same work.

Run as ``python -m tools.bench`` from the top of the repository, as root (it makes network
namespaces).

How the files hang together, in the order of one run:

- ``cli``        flags; what to run and where results go
- ``rows``       the rows of the table, and the ratios that are to be reached
- ``sites``      network namespaces, redirection and the backend: what surrounds a proxy
- ``peers/``     one file per proxy: its configuration for each kind of site
- ``processes``  pinned child processes that do not outlive the bench
- ``probe``      proves that a peer does the work (routes, refuses strangers) before it is timed
- ``load``       wrk, and connections that are held open
- ``measure``    CPU time, memory, and who else was on the core
- ``runner``     interleaves the rounds of all peers
- ``report``     medians, ratios, tables
- ``machine``    what all this ran on
"""
