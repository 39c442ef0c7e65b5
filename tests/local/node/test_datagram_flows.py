"""Datagrams of one flow, and an endpoint that goes: the flow goes on with another."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from box_world import Box, apply, pod, service, until

from fsm.standalone.node.conntrack import Flow, stale
from fsm.standalone.node.service_rules import Endpoint

NETWORKS, NODES = ("10.96.0.0/16", "fd00:10:96::/112"), ("10.244.0.1",)
HERE = {Endpoint("10.244.0.5", 7000), Endpoint("fd00:10:244::5", 7000)}

ECHO = """
import os, socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0); s.bind(("::", 7000))
while True:
    data, who = s.recvfrom(100); s.sendto(os.environ["HOSTNAME"].encode(), who)
"""

#: Sends for ever from one port, and writes down who answers: one line per change.
CLIENT = """
import json, socket, sys, time
wanted = {"4": socket.AF_INET, "6": socket.AF_INET6}[sys.argv[1]]
sock = socket.socket(wanted, socket.SOCK_DGRAM); sock.settimeout(0.3)
before = None
while True:
    try:
        where = socket.getaddrinfo("game", 7000, wanted, socket.SOCK_DGRAM)[0][4]
        sock.sendto(b"x", where); name = sock.recvfrom(100)[0].decode()
    except OSError:
        time.sleep(0.1); continue
    if name != before:
        print(name, flush=True); before = name
    time.sleep(0.05)
"""


@pytest.mark.parametrize(
    ("to", "by", "gone"),
    [
        ("10.96.1.1", Endpoint("10.244.0.5", 7000), False),
        ("10.96.1.1", Endpoint("10.244.0.6", 7000), True),
        ("10.96.1.1", Endpoint("10.244.0.5", 7001), True),
        ("fd00:10:96::9", Endpoint("fd00:10:244::6", 7000), True),
        # A node port; the DNS, which nothing leads anywhere; a Pod; somebody outside.
        ("10.244.0.1", Endpoint("10.244.0.6", 7000), True),
        ("10.96.0.10", Endpoint("10.96.0.10", 53), False),
        ("10.244.0.6", Endpoint("10.244.0.6", 9), False),
        ("192.0.2.1", Endpoint("192.0.2.1", 53), False),
    ],
)
def test_only_flows_from_a_service_to_nobody_are_stale(to: str, by: Endpoint, gone: bool) -> None:
    assert stale(Flow(to, by), NETWORKS, NODES, HERE) is gone


@pytest.mark.box
@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this kernel has no IPv6")
async def test_a_flow_that_goes_on_finds_the_endpoint_that_is_left(
    box: Box, namespace: str
) -> None:
    def python(name: str, code: str, *words: str, **spec: Any) -> dict[str, Any]:
        container = {"image": "python", "command": [sys.executable, "-c", code, *words]}
        return pod(name, container=container, terminationGracePeriodSeconds=0, **spec)

    ports = [{"name": "game", "port": 7000, "targetPort": 7000, "protocol": "UDP"}]
    label = {"app": "game"}
    apply(
        box,
        namespace,
        python("one", ECHO, labels=label),
        python("two", ECHO, labels=label),
        service("game", label, ports=ports, ipFamilyPolicy="RequireDualStack"),
        python("client4", CLIENT, "4"),
        python("client6", CLIENT, "6"),
    )

    def last(client: str) -> str:
        text = box.kubectl("logs", "-n", namespace, client, check=False).split()
        return text[-1] if text and text[-1] in ("one", "two") else ""

    for client in ("client4", "client6"):

        async def talks(client: str = client) -> str:
            return last(client)

        server = await until(talks, f"{client} has an answer")
        other = {"one": "two", "two": "one"}[server]
        box.kubectl("delete", "-n", namespace, f"pod/{server}", "--now")

        async def moved(client: str = client, other: str = other) -> bool:
            return last(client) == other

        await until(moved, f"{client} is answered by the other")
        # Both are there again for the next one.
        again = json.dumps(python(server, ECHO, labels=label))
        box.kubectl("apply", "-n", namespace, "-f", "-", feed=again)
        box.kubectl(
            "wait", "-n", namespace, f"pod/{server}", "--for=condition=Ready", "--timeout=30s"
        )
