"""What must be there before a controller can work: the root certificate and MeshConfig.

What comes in: a client, at a moment when the API may not be up yet. What goes out: an authority; a
MeshConfig object, made from one of the older generation or from the preset if there was none.

Invariants: an existing MeshConfig is never changed, nor a root that can still sign; waiting for the
API never ends in a crash, but an unusable root does, with the reason in words.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from fsm.ca import (
    LiveAuthority,
    load_or_create_root,
    new_root,
    read_root,
    read_state,
    rotation,
)
from fsm.ca.rotation import State
from fsm.ca.store import patch_of
from fsm.controllers.settings import ControllerSettings
from fsm.kube import AlreadyExists, ApiError, Backoff, KubeClient, NotFound
from fsm.kube.resources import CONFIGMAPS, MESHCONFIGS, SECRETS
from fsm.policies.base import OLDER_GROUPS

log = logging.getLogger("fsm.bootstrap")

T = TypeVar("T")

PRESET_KEY = "preset-mesh-config.json"
_BACKOFF = Backoff(first_s=0.2, last_s=5.0)


async def authority(
    client: KubeClient, settings: ControllerSettings, now: Callable[[], datetime]
) -> LiveAuthority:
    """Open the built-in authority, making its root if there is none, or if it has expired.

    Raises:
        CaError: there is a root, and it is unusable.
    """
    mesh = settings.mesh

    async def load() -> State:
        moment = now()
        secret = await load_or_create_root(client, mesh.fsm_namespace, settings.ca_secret, moment)
        state = read_state(secret)
        if moment < state.current.not_after:
            return state
        return await _replace_expired(client, settings, secret, state, moment)

    state = await until_answered("read the root certificate", load)
    return LiveAuthority(state, mesh.trust_domain)


async def _replace_expired(
    client: KubeClient,
    settings: ControllerSettings,
    secret: dict[str, Any],
    state: State,
    now: datetime,
) -> State:
    """Go over to a root that can sign; nothing can start before there is one.

    Raises:
        ApiError: it cannot be written, or another controller was faster.
    """
    other = state.other
    new = other if other and other.valid(now) else read_root(*new_root(now))
    after = rotation.begin(state, new, now)
    await client.patch(
        SECRETS, settings.ca_secret, patch_of(after, secret), settings.mesh.fsm_namespace
    )
    log.error(
        "the root certificate had expired at %s and was replaced; proxies come back with their"
        " tokens as soon as they read the new root from their ConfigMap",
        state.current.not_after.isoformat(timespec="seconds"),
    )
    return after


async def ensure_mesh_config(client: KubeClient, settings: ControllerSettings) -> None:
    """Create MeshConfig from the preset unless there is one.

    Raises:
        ApiError: the API refuses, or does not know the kind (yet).
    """
    namespace, name = settings.mesh.fsm_namespace, settings.mesh.mesh_config_name
    try:
        await client.get(MESHCONFIGS, name, namespace)
        return
    except NotFound:
        spec = await _of_older(client, settings) or await _preset(client, settings)
    if spec is None:
        return
    body = {"metadata": {"name": name, "namespace": namespace}, "spec": spec}
    try:
        await client.create(MESHCONFIGS, body, namespace)
        log.info("made MeshConfig %s/%s", namespace, name)
    except AlreadyExists:
        log.debug("another controller made MeshConfig first")


async def until_answered(what: str, call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call until the API answers it; says once in a while that it still waits."""
    failures = 0
    while True:
        try:
            return await call()
        except ApiError as error:
            failures += 1
            if failures in (1, 5) or failures % 20 == 0:
                log.warning("waiting for the API to %s: %s", what, error)
            await asyncio.sleep(_BACKOFF.wait_s(failures, random.random()))


async def _of_older(client: KubeClient, settings: ControllerSettings) -> dict[str, Any] | None:
    """Return what a MeshConfig of the older generation says that the mesh had before."""
    namespace, name = settings.mesh.fsm_namespace, settings.mesh.mesh_config_name
    older = replace(MESHCONFIGS, group=OLDER_GROUPS[MESHCONFIGS.group])
    try:
        found = await client.get(older, name, namespace)
    except NotFound:
        return None
    spec = found.get("spec")
    if not isinstance(spec, dict) or not spec:
        return None
    log.info("taking over what MeshConfig %s of %s says", name, older.group)
    return spec


async def _preset(client: KubeClient, settings: ControllerSettings) -> dict[str, Any] | None:
    namespace, name = settings.mesh.fsm_namespace, settings.preset_config_map
    hint = f"apply the manifests again, or create MeshConfig {settings.mesh.mesh_config_name}"
    try:
        preset = await client.get(CONFIGMAPS, name, namespace)
    except NotFound:
        log.warning(
            "there is neither MeshConfig nor ConfigMap %s/%s; the mesh runs with the strictest"
            " settings (hint: %s)",
            namespace,
            name,
            hint,
        )
        return None
    try:
        spec = json.loads((preset.get("data") or {})[PRESET_KEY])
        if not isinstance(spec, dict):
            raise TypeError("it is no JSON object")
        return spec
    except (KeyError, ValueError, TypeError) as error:
        log.error(
            "ConfigMap %s/%s is unusable, no MeshConfig was made: key %s: %s (hint: %s)",
            namespace,
            name,
            PRESET_KEY,
            error,
            hint,
        )
        return None
