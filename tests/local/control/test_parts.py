"""Small parts by themselves: root Secret, registry, loops, settings, manifests, log."""

from __future__ import annotations

import asyncio
import base64
import io
import logging
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm import policies
from fsm.ca import CaError, load_or_create_root, read_state
from fsm.controllers.changes import matters, name_of
from fsm.controllers.logs import LineFormatter
from fsm.controllers.loops import Reconciler
from fsm.controllers.settings import ControllerSettings, SettingsError
from fsm.delivery import Compiled, ProxyKey, ProxyRegistry
from fsm.kube import AlreadyExists, Unavailable
from fsm.kube.resources import SECRETS
from fsm.manifests.install import install_manifests
from fsm.manifests.install.preset import preset_spec
from fsm.settings import Settings

NOW = datetime(2026, 3, 1, tzinfo=UTC)


async def root_of(kube):
    secret = await load_or_create_root(kube, "fsm-system", "fsm-ca-bundle", NOW)
    return read_state(secret).current


async def test_the_root_is_made_once_and_read_ever_after(kube):
    first = await root_of(kube)
    assert await root_of(kube) == first
    data = kube.objects[SECRETS]["fsm-system", "fsm-ca-bundle"]["data"]
    assert set(data) == {"ca.crt", "private.key"}


async def test_controllers_that_start_together_use_one_root(kube):
    assert len(set(await asyncio.gather(*(root_of(kube) for _ in range(5))))) == 1


async def test_the_winner_of_the_race_is_believed(kube, monkeypatch):
    winner = await root_of(kube)
    kube_get, first = kube.get, iter([True])

    async def late(res, name, namespace=None):
        if next(first, False):
            from fsm.kube import NotFound

            raise NotFound(404, "NotFound", "not yet")
        return await kube_get(res, name, namespace)

    monkeypatch.setattr(kube, "get", late)
    assert await root_of(kube) == winner
    with pytest.raises(AlreadyExists):
        await kube.create(SECRETS, kube.objects[SECRETS]["fsm-system", "fsm-ca-bundle"])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "no key 'ca.crt'"),
        ({"ca.crt": "eA=="}, "no key 'private.key'"),
        ({"ca.crt": "%", "private.key": "eA=="}, "'ca.crt' .* no base64"),
        ({"ca.crt": base64.b64encode(b"\xff").decode(), "private.key": "eA=="}, "no base64"),
    ],
)
async def test_a_secret_that_holds_something_else_is_left_alone(kube, data, words):
    secret = {"metadata": {"name": "fsm-ca-bundle", "namespace": "fsm-system"}, "data": data}
    kube.put(SECRETS, secret)
    writes = len(kube.writes)
    with pytest.raises(CaError, match=words):
        await root_of(kube)
    assert len(kube.writes) == writes


