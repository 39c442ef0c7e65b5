"""Addresses and names that every site and every peer's configuration share.

Each peer has namespaces of its own, so the same addresses and ports serve all of them and collide
with nothing on the host. The pair's ports are those of a real sidecar.
"""

from typing import Final

PROXY_CORE: Final = 0
"""Core of the proxy or proxies under test; nothing else of the bench runs there."""
LOAD_CORE: Final = 1
"""Core of the load generator, the backend and the bench itself."""

PLAIN_PORT: Final = 8000
"""Where a proxy of the plain and TCP sites listens, on 127.0.0.1."""
BACKEND_PORT: Final = 9000
"""Where the backend of the plain and TCP sites listens, on 127.0.0.1."""

CLIENT_IP: Final = "10.77.0.1"
SERVER_IP: Final = "10.77.0.2"
SERVICE_IP: Final = "10.96.0.10"
"""The service's address as the client application dials it; it exists nowhere and is always
redirected."""
SERVICE_PORT: Final = 14001
"""Port of the service and of the application behind it."""
OUTBOUND_PORT: Final = 15001
INBOUND_PORT: Final = 15003
ADMIN_PORT: Final = 15000
METRICS_PORT: Final = 15010
PROXY_MARK: Final = 0x0F5A
"""Packet mark of a proxy's own connections, which are not redirected again."""

HOST: Final = "bookstore.bookstore"
PATH: Final = "/books/a-book/new"
TRUST_DOMAIN: Final = "cluster.local"
