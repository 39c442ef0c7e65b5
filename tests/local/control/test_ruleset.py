"""The redirection, in real network namespaces with real connections."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm.injector import Redirection, redirect_ruleset
from fsm.settings import Ports

WORLD = Path(__file__).parent / "netns_world.py"
UNSHARE = ["unshare", "--user", "--map-root-user", "--net"]


def _can_unshare() -> bool:
    if not shutil.which("nft") or not shutil.which("unshare"):
        return False
    return subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0


needs_namespaces = pytest.mark.skipif(
    not _can_unshare(), reason="needs nft and the right to make network namespaces"
)


@needs_namespaces
@pytest.mark.parametrize("own", ["mark", "uid"])
def test_connections_go_where_they_should(tmp_path, own):
    wish = Redirection(
        Ports(),
        mark=0xF5 if own == "mark" else None,
        outbound_ports_excluded=(5432,),
        inbound_ports_excluded=(9000,),
        outbound_ranges_excluded=("10.9.0.4/31",),
    )
    file = tmp_path / "rules"
    file.write_text(redirect_ruleset(wish))
    # Several user ids exist for root only; an ordinary user has the mark.
    command = ["unshare", "--net"] if own == "uid" else UNSHARE
    if own == "uid" and subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("needs root, to be several users")
    done = subprocess.run(
        [*command, sys.executable, str(WORLD), str(file), own],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen == {
        "app to elsewhere": "outbound for 10.9.0.1:80",
        "app to a service": "outbound for 10.96.0.7:14001",
        "app to an excluded port": "refused",
        "app to an excluded range": "refused",
        "app to itself by loopback": "app",
        "app to itself by address": "app",
        "sidecar to elsewhere": "refused",
        "sidecar to the app": "app",
        "sidecar to its own pod": "inbound for 10.9.0.2:8080",
        "sidecar to its own pod, excluded port": "app",
        "outside to 8080": "inbound for 10.9.0.2:8080",
        "outside to 15001": "inbound for 10.9.0.2:15001",
        "outside to 15003": "inbound for 10.9.0.2:15003",
        "outside to 15000": "refused",
        "outside to 15010": "app",
        "outside to 9000": "app",
        "outside to 7": "inbound for 10.9.0.2:7",
    }


_ports = st.lists(st.integers(1, 65535), max_size=6).map(tuple)
_ranges = st.lists(
    st.one_of(
        st.ip_addresses().map(str),
        st.tuples(st.ip_addresses(v=4), st.integers(0, 32)).map(lambda p: f"{p[0]}/{p[1]}"),
        st.tuples(st.ip_addresses(v=6), st.integers(0, 128)).map(lambda p: f"{p[0]}/{p[1]}"),
    ),
    max_size=6,
).map(tuple)


@needs_namespaces
@settings(max_examples=40, deadline=None)
@given(
    wish=st.builds(
        Redirection,
        ports=st.just(Ports()),
        mark=st.one_of(st.none(), st.integers(1, 2**32 - 1)),
        uid=st.integers(1, 65534),
        outbound_ports_excluded=_ports,
        inbound_ports_excluded=_ports,
        outbound_ranges_excluded=_ranges,
        outbound_ranges_included=_ranges,
        interfaces_excluded=st.lists(
            st.from_regex(r"[A-Za-z0-9_.-]{1,15}", fullmatch=True), max_size=3
        ).map(tuple),
    )
)
def test_nft_accepts_every_ruleset_that_we_write(wish):
    text = redirect_ruleset(wish)
    done = subprocess.run([*UNSHARE, "nft", "-c", text], capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stderr}\n{text}"


@pytest.mark.parametrize(
    "wrong",
    [
        {"outbound_ports_excluded": (0,)},
        {"inbound_ports_excluded": (70000,)},
        {"outbound_ranges_excluded": ("10.0.0.0/8; drop",)},
        {"interfaces_excluded": ("a b",)},
        {"interfaces_excluded": ("",)},
        {"interfaces_excluded": ("a" * 16,)},
    ],
)
def test_values_that_are_not_what_they_should_be_write_no_rules(wrong):
    with pytest.raises(ValueError, match=r"is no"):
        redirect_ruleset(Redirection(Ports(), **wrong))
