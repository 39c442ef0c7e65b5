"""MeshConfig: the stages of the chains.

In: the MeshConfig and the built-in stages. Out: the stages of each chain, in the order in which
they run. Invariants: higher priority first, equal ones as listed; a chain that MeshConfig does not
list has the built-in stages. A stage under ``modules/`` that this version of the proxy does not
have is left out, because lists that were written for other versions name more of them;
``left_out`` tells which.
"""

from __future__ import annotations

from collections.abc import Mapping

from fsm.model.mesh_config import MeshConfig

_BUILT_IN = "modules/"


def file_name(plugin: str) -> str:
    """Return the file of a stage: its name with ``.js``."""
    return plugin if plugin.endswith(".js") else f"{plugin}.js"


def chain(mesh: MeshConfig, name: str, built_in: tuple[str, ...]) -> tuple[str, ...]:
    """Return the stages of a chain."""
    stages = mesh.plugin_chains.get(name)
    if stages is None:
        return built_in
    in_order = sorted(stages, key=lambda stage: -stage.priority)
    files = [file_name(stage.plugin) for stage in in_order if not stage.disable]
    return tuple(
        file for file in dict.fromkeys(files) if file in built_in or not file.startswith(_BUILT_IN)
    )


def left_out(mesh: MeshConfig, built_in: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return the stages that this version of the proxy does not have, as ``chain: file``."""
    return [
        f"{name}: {file_name(stage.plugin)}"
        for name, stages in sorted(mesh.plugin_chains.items())
        for stage in stages
        if not stage.disable
        and file_name(stage.plugin).startswith(_BUILT_IN)
        and file_name(stage.plugin) not in built_in.get(name, ())
    ]
