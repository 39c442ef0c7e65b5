"""MeshConfig: the stages of the chains.

In: the MeshConfig and the built-in stages. Out: the stages of each chain with their priorities.
Invariants: a chain that MeshConfig does not list has the built-in stages, the last of which has
``LAST_PRIORITY``, each before it ten more. A stage under ``modules/`` that this version of the
proxy does not have is left out, because lists that were written for other versions name more of
them, and so is what is neither that nor a plugin; ``left_out`` tells which.

Not here: plugins that PluginChains add (``fsm.policies.plugin_chain``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fsm.model.mesh_config import MeshConfig

_BUILT_IN = "modules/"
_PLUGINS = "plugins/"
LAST_PRIORITY = 100
_STEP = 10


class Stage(NamedTuple):
    """A stage and its place: higher priorities come first."""

    file: str
    priority: float


def file_name(plugin: str) -> str:
    """Return the file of a stage: its name with ``.js``."""
    return plugin if plugin.endswith(".js") else f"{plugin}.js"


def stages(mesh: MeshConfig, name: str, built_in: tuple[str, ...]) -> tuple[Stage, ...]:
    """Return the stages of a chain, as listed."""
    listed = mesh.plugin_chains.get(name)
    if listed is None:
        last = LAST_PRIORITY + _STEP * (len(built_in) - 1)
        return tuple(Stage(file, last - _STEP * place) for place, file in enumerate(built_in))
    found = (
        Stage(file_name(stage.plugin), stage.priority) for stage in listed if not stage.disable
    )
    return tuple(
        stage for stage in found if stage.file in built_in or stage.file.startswith(_PLUGINS)
    )


def left_out(
    mesh: MeshConfig, built_in: Mapping[str, tuple[str, ...]], plugins: frozenset[str] = frozenset()
) -> list[str]:
    """Return the stages that are in no chain though MeshConfig lists them, as ``chain: file``.

    Args:
        mesh: the MeshConfig.
        built_in: the stages of this version of the proxy.
        plugins: the files of the plugins that there are.

    """
    return [
        f"{name}: {file_name(stage.plugin)}"
        for name, listed in sorted(mesh.plugin_chains.items())
        for stage in listed
        if not stage.disable
        and file_name(stage.plugin) not in built_in.get(name, ())
        and file_name(stage.plugin) not in plugins
    ]
