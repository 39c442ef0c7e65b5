"""The embedded Kubernetes-style API: what the mesh runs on where there is no cluster.

One process: aiohttp in front, SQLite behind. ``run_apiserver`` serves it; kubectl and every other
Kubernetes client find discovery, CRUD, watches, patches, CRDs, admission webhooks, tokens and
tables. It makes no attempt to be more than one node needs.

    urls, bodies ─► router ─► handlers ─► lifecycle ─► store
                      │           │           ├─ decoding (shapes, structural, defaults)
                      │           │           ├─ validation, addresses, crds
                      │           │           └─ admission
                      │           └─ watch, tables, patch, apply, selectors
                      └─ auth, reviews, discovery, openapi, kubelet, proxy, scale
"""

from fsm.standalone.apiserver.server import run_apiserver
from fsm.standalone.apiserver.settings import ApiServerSettings

__all__ = ["ApiServerSettings", "run_apiserver"]
