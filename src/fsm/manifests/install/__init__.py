"""The objects that make up an installed control plane, rendered by one pure function.

What comes in: the settings of a mesh. What goes out: Kubernetes objects in the order in which they
are to be applied, without CustomResourceDefinitions (``fsm.manifests.crds``).

Invariants: same settings, same objects; applying them again changes nothing that the control plane
or users wrote since (``caBundle`` and MeshConfig are not in here); the controller has the least
rights with which it can work.
Not done here: applying (``fsm.cli.install``), the Helm chart.
"""

from __future__ import annotations

from typing import Any

from fsm.manifests.install.access import access_objects
from fsm.manifests.install.preset import preset_object
from fsm.manifests.install.webhooks import webhook_objects
from fsm.manifests.install.workload import APP, STANDALONE_MARK, labels, workload_objects
from fsm.settings import Settings

__all__ = ["APP", "STANDALONE_MARK", "install_manifests"]

JsonObject = dict[str, Any]


def install_manifests(settings: Settings, *, standalone: bool = False) -> list[JsonObject]:
    """Render the control plane of one mesh.

    Args:
        settings: of the mesh.
        standalone: it runs in the box of ``fsm up``, where sidecars have no user id of their own
            and are told apart by a packet mark.

    Returns:
        Objects, the ones that others need first.

    """
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": settings.fsm_namespace, "labels": labels(settings)},
    }
    return [
        namespace,
        *access_objects(settings),
        preset_object(settings),
        *workload_objects(settings, standalone=standalone),
        *webhook_objects(settings),
    ]
