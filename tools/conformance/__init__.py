"""Conformance: runs h2spec against the running proxy, as a table and as an exit code.

In: the binary of pipy, h2spec (a Go program, installed on demand). Out: one table per way in; exit
code 1 when any case failed or was skipped. ``--write`` puts the result down in
``docs/reference/conformance.md``.

Ways in::

    plain   h2spec ── prior knowledge ──► pipy ── HTTP/1 ──► backend
    mtls    h2spec ──► tunnel ── mTLS, ALPN h2 ──► pipy ── HTTP/1 ──► backend
    grpc    h2spec ── prior knowledge ──► pipy ── HTTP/2 ──► backend behind a second pipy

h2spec cannot show a client certificate, and a sidecar takes no client without one; the tunnel of
``rig.py`` adds it and looks at nothing. Not here: gRPC (``tests/local/proxy/test_grpc.py``), floods
(``test_http2_floods.py`` there).
"""
