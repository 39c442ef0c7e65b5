"""Run inside a fresh network namespace: two more of them, a veth, the ruleset, real connections.

    outside (10.9.0.1) ═══ veth ═══ (10.9.0.2) pod: ruleset, a pretended sidecar, an application

The pretended sidecar listens on 15001 and 15003 and answers with the name of the listener and the
original destination; the application on 8080 answers ``app``. Prints one JSON object: what each
connection of the table met.
Called by ``test_ruleset``: ``python netns_world.py RULESET_FILE OWN`` with OWN ``mark`` or ``uid``.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading

SO_ORIGINAL_DST = 80
SO_MARK = 36


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def serve(port: int, name: str) -> None:
    listener = socket.create_server(("0.0.0.0", port))

    def loop() -> None:
        while True:
            connection, _ = listener.accept()
            with connection:
                raw = b""
                if name != "app":
                    raw = connection.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
                seen = name
                if raw:
                    dst_port, address = struct.unpack_from("!2xH4s", raw)
                    seen = f"{name} for {socket.inet_ntoa(address)}:{dst_port}"
                connection.sendall(seen.encode())

    threading.Thread(target=loop, daemon=True).start()


def dial(address: str, port: int, *, mark: int = 0, uid: int = 0) -> str:
    """Connect as the application, or as the sidecar (by mark or uid); says who answered."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if uid:
                os.setuid(uid)
            with socket.socket() as own:
                own.settimeout(2)
                if mark:
                    own.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
                try:
                    own.connect((address, port))
                    answer = own.recv(100) or b"closed"
                except ConnectionRefusedError:
                    answer = b"refused"
                except OSError as error:
                    answer = str(error).encode()
            os.write(write, answer)
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answered:
        text = answered.read()
    os.waitpid(child, 0)
    return text


def main() -> None:
    ruleset, own = open(sys.argv[1]).read(), sys.argv[2]
    outside = subprocess.Popen(
        ["unshare", "-n", "sh", "-c", "echo up; exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert outside.stdout
    assert outside.stdout.readline() == "up\n"
    there = ["nsenter", "-t", str(outside.pid), "-n"]
    try:
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "out0")
        run("ip", "link", "set", "out0", "netns", str(outside.pid))
        run("ip", "addr", "add", "10.9.0.2/24", "dev", "eth0")
        run("ip", "link", "set", "eth0", "up")
        run("ip", "route", "add", "default", "via", "10.9.0.1")
        run(*there, "ip", "link", "set", "lo", "up")
        run(*there, "ip", "addr", "add", "10.9.0.1/24", "dev", "out0")
        run(*there, "ip", "addr", "add", "10.9.0.5/24", "dev", "out0")
        run(*there, "ip", "link", "set", "out0", "up")
        run("nft", ruleset)
        run("nft", ruleset)  # a restarted container installs it again
        for port, name in ((15001, "outbound"), (15003, "inbound"), (8080, "app")):
            serve(port, name)
        serve(9000, "app")
        serve(15010, "app")
        side = {"mark": 0xF5} if own == "mark" else {"uid": 1500}
        seen = {
            "app to elsewhere": dial("10.9.0.1", 80),
            "app to a service": dial("10.96.0.7", 14001),
            "app to an excluded port": dial("10.9.0.1", 5432),
            "app to an excluded range": dial("10.9.0.5", 80),
            "app to itself by loopback": dial("127.0.0.1", 8080),
            "app to itself by address": dial("10.9.0.2", 8080),
            "sidecar to elsewhere": dial("10.9.0.1", 80, **side),
            "sidecar to the app": dial("127.0.0.1", 8080, **side),
            "sidecar to its own pod": dial("10.9.0.2", 8080, **side),
            "sidecar to its own pod, excluded port": dial("10.9.0.2", 9000, **side),
        }
        probe = (
            "import socket,sys\n"
            "for port in map(int, sys.argv[1:]):\n"
            "  try:\n"
            "    s = socket.create_connection(('10.9.0.2', port), 2)\n"
            "    print(port, s.recv(100).decode())\n"
            "  except OSError as e: print(port, 'refused' if e.errno == 111 else e)\n"
        )
        ports = ["8080", "15001", "15003", "15000", "15010", "9000", "7"]
        found = subprocess.run(
            [*there, sys.executable, "-c", probe, *ports],
            check=True,
            capture_output=True,
            text=True,
        )
        for line in found.stdout.splitlines():
            port, _, answer = line.partition(" ")
            seen[f"outside to {port}"] = answer
        print(json.dumps(seen))
    finally:
        outside.send_signal(signal.SIGKILL)
        outside.wait()


if __name__ == "__main__":
    main()
