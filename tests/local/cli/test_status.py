"""What `fsm status` makes of objects; the command itself is typed in `test_box`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from fsm.cli import kinds, status
from fsm.kube import KubeClient, NotFound


class Cluster:
    """Lists what it was given, by kind; has never heard of other kinds."""

    def __init__(self, **objects: list[dict[str, Any]]) -> None:
        self.objects = objects

    async def list(self, resource: Any) -> Any:
        if resource.kind not in self.objects:
            raise NotFound(404, "NotFound", "the server has no such kind")
        return SimpleNamespace(items=self.objects[resource.kind])


async def test_objects_of_no_namespace_are_listed_too() -> None:
    plugin = {"metadata": {"name": "mark"}, "status": {"conditions": []}}
    target = {
        "metadata": {"name": "web", "namespace": "shop"},
        "status": {"conditions": [{"type": "Accepted", "status": "True"}]},
    }
    cluster = cast(KubeClient, Cluster(Plugin=[plugin], TrafficTarget=[target]))
    shown = {row["kind"]: row for row in await status._objects(cluster)}
    assert shown["Plugin"]["namespace"] == ""
    assert shown["TrafficTarget"] == {
        "kind": "TrafficTarget", "namespace": "shop", "name": "web", "status": "accepted"
    }  # fmt: skip
    assert {"Plugin", "TrafficTarget"} <= {resource.kind for resource in kinds.resources()}
