"""``nginx:*``: the machine's own nginx with the layout of the image.

What comes in: ``/etc/nginx/nginx.conf`` where a volume is mounted, else the server blocks in
``/etc/nginx/conf.d``; arguments are passed on. What goes out: this process becomes nginx, in the
foreground, with its logs on standard output and error.

Invariant: the machine's own sites are never served: without any configuration there is one server
on port 80 for ``/usr/share/nginx/html``.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from fsm.standalone.programs import is_volume

_CONFIG = Path("/etc/nginx/nginx.conf")
_SITES = Path("/etc/nginx/conf.d")
_MADE = Path("/run/nginx-image.conf")
_DEFAULT_SITE = "  server { listen 80; root /usr/share/nginx/html; index index.html; }\n"


def config(sites: list[Path]) -> str:
    """Write the main configuration around the server blocks."""
    includes = "".join(f'  include "{path}";\n' for path in sites)
    return (
        # As root without changing to another user: a user namespace may have only the one.
        "user root;\nworker_processes 1;\npid /run/nginx.pid;\nerror_log /dev/stderr notice;\n"
        "events { worker_connections 1024; }\nhttp {\n  access_log /dev/stdout;\n"
        "  include /etc/nginx/mime.types;\n  default_type application/octet-stream;\n"
        + (includes or _DEFAULT_SITE)
        + "}\n"
    )


def main() -> None:
    """Become nginx."""
    server = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if server is None:
        raise SystemExit("nginx is not installed\nhint: Debian: apt-get install nginx-light")
    words = [word for word in sys.argv[1:] if word != "nginx"] or ["-g", "daemon off;"]
    if not is_volume(_CONFIG) and not is_volume(_CONFIG.parent):
        sites = sorted(_SITES.glob("*.conf")) if is_volume(_SITES) else []
        _MADE.write_text(config(sites))
        words = ["-c", str(_MADE), *words]
    os.execv(server, [server, *words])


if __name__ == "__main__":
    main()
