"""Whatever happens to the network, the API, the disk, the clock and the processes, and in whatever
order: once it ends, every proxy holds the bytes, and every object the status, that come of making
all of it from nothing.

``FSM_SEEDS=5000`` in the environment tries that many; ``FSM_SEED=17`` tries that one::

    FSM_SEED=17 pytest tests/unit/simulation
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import random
from types import SimpleNamespace
from typing import Any

import pytest
from changes import KINDS, Step, take
from sim import virtual_time
from sim.api import SimApi
from sim.mesh import Mesh
from world import World, port
from worlds import NAMES, NAMESPACES, WORKLOADS

from fsm.controllers import publisher, status, world

ONE = os.environ.get("FSM_SEED")
SEEDS = [int(ONE)] if ONE else list(range(int(os.environ.get("FSM_SEEDS", "200"))))
PER_TEST = 25
CONVERGED_S = 400.0
"""LIMIT: virtual seconds of peace within which all must be right: pauses between attempts grow to
45 s, and loops look again every 60 s."""
BROKEN: list[Any] = [{}, {"service": 7}, {"matches": [{"name": "x", "pathRegex": "("}]}, {"x": 1}]


def first_world(dice: random.Random) -> World:
    found = World()
    for namespace in NAMESPACES:
        found.namespace(namespace)
        found.tcp_route(namespace, "tcp")
        found.group(namespace, "g", {"name": "m0"}, {"name": "m1", "pathRegex": "/x"})
    found.mesh(permissive=dice.random() < 0.3, mode=dice.choice(["domain", "mixed", "ip"]))
    for namespace, name in WORKLOADS:
        kind = dice.choice([port(80), port(80, 8080), port(80, app="tcp"), port(80, name="http-x")])
        found.workload(namespace, name, kind, labels={"app": name})
    for number in range(3):
        ends = [dice.choice(WORKLOADS) for _ in range(2)]
        found.target(f"t{number}", ends[0], [ends[1]], ("HTTPRouteGroup", "g", "m0", "m1"))
    apex = dice.choice(NAMES)
    found.split(dice.choice(NAMESPACES), "s", apex, {name: dice.randrange(3) for name in NAMES})
    return found


async def happen(mesh: Mesh, model: World, dice: random.Random) -> None:
    """Let one thing happen."""
    api, what = mesh.api, dice.random()
    if what < 0.65:
        step = Step(dice.choice(KINDS), *(dice.randrange(8) for _ in range(3)))
        changes = take(model, step)
        dice.shuffle(changes)
        for change in changes:
            if change.obj is None:
                api.remove(change.kind, tuple(change.key))
            else:
                api.put(change.kind, change.obj)
            if dice.random() < 0.3:
                await mesh.wait(0.05)
    elif what < 0.70:
        kind = dice.choice(["TrafficTarget", "TrafficSplit", "HTTPRouteGroup"])
        name = ("a", f"broken-{dice.randrange(3)}")
        if name in api.objects[kind] and dice.random() < 0.5:
            api.remove(kind, name)
        else:
            meta = {"namespace": name[0], "name": name[1]}
            api.put(kind, {"kind": kind, "metadata": meta, "spec": dice.choice(BROKEN)})
    elif what < 0.76:
        api.compact()
    elif what < 0.82:
        await mesh.restart_controller()
    elif what < 0.90 and mesh.proxies:
        mesh.proxies[dice.choice(sorted(mesh.proxies))].restart()
    elif what < 0.94:
        mesh.wall.off += dice.choice([-86_400.0, -1.0, 3_600.0, 10 * 365 * 86_400.0])
    else:
        api.disk_full = not api.disk_full
    mesh.follow_pods()
    await mesh.wait(dice.choice([0.01, 0.1, 1.0, 20.0]))


async def play(seed: int, patch: pytest.MonkeyPatch) -> None:
    dice = random.Random(seed)
    random.seed(seed)
    clock = SimpleNamespace(monotonic=asyncio.get_running_loop().time)
    for module in (publisher, status, world):
        patch.setattr(module, "time", clock)
    # Now and then the publisher lets others run after every single configuration.
    patch.setattr(publisher, "SLICE_S", dice.choice([0.01, -1.0]))
    # Looking at everything once a minute would hide what nobody gave news of.
    patch.setattr(status, "WHOLE_S", math.inf)
    api, model = SimApi(dice), first_world(dice)
    for kind, found in model.objects().items():
        for obj in found:
            api.put(kind, obj)
    mesh = Mesh(api, model.settings, dice)
    mesh.follow_pods()
    try:
        for _ in range(dice.randrange(5, 25)):
            await happen(mesh, model, dice)
        api.calm = True
        end = asyncio.get_running_loop().time() + CONVERGED_S
        while left := mesh.astray():
            assert not mesh.controller.task.done(), mesh.controller.task
            assert asyncio.get_running_loop().time() < end, "; ".join(left)
            await asyncio.sleep(5.0)
        # An informer that still pauses has not heard of what was written last.
        await asyncio.sleep(60.0)
        writes = api.status_writes
        await asyncio.sleep(200.0)
        assert api.status_writes == writes, "what is right is not written again"
        assert not mesh.astray()
    finally:
        await mesh.end()


@pytest.mark.parametrize("first", SEEDS[::PER_TEST])
def test_it_converges_to_what_would_be_made_from_nothing(
    first: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    for seed in SEEDS[SEEDS.index(first) :][:PER_TEST]:
        try:
            virtual_time.run(play(seed, monkeypatch))
        except BaseException as error:
            error.add_note(f"replay: FSM_SEED={seed} pytest tests/unit/simulation")
            raise
