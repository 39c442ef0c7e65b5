"""Every peer that is installed accepts every configuration that the bench writes for it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from tools.bench import certs
from tools.bench.errors import MissingError, UnsupportedError
from tools.bench.peers import PEERS, Installed, Job, Peer, Proxy
from tools.bench.peers.base import HTTP1, Http2, Kind, Side
from tools.bench.peers.scripts import Script
from tools.bench.rows import ROWS, Row

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> certs.Certificates:
    return certs.issue(tmp_path_factory.mktemp("certificates"))


def _check_command(peer: Peer, proxy: Proxy) -> list[str]:
    words = [str(word) for word in proxy.command]
    match peer.name:
        case "nginx":
            return [*words, "-t"]
        case "HAProxy":
            return [words[0], "-c", *words[1:]]
        case "Envoy":
            return [*words, "--mode", "validate"]
        case _ if "--config" in words:
            return [words[0], "check", words[words.index("--config") + 1]]
        case _:
            return [words[0], "--check", words[-1]]


@pytest.mark.parametrize("access_log", [False, True], ids=["quiet", "logged"])
@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.value)
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_peer_accepts_its_configuration(
    peer: Peer, kind: Kind, access_log: bool, tmp_path: Path, certificates: certs.Certificates
) -> None:
    try:
        proxies = peer.proxies(peer.find(), Job(kind, access_log, tmp_path, certificates))
    except MissingError as missing:
        pytest.skip(str(missing))

    for proxy in proxies:
        checked = subprocess.run(
            _check_command(peer, proxy), capture_output=True, text=True, timeout=60, check=False
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.http2 != HTTP1], ids=lambda row: row.name
)
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_peer_accepts_its_configuration_for_http_2(
    peer: Peer, row: Row, tmp_path: Path, certificates: certs.Certificates
) -> None:
    job = Job(row.kind, False, tmp_path, certificates, row.http2)
    try:
        proxies = peer.proxies(peer.find(), job)
    except MissingError as missing:
        pytest.skip(str(missing))
    except UnsupportedError:
        assert (peer.name, row.http2.grpc and row.kind is Kind.HTTP) == ("nginx", False)
        return

    for proxy in proxies:
        checked = subprocess.run(
            _check_command(peer, proxy), capture_output=True, text=True, timeout=60, check=False
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("script", list(Script), ids=lambda script: script.value)
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_peer_accepts_its_script(peer: Peer, script: Script, workers: int, tmp_path: Path) -> None:
    job = Job(Kind.HTTP, False, tmp_path, None, script=script, workers=workers)
    try:
        [proxy] = peer.proxies(peer.find(), job)
    except MissingError as missing:
        pytest.skip(str(missing))
    except UnsupportedError:
        assert peer.name == "Envoy"
        return

    checked = subprocess.run(
        _check_command(peer, proxy), capture_output=True, text=True, timeout=60, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.value)
def test_our_configuration_is_of_the_contract(
    kind: Kind, tmp_path: Path, certificates: certs.Certificates
) -> None:
    ours = PEERS[0]
    schema = json.loads((ROOT / "contract" / "proxy-config.schema.json").read_text())
    ours.proxies(Installed(Path("pipy"), "any"), Job(kind, False, tmp_path, certificates))

    written = sorted(tmp_path.glob("*.json"))
    assert len(written) == (2 if kind is Kind.PAIR else 1)
    for path in written:
        Draft202012Validator(schema).validate(json.loads(path.read_text()))


def test_services_besides_are_configured_for_us_and_refused_by_others(tmp_path: Path) -> None:
    job = Job(Kind.HTTP, False, tmp_path, None, services=1000)
    ours, *others = PEERS
    ours.proxies(Installed(Path("pipy"), "any"), job)
    written = json.loads((tmp_path / "pipy.json").read_text())
    schema = json.loads((ROOT / "contract" / "proxy-config.schema.json").read_text())
    Draft202012Validator(schema).validate(written)
    assert len(written["clusters"]) == len(written["outbound"]["matches"]) == 1001
    asked = [tuple(match.get("destinations", ())) for match in written["outbound"]["matches"]]
    assert len(set(asked)) == 1001, "each has an address of its own"
    for peer in others:
        with pytest.raises(UnsupportedError):
            peer.proxies(Installed(Path("any"), "any"), job)


@pytest.mark.parametrize("never", [False, True])
def test_only_a_limit_keeps_our_sidecars_from_http_2(
    never: bool, tmp_path: Path, certificates: certs.Certificates
) -> None:
    job = Job(Kind.PAIR, False, tmp_path, certificates, Http2(never=never))
    PEERS[0].proxies(Installed(Path("pipy"), "any"), job)
    written = json.loads((tmp_path / "pipy-A.json").read_text())
    assert [("limits" in cluster) for cluster in written["clusters"].values()] == [never]


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_pair_is_one_proxy_on_each_side_server_first(
    peer: Peer, tmp_path: Path, certificates: certs.Certificates
) -> None:
    job = Job(Kind.PAIR, False, tmp_path, certificates)
    proxies = peer.proxies(Installed(Path("any"), "any"), job)
    assert [proxy.side for proxy in proxies] == [Side.SERVER, Side.CLIENT]
