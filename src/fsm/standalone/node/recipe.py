"""From a Pod and one of its containers to the ``ContainerSpec`` that the shim runs.

What comes in: the Pod, the image table, the volumes, the network. What goes out: a fresh spec for
each start, because ConfigMaps, Secrets and the image map may have changed since the last one.

Invariants: in ``PATH`` the directory of fsm's own interpreter is before those of the host, so that
its ``pipy`` and ``fsm`` are found, and what the image has of its own is first; a container gets the
capabilities that container runtimes give by default, plus and minus what its securityContext says.
The state directory, with the admin's kubeconfig and the keys of the API, is hidden from every
container; what a Pod may do with the API is what its own token allows.
Not done here: ``readOnlyRootFilesystem`` (the root is private and thrown away anyway), resource
limits, seccomp. In a user namespace with one uid, ``runAsUser`` cannot be followed and is ignored:
there every process has the rights of the user who opened the box, whatever number it shows.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from fsm.standalone.box.settings import StandaloneSettings
from fsm.standalone.box.syscalls import CAPABILITIES
from fsm.standalone.node import environment
from fsm.standalone.node.images import SYSTEM_PATH, Image, Images, command_of
from fsm.standalone.node.log_times import notes_of
from fsm.standalone.node.network import PodNetwork
from fsm.standalone.node.runtime import StartError
from fsm.standalone.node.shim import DEFAULT_CAPABILITIES, ContainerSpec
from fsm.standalone.node.volumes import PodVolumes, VolumeProblem, mounts_of

KubeObject = dict[str, Any]
#: Where commands stand that an image has of its own. The root itself is the container's, while
#: directories of the host may belong to users whom a box of an ordinary user does not know.
_TOOLS = "/.tools"


class Recipes:
    """Builds specs for the containers of one Pod."""

    def __init__(
        self, settings: StandaloneSettings, images: Images, volumes: PodVolumes, net: PodNetwork
    ) -> None:
        self._settings = settings
        self._images = images
        self._volumes = volumes
        self._net = net

    async def build(self, pod: KubeObject, container: KubeObject, log: Path) -> ContainerSpec:
        """Build the spec of one start.

        Raises:
            UnknownImage, EnvironmentProblem, VolumeProblem, StartError, ApiError: it cannot start
                now; the type says which status to show.

        """
        settings = self._settings
        image = self._images.find(str(container.get("image", "")))
        sources = await self._volumes.objects(
            pod["metadata"]["namespace"], environment.sources_of(pod, container)
        )
        scripts = _scripts(image)
        first = f"{_TOOLS}:" if scripts else ""
        base = {
            "PATH": f"{first}{Path(sys.executable).parent}:{SYSTEM_PATH}",
            "HOME": "/root",
            "HOSTNAME": environment.hostname(pod),
            "LANG": "C.UTF-8",
            "KUBERNETES_SERVICE_HOST": settings.api_ip,
            "KUBERNETES_SERVICE_PORT": "443",
            "KUBERNETES_SERVICE_PORT_HTTPS": "443",
            "KUBERNETES_PORT": f"tcp://{settings.api_ip}:443",
        } | image.env
        if container.get("tty"):
            base.setdefault("TERM", "xterm")
        env = environment.environment(
            pod, container, base, sources, self._net.ips, settings.node_ips
        )
        argv = tuple(environment.expand(word, env) for word in command_of(image, container))
        if not argv:
            raise StartError("no command is given, and the image map has none for this image")
        paths = await self._volumes.prepare(pod)
        uid, gid = _user(pod, container)
        # Pods have no way to the host's resolvers themselves; the cluster's DNS has.
        outer = settings.dns_ips if settings.outside else settings.upstream_dns
        _keep_previous(log)
        return ContainerSpec(
            argv=argv,
            env=env,
            log=str(log),
            cwd=str(container.get("workingDir") or "/"),
            hostname=environment.hostname(pod),
            netns=self._net.netns,
            mounts=tuple(_mounts(pod, container, paths, env)),
            files={
                "/etc/resolv.conf": environment.resolv_conf(
                    pod, settings.dns_ips, settings.cluster_domain, outer
                ),
                "/etc/hosts": environment.etc_hosts(pod, self._net.ips),
                "/etc/hostname": environment.hostname(pod) + "\n",
            },
            scripts=scripts,
            uid=uid,
            gid=gid,
            capabilities=tuple(sorted(_capabilities(container))),
            hidden=(str(settings.state_dir),),
            stdin=bool(container.get("stdin")),
            stdin_once=bool(container.get("stdinOnce")),
            tty=bool(container.get("tty")),
        )


def _scripts(image: Image) -> dict[str, str]:
    made = {}
    for name, (program, *words) in image.tools.items():
        if found := shutil.which(program, path=SYSTEM_PATH):
            made[f"{_TOOLS}/{name}"] = f'#!/bin/sh\nexec {shlex.join([found, *words])} "$@"\n'
    return made


def _mounts(
    pod: KubeObject, container: KubeObject, paths: dict[str, Path], env: dict[str, str]
) -> list[tuple[str, str, bool]]:
    kinds = {v["name"]: v for v in pod["spec"].get("volumes") or []}
    made = []
    for mount in mounts_of(pod, container):
        name, target = mount["name"], str(mount["mountPath"])
        if name not in paths:
            raise VolumeProblem(f'mount {target}: the Pod has no volume "{name}"')
        sub = str(mount.get("subPath") or environment.expand(mount.get("subPathExpr") or "", env))
        if Path(sub).is_absolute() or ".." in Path(sub).parts:
            raise VolumeProblem(f"mount {target}: subPath {sub!r} leaves the volume")
        source = paths[name] / sub
        writable = bool(
            {"emptyDir", "hostPath", "persistentVolumeClaim"} & set(kinds.get(name) or {})
        )
        if sub and writable and not source.exists():
            source.mkdir(parents=True)
        made.append((str(source), target, bool(mount.get("readOnly")) or not writable))
    return made


def _user(pod: KubeObject, container: KubeObject) -> tuple[int | None, int | None]:
    security = {
        **(pod["spec"].get("securityContext") or {}),
        **(container.get("securityContext") or {}),
    }
    uid, gid = security.get("runAsUser"), security.get("runAsGroup")
    if not _all_users_mapped():
        return None, None
    if uid is not None and gid is None:
        # As runtimes do for a uid that the image does not know.
        gid = 0
    return uid, gid


def _all_users_mapped() -> bool:
    with open("/proc/self/uid_map") as file:
        return sum(int(line.split()[2]) for line in file) > 1 and os.geteuid() == 0


def _capabilities(container: KubeObject) -> set[str]:
    security = container.get("securityContext") or {}
    if security.get("privileged"):
        return set(CAPABILITIES)
    wanted = security.get("capabilities") or {}
    add = {_capability(name) for name in wanted.get("add") or []}
    drop = {_capability(name) for name in wanted.get("drop") or []}
    kept = set(CAPABILITIES) if "ALL" in add else set(DEFAULT_CAPABILITIES)
    kept = set() if "ALL" in drop else kept - drop
    return (kept | add) & set(CAPABILITIES)


def _capability(name: str) -> str:
    return str(name).upper().removeprefix("CAP_")


def _keep_previous(log: Path) -> None:
    """Keep the log of the run before, for `kubectl logs --previous`."""
    if log.exists() and log.stat().st_size:
        kept = log.with_suffix(".previous.log")
        shutil.move(log, kept)
        with contextlib.suppress(FileNotFoundError):
            notes_of(log).replace(notes_of(kept))
