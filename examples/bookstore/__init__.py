"""The bookstore: four small web applications that know nothing of a service mesh.

``bookbuyer`` and ``bookthief`` both ask the same shop for books, ``bookstore`` sells them and
orders a new copy from ``bookwarehouse``. Each application listens on port 14001, shows what it
counted on a page (``GET /``) and as JSON (``GET /counters``), and forgets it on ``POST /reset``.

What comes in: environment variables (see ``settings``). What goes out: HTTP requests with the
headers that the access policies of the demo look at, and counters that are true: a book is counted
only when its answer arrived, and every failure is counted with its reason.

Invariants: only the standard library, so that five of them start in a blink; no code here knows
the mesh. ``manifests/`` holds what ``kubectl apply`` needs to run them.
"""