class Time:
    """Both clocks of a registry."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


KEYS = [ProxyKey("shop", f"p{n}", f"u{n}") for n in range(3)]
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(0, 2), st.sampled_from("ABC")),
        st.tuples(st.just("poll"), st.integers(0, 2), st.just("")),
        st.tuples(st.just("ack"), st.integers(0, 2), st.sampled_from(["applied", "refused"])),
        st.tuples(st.just("lose"), st.integers(0, 2), st.just("")),
        st.tuples(st.just("forget"), st.integers(0, 2), st.just("")),
    ),
    max_size=40,
)


@given(steps=_steps)
def test_the_books_of_changes_balance_whatever_happens(steps):
    observed: list[float] = []
    clock = Time()
    registry = ProxyRegistry(clock, clock, observed.append)
    holds: dict[ProxyKey, tuple[str, str]] = {}
    for step, index, word in steps:
        clock.now += 1
        key = KEYS[index]
        if step == "publish":
            change = registry.begin_change(clock.now, ())
            registry.publish(key, Compiled(word, b""), change)
        elif step == "poll":
            record, _ = registry.touch(key, "id")
            received, applied = holds.get(key, ("", ""))
            registry.polled(record, received, applied)
            if record.target and record.target.version != received:
                registry.sent(record, record.target)
                holds[key] = (record.target.version, applied)
        elif step == "ack" and registry.get(key) and holds.get(key, ("", ""))[0]:
            record = registry.get(key)
            version = holds[key][0]
            registry.acknowledge(record, version, word, "because")
            if word == "applied":
                holds[key] = (version, version)
        elif step == "forget":
            registry.forget_except(k for k in KEYS if k != key)
            holds.pop(key, None)
        elif step == "lose":
            holds.pop(key, None)
        for change in registry.changes:
            assert 0 <= change.applied + change.refused <= change.proxies
        behind = sum(len(r.pending) for r in registry.records())
        assert behind == sum(change.pending for change in registry.changes)
    assert len(observed) == sum(change.applied for change in registry.changes)
    assert all(seconds >= 0 for seconds in observed)
    # Whoever now fetches and applies what it shall have leaves no change open.
    for record in registry.records():
        if record.target:
            registry.acknowledge(record, record.target.version, "applied", "")
            assert not record.pending


def test_changed_and_changed_back_leaves_nothing_open():
    clock = Time()
    registry = ProxyRegistry(clock, clock)
    record, _ = registry.touch(KEYS[0], "id")
    registry.publish(KEYS[0], Compiled("A", b""))
    registry.sent(record, Compiled("A", b""))
    registry.acknowledge(record, "A", "applied", "")
    for version in "BA":
        change = registry.begin_change(clock.now, ())
        registry.publish(KEYS[0], Compiled(version, b""), change)
    assert [c.pending for c in registry.changes] == [0, 0]


def test_time_to_applied_runs_from_the_first_event():
    clock, observed = Time(), []
    registry = ProxyRegistry(clock, clock, observed.append)
    record, _ = registry.touch(KEYS[0], "id")
    change = registry.begin_change(clock.now - 0.5, ("X/a/b",))
    registry.publish(KEYS[0], Compiled("A", b""), change)
    clock.now += 2
    registry.acknowledge(record, "A", "applied", "")
    assert (observed, change.slowest_s, record.applied_s) == ([2.5], 2.5, 2.5)


def test_a_proxy_is_lost_after_a_missed_poll_and_counted_when_it_comes_back():
    clock = Time()
    registry = ProxyRegistry(clock, clock)
    record, _ = registry.touch(KEYS[0], "id")
    clock.now += 60
    assert registry.connected(record)
    clock.now += 60
    assert not registry.connected(record)
    registry.touch(KEYS[0], "id")
    assert (record.reconnects, registry.connected(record)) == (1, True)


async def test_a_loop_goes_on_after_failures_and_looks_when_poked(caplog):
    runs = asyncio.Queue()
    outcomes = iter([Unavailable(0, "", "down"), RuntimeError("a fault"), None, None])

    async def reconcile():
        outcome = next(outcomes)
        runs.put_nowait(outcome)
        if outcome:
            raise outcome

    loop = Reconciler("testing", reconcile, period_s=60)
    task = asyncio.create_task(loop.run())
    async with asyncio.timeout(10):
        seen = [await runs.get() for _ in range(3)]
        assert seen[-1] is None
        loop.poke()
        await runs.get()
    task.cancel()
    messages = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert messages == ["testing failed and will be tried again"]


async def test_a_loop_runs_on_its_period_without_any_signal():
    runs = asyncio.Queue()

    async def reconcile():
        runs.put_nowait(None)

    task = asyncio.create_task(Reconciler("t", reconcile, period_s=0.01).run())
    async with asyncio.timeout(10):
        for _ in range(3):
            await runs.get()
    task.cancel()


@pytest.mark.parametrize(
    ("kind", "old", "new", "answer"),
    [
        ("Service", None, {}, True),
        ("Service", {}, None, True),
        ("Service", {"spec": {"a": 1}}, {"spec": {"a": 2}}, True),
        ("Service", {"status": {"a": 1}}, {"status": {"a": 2}}, False),
        ("Service", {"metadata": {"labels": {}}}, {"metadata": {"labels": {"a": "b"}}}, True),
        (
            "Service",
            {"metadata": {"resourceVersion": "1", "managedFields": []}},
            {"metadata": {"resourceVersion": "2", "managedFields": [1]}},
            False,
        ),
        ("TrafficTarget", {"status": {}}, {"status": {"conditions": [1]}}, False),
        ("Pod", {"status": {"podIP": "1"}}, {"status": {"podIP": "2"}}, True),
        ("Pod", {"status": {"phase": "Pending"}}, {"status": {"phase": "Running"}}, True),
        ("Pod", {"status": {"startTime": "1"}}, {"status": {"startTime": "2"}}, False),
        (
            "Pod",
            {"status": {"conditions": [{"type": "Ready", "status": "False"}]}},
            {"status": {"conditions": [{"type": "Ready", "status": "True"}]}},
            True,
        ),
        (
            "Pod",
            {"status": {"conditions": [{"type": "Ready", "status": "True", "lastProbeTime": 1}]}},
            {"status": {"conditions": [{"type": "Ready", "status": "True", "lastProbeTime": 2}]}},
            False,
        ),
        ("EndpointSlice", {"endpoints": []}, {"endpoints": [{}]}, True),
    ],
)
def test_only_what_can_matter_matters(kind, old, new, answer):
    assert matters(kind, old, new) is answer


def test_objects_are_named_with_and_without_a_namespace():
    assert name_of("Pod", {"metadata": {"name": "a", "namespace": "b"}}) == "Pod/b/a"
    assert name_of("Namespace", {"metadata": {"name": "a"}}) == "Namespace/a"


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"FSM_SIDECAR_MARK": "x"}, "FSM_SIDECAR_MARK is 'x'"),
        ({"FSM_SIDECAR_MARK": "0"}, "FSM_SIDECAR_MARK"),
        ({"FSM_SIDECAR_MARK": "0x1ffffffff"}, "FSM_SIDECAR_MARK"),
        ({"FSM_LOG_LEVEL": "loud"}, "'loud' is none of"),
    ],
)
def test_a_malformed_environment_is_refused_by_name(environ, words):
    with pytest.raises(SettingsError, match=words):
        ControllerSettings.from_environment(environ)


def test_the_manifests_environment_is_what_the_controller_reads():
    settings = Settings(mesh_name="m", fsm_namespace="mesh-system", trust_domain="td.example")
    for standalone, mark in ((True, 0xF5), (False, None)):
        objects = install_manifests(settings, standalone=standalone)
        (deployment,) = [o for o in objects if o["kind"] == "Deployment"]
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        environ = {e["name"]: e.get("value", "mesh-system") for e in container["env"]}
        read = ControllerSettings.from_environment(environ)
        assert (read.mesh.mesh_name, read.mesh.fsm_namespace) == ("m", "mesh-system")
        assert read.mesh.trust_domain == "td.example"
        assert read.injection.mark == mark


def test_the_manifests_fit_together():
    objects = install_manifests(Settings())
    assert objects == install_manifests(Settings()), "same settings, same objects"
    by_kind = {o["kind"]: o for o in objects}
    service = by_kind["Service"]
    labels = by_kind["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    ports = {p["port"] for p in service["spec"]["ports"]}
    assert ports == {15128, 9443, 9091}
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        for webhook in by_kind[kind]["webhooks"]:
            target = webhook["clientConfig"]["service"]
            assert target["name"] == service["metadata"]["name"]
            assert target["namespace"] == service["metadata"]["namespace"]
            assert target["port"] in ports
            config = webhook["name"].startswith("fsm-config")
            assert webhook["failurePolicy"] == ("Ignore" if config else "Fail")
    roles = {o["metadata"]["name"]: o for o in objects if o["kind"] in ("ClusterRole", "Role")}
    for name, role in roles.items():
        for rule in role["rules"]:
            assert "*" not in rule["verbs"]
            assert "delete" not in rule["verbs"] or rule["resources"] == ["secrets"]
            elsewhere = role["kind"] == "ClusterRole" and not name.endswith("-secrets")
            assert not (elsewhere and "secrets" in rule["resources"]), (
                "Secrets of other namespaces are a role of its own, which can be left unbound"
            )
    bound = {o["roleRef"]["name"] for o in objects if o["kind"] == "ClusterRoleBinding"}
    assert bound == {name for name, role in roles.items() if role["kind"] == "ClusterRole"}


def test_the_preset_is_a_valid_mesh_config():
    obj = {
        "apiVersion": "config.flomesh.io/v1alpha3",
        "kind": "MeshConfig",
        "metadata": {"name": "fsm-mesh-config", "namespace": "fsm-system"},
        "spec": preset_spec(),
    }
    assert policies.validate(obj) == []
    assert policies.warnings(obj) == []


def test_a_log_line_is_one_line_with_its_fields():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter())
    log = logging.Logger("fsm.testing")
    log.addHandler(handler)
    log.warning("two\nlines of %s", "text", extra={"proxy": "a/b"})
    (line,) = stream.getvalue().splitlines()
    assert line.endswith("Z WARNING testing  two | lines of text proxy=a/b")
