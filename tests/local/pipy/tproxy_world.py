"""Run inside a fresh network namespace: a client in another one, whose datagrams are captured.

    client (10.9.0.1) ═══ veth ═══ (10.9.0.2) router: TPROXY, pipy

Datagrams to 198.51.100.7 and 2001:db8::7, which nobody has, are handed over to pipy. Prints one
JSON object: for each port what the client got, and from whom.
Called by ``test_captured``: ``python tproxy_world.py PIPY SCRIPT``.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

PATIENCE = 20.0
RULES = """
table inet mangle {
  chain prerouting {
    type filter hook prerouting priority mangle;
    iif "inner" meta nfproto ipv4 udp dport 7000 meta mark set 1 tproxy ip to :5300 accept
    iif "inner" meta nfproto ipv4 udp dport 7001 meta mark set 1 tproxy ip to :5301 accept
    iif "inner" meta nfproto ipv6 udp dport 7000 meta mark set 1 tproxy ip6 to :5300 accept
  }
}
"""


def run(*command: str, text: str | None = None) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, input=text)


def ask(host: str, port: int) -> list[object]:
    """What comes back from there, and from whom: asked again until something comes."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    deadline = time.monotonic() + PATIENCE
    with socket.socket(family, socket.SOCK_DGRAM) as own:
        own.settimeout(0.5)
        while time.monotonic() < deadline:
            own.sendto(b"hello", (host, port))
            try:
                data, peer = own.recvfrom(100)
            except TimeoutError:
                continue
            return [data.decode(), f"{peer[0]} {peer[1]}"]
    return ["nothing", ""]


def client() -> None:
    """In the other namespace."""
    asked = [("198.51.100.7", 7000), ("198.51.100.7", 7001), ("2001:db8::7", 7000)]
    print(json.dumps({f"{host} {port}": ask(host, port) for host, port in asked}))


def main() -> None:
    outside = subprocess.Popen(["unshare", "--net", "sleep", "600"])
    pipy = None
    try:
        inside = ("nsenter", "--net", "--target", str(outside.pid))
        own = os.readlink("/proc/self/ns/net")
        deadline = time.monotonic() + PATIENCE
        while os.readlink(f"/proc/{outside.pid}/ns/net") == own:
            assert time.monotonic() < deadline, "no namespace"
            time.sleep(0.01)
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "inner", "type", "veth", "peer", "name", "outer")
        run("ip", "link", "set", "outer", "netns", str(outside.pid))
        for name, end, prefix in (("inner", "2", ()), ("outer", "1", inside)):
            run(*prefix, "ip", "address", "add", f"10.9.0.{end}/24", "dev", name)
            run(*prefix, "ip", "address", "add", f"fd09::{end}/64", "dev", name, "nodad")
            run(*prefix, "ip", "link", "set", name, "up")
        run(*inside, "ip", "route", "add", "default", "via", "10.9.0.2")
        run(*inside, "ip", "-6", "route", "add", "default", "via", "fd09::2")
        for family in ("-4", "-6"):
            run("ip", family, "rule", "add", "fwmark", "1", "lookup", "100")
            run("ip", family, "route", "add", "local", "default", "dev", "lo", "table", "100")
        run("nft", "-f", "-", text=RULES)
        pipy = subprocess.Popen([sys.argv[1], sys.argv[2]], stdout=sys.stderr)
        asked = (*inside, sys.executable, __file__, "client")
        print(subprocess.run(asked, check=True, capture_output=True, text=True).stdout)
    finally:
        if pipy:
            pipy.send_signal(signal.SIGTERM)
            pipy.wait(PATIENCE)
        outside.kill()
        outside.wait()


if __name__ == "__main__":
    client() if sys.argv[1] == "client" else main()
