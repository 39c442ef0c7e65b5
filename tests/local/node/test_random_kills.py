"""Any process of the box, killed at any moment, twice in a row, while things change; from a seed.

Replay one run with ``FSM_SEED=7 pytest tests/local/node/test_random_kills.py``; the message of a
failure names the seed and every step until then.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
from typing import Any

import pytest
from box_world import Box, pod, until

from fsm.kube import ApiError, KubeClient, NotFound
from fsm.kube.resources import CONFIGMAPS, DEPLOYMENTS, PODS
from fsm.standalone.box import lifecycle

pytestmark = pytest.mark.box

SEEDS = [int(os.environ["FSM_SEED"])] if "FSM_SEED" in os.environ else [1, 2]
STEPS = 14
#: The supervisor waits 10 s at most before it starts a child again; then all must be in order.
SETTLE_S = 60.0


class Town:
    """What was acknowledged, and the steps that change it."""

    def __init__(self, box: Box, client: KubeClient, namespace: str, dice: random.Random) -> None:
        self.box, self.client, self.namespace, self.dice = box, client, namespace, dice
        self.notes: dict[str, str] = {}
        self.unsure: set[str] = set()
        self.replicas = 0
        self.story: list[str] = []

    async def put_note(self) -> None:
        name, text = f"note-{self.dice.randrange(6)}", str(self.dice.random())
        self.story.append(f"put {name}")
        body = {"metadata": {"name": name}, "data": {"text": text}}
        try:
            try:
                await self.client.patch(CONFIGMAPS, name, body, self.namespace)
            except NotFound:
                await self.client.create(CONFIGMAPS, body, self.namespace)
        except ApiError:
            # Not acknowledged: it may be there or not.
            self.unsure.add(name)
            return
        self.unsure.discard(name)
        self.notes[name] = text

    async def drop_note(self) -> None:
        name = f"note-{self.dice.randrange(6)}"
        self.story.append(f"drop {name}")
        try:
            await self.client.delete(CONFIGMAPS, name, self.namespace)
        except NotFound:
            pass
        except ApiError:
            self.unsure.add(name)
            return
        self.unsure.discard(name)
        self.notes.pop(name, None)

    async def scale(self) -> None:
        wanted = self.dice.randrange(1, 4)
        self.story.append(f"scale {wanted}")
        body = {"spec": {"replicas": wanted}}

        async def accepted() -> bool:
            await self.client.patch(DEPLOYMENTS, "app", body, self.namespace)
            return True

        await until(accepted, "the Deployment is scaled", SETTLE_S)
        self.replicas = wanted

    async def kill(self) -> None:
        """Kill one victim, and what has come in its place once more."""
        victim = self.dice.choice(["apiserver", "node", "kube-controllers", "gateway", "container"])
        again_after_s = self.dice.choice([0.0, 0.05, 0.3])
        self.story.append(f"kill {victim}, again after {again_after_s} s")
        await self._kill_one(victim)
        await asyncio.sleep(again_after_s)
        await self._kill_one(victim)

    async def _kill_one(self, victim: str) -> None:
        pid: int | None = None
        if victim == "container":
            with contextlib.suppress(Exception):
                mine = [p for p in await self.box.pods() if p["namespace"] == self.namespace]
                pids = sorted(pid for p in mine for pid in p["processes"].values())
                pid = self.dice.choice(pids) if pids else None
        else:
            pid = self.box.child(victim)["pid"]
        if pid is not None:
            # Gone already is as good as killed.
            with contextlib.suppress(subprocess.CalledProcessError):
                self.box.inside("kill", "-9", str(pid))

    async def settled(self) -> bool:
        """Check every promise; raises what is broken yet."""
        listed = (await self.client.list(CONFIGMAPS, self.namespace)).items
        found = {o["metadata"]["name"]: o["data"]["text"] for o in listed if "text" in o["data"]}
        for name in {*found, *self.notes} - self.unsure:
            assert found.get(name) == self.notes.get(name), name
        pods = (await self.client.list(PODS, self.namespace)).items
        states = [(p["metadata"]["name"], p["status"].get("phase")) for p in pods]
        assert len(pods) == self.replicas, states
        for one in pods:
            ready = [c for c in one["status"]["conditions"] if c["type"] == "Ready"]
            assert ready[0]["status"] == "True", (one["metadata"]["name"], one["status"])
        running = [p for p in await self.box.pods() if p["namespace"] == self.namespace]
        assert {p["uid"] for p in running} == {p["metadata"]["uid"] for p in pods}
        return True

    async def leftovers(self) -> bool:
        """Check that links, namespaces, directories and processes are those of the Pods."""
        known = await self.box.pods()
        links = {
            line.split(":")[1].strip().split("@")[0]
            for line in self.box.inside("ip", "-o", "link").splitlines()
        }
        assert {link for link in links if link.startswith("fsm")} == {p["link"] for p in known}
        spaces = {line.split()[0] for line in self.box.inside("ip", "netns").splitlines()}
        assert spaces == {p["netns"].rpartition("/")[2] for p in known}
        kept = {path.name for path in (self.box.settings.state_dir / "pods").iterdir()}
        assert kept == {p["uid"] for p in known}
        shims = self.box.inside("sh", "-c", "cat /proc/[0-9]*/comm").split().count("fsm-shim")
        assert shims == sum(len(p["processes"]) for p in known)
        return True


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.timeout(400)
async def test_nothing_is_lost_and_nothing_left(box: Box, namespace: str, seed: int) -> None:
    dice = random.Random(seed)
    async with box.client() as client:
        town = Town(box, client, namespace, dice)
        template = pod("app", terminationGracePeriodSeconds=0)
        app: dict[str, Any] = {
            "metadata": {"name": "app"},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"app": "app"}},
                "template": {"metadata": {"labels": {"app": "app"}}, "spec": template["spec"]},
            },
        }
        await client.create(DEPLOYMENTS, app, namespace)
        town.replicas = 1
        steps = [town.put_note, town.put_note, town.drop_note, town.scale, town.kill, town.kill]
        try:
            for _ in range(STEPS):
                await dice.choice(steps)()
            await until(town.settled, "everything is as it was acknowledged", SETTLE_S)
            await until(town.leftovers, "nothing is left over", SETTLE_S)
        except AssertionError as error:
            raise AssertionError(f"FSM_SEED={seed}: {'; '.join(town.story)}\n{error}") from None
    assert lifecycle.status(box.settings) is not None
