"""UpstreamTrafficSetting: how a Service may be called.

In: the snapshot and a Service. Out: the setting that counts. Invariant: of several settings of one
Service the newest is followed (people apply a second one to replace the first), which is the one
created last; at the same time, the last by name.
"""

from __future__ import annotations

from fsm.model.names import Key
from fsm.model.snapshot import Snapshot
from fsm.model.upstream import UpstreamTrafficSetting
from fsm.policies.base import Judgement
from fsm.settings import Settings

KIND = "UpstreamTrafficSetting"


def setting_of(snapshot: Snapshot, service: Key) -> UpstreamTrafficSetting | None:
    """Return the setting that counts for a Service, if there is one."""

    def find(snapshot: Snapshot) -> UpstreamTrafficSetting | None:
        found = [
            setting
            for (kind, _), setting in snapshot.policies.items()
            if kind == KIND and setting.service == service
        ]
        return max(found, key=lambda s: (s.created, s.key), default=None)

    return snapshot.once(("upstream-setting", service), find)


def judge(snapshot: Snapshot, setting: UpstreamTrafficSetting, settings: Settings) -> Judgement:
    """Say whether the setting has an effect."""
    if snapshot.service_in_mesh(setting.service) is None:
        return Judgement("NotFound", (f"Service {setting.service} is not in the mesh",))
    followed = setting_of(snapshot, setting.service)
    conflict = ""
    if followed is not None and followed.key != setting.key:
        conflict = (
            f"UpstreamTrafficSetting {followed.name} is about Service {setting.service} too, is"
            " newer and is followed"
        )
    return Judgement(conflict=conflict)
