"""What holds in every world: random meshes, asked of the oracle and of the contract."""

import json
import random
from fractions import Fraction
from pathlib import Path

import jsonschema
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Mesh, Request
from world import World, port
from worlds import worlds

from fsm.compile import build_snapshot, check, compile_proxy, config_from_json
from fsm.model import Key

SCHEMA = json.loads(
    (Path(__file__).parents[3] / "contract" / "proxy-config.schema.json").read_text()
)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_every_configuration_is_of_the_contract_and_makes_sense(world: World) -> None:
    for key, config in world.compile_all().items():
        data = config.to_json()
        assert check(config) == [], key
        assert config_from_json(data) == config
        VALIDATOR.validate(json.loads(data))


@settings(max_examples=40, deadline=None)
@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_of_events_changes_no_byte(world: World, shuffle: random.Random) -> None:
    before = {key: config.to_json() for key, config in world.compile_all().items()}
    objects = {kind: list(found) for kind, found in world.objects().items()}
    for found in objects.values():
        shuffle.shuffle(found)
    snapshot, _ = build_snapshot(objects, world.settings, trust_roots=world.roots)
    keys = list(before)
    shuffle.shuffle(keys)
    for key in keys:
        config = compile_proxy(snapshot, snapshot.pods[key], world.settings)
        assert config.to_json() == before[key]


def _calls(world: World) -> list[tuple[Key, str, Key, int, Request]]:
    """Return every way to call a Service or a Pod of the world."""
    found = []
    clients = [k for k, p in world.snapshot().pods.items() if p.has_sidecar]
    for client in clients:
        for service in world.found["Service"]:
            key = Key(service["metadata"]["namespace"], service["metadata"]["name"])
            ip = service["spec"]["clusterIP"]
            number = service["spec"]["ports"][0]["port"]
            for path in ("/x", "/y", "/z"):
                request = Request(f"{key.name}.{key.namespace}", path)
                if ip != "None":
                    found.append((client, ip, key, number, request))
    return found


@settings(max_examples=60, deadline=None)
@given(worlds(permissive=False))
def test_nobody_gets_in_without_a_target_that_names_them(world: World) -> None:
    snapshot = world.snapshot()
    mesh = Mesh(world)
    for client, ip, _, number, request in _calls(world):
        source = snapshot.pods[client].service_account
        for outcome in mesh.call(client, ip, number, request):
            if "/" not in outcome:
                continue
            served = snapshot.pods[Key(*outcome.split("/"))]
            assert any(
                target.destination == served.service_account and source in target.sources
                for target in snapshot.targets.values()
            ), (client, outcome)


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_nobody_ever_meets_a_wrong_identity_and_shares_add_up(world: World) -> None:
    mesh = Mesh(world)
    for client, ip, _, number, request in _calls(world):
        outcomes = mesh.call(client, ip, number, request)
        assert sum(outcomes.values()) == 1
        assert "wrong identity" not in outcomes
        assert "reset" not in outcomes, (client, ip, outcomes)


@settings(max_examples=60, deadline=None)
@given(worlds(permissive=True))
def test_in_permissive_mode_everything_in_the_mesh_is_reached_in_the_stated_shares(
    world: World,
) -> None:
    snapshot = world.snapshot()
    by_name = snapshot.mesh.traffic.service_access_mode != "ip"
    mesh = Mesh(world)
    for client, ip, apex, number, request in _calls(world):
        if not by_name:
            continue
        splits = snapshot.splits_by_apex.get(apex, ())
        outcomes = mesh.call(client, ip, number, request)
        assert not {"403", "passthrough", "closed"} & set(outcomes), (client, apex, outcomes)
        if len(splits) == 1 and not splits[0].matches:
            expected = _expected(world, splits[0])
            merged = {
                service: sum(
                    (share for pod, share in outcomes.items() if _app(world, pod) == service),
                    Fraction(),
                )
                for service in expected
            }
            assert merged == expected


def _expected(world: World, split: object) -> dict[str, Fraction]:
    snapshot = world.snapshot()
    backends = split.backends  # type: ignore[attr-defined]
    total = sum(backend.weight for backend in backends)
    found: dict[str, Fraction] = {}
    for backend in backends:
        share = Fraction(backend.weight, total) if total else Fraction(1, len(backends))
        if snapshot.endpoints.get(backend.service):
            found[str(backend.service)] = share
    return found


def _app(world: World, pod: str) -> str:
    if "/" not in pod:
        return pod
    namespace, name = pod.split("/")
    return f"{namespace}/{name.rpartition('-')[0]}"


@settings(max_examples=40, deadline=None)
@given(worlds(permissive=False))
def test_an_unrelated_object_changes_no_byte_of_another_configuration(world: World) -> None:
    before = {key: config.to_json() for key, config in world.compile_all().items()}
    world.namespace("elsewhere")
    world.workload("elsewhere", "new", port(80)).workload("elsewhere", "old", port(81))
    world.group("elsewhere", "g", {"name": "all"})
    world.target("t", ("elsewhere", "new"), [("elsewhere", "old")], ("HTTPRouteGroup", "g", "all"))
    world.split("elsewhere", "s", "new", {"old": 1})
    after = world.compile_all()
    assert {key: after[key].to_json() for key in before} == before
