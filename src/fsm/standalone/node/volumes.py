"""The volumes of a Pod: directories on this machine that its containers see at their mount paths.

What comes in: the Pod and the API (Secrets, ConfigMaps, tokens). What goes out: ``name → path`` of
each volume, kept current by ``refresh``.

    VOLUME/..2026_11_21.4711/key      the files of one version
    VOLUME/..data -> ..2026_11_21.4711   replaced at once by rename
    VOLUME/key -> ..data/key          what the container reads

Invariants: a reader sees one version of all files of a volume or the next, never a mixture;
secrets and tokens lie on the tmpfs of the box only; a token is replaced when 80 % of its life is
over; what is in a claim stays until the claim itself is deleted (``sweep_claims``).
Not done here: mounting (``shim``); sizes and access modes of claims (every claim is a directory).
Source: https://kubernetes.io/docs/concepts/storage/projected-volumes/
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fsm.kube import KubeClient, NotFound
from fsm.kube.resources import (
    CONFIGMAPS,
    PERSISTENTVOLUMECLAIMS,
    SECRETS,
    SERVICEACCOUNTS,
)
from fsm.standalone.node import environment

KubeObject = dict[str, Any]

TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
_TOKEN_VOLUME = "kube-api-access"
#: The kubelet's figure for the token that every Pod gets.
_TOKEN_LIFETIME_S = 3607
_RENEW_AT = 0.8


class VolumeProblem(Exception):
    """A volume cannot be made now; the Pod waits with this message and it is tried again."""


@dataclass(slots=True)
class _Token:
    text: str
    renew_at_s: float


@dataclass(slots=True)
class PodVolumes:
    """All volumes of one Pod.

    Attributes:
        client: session with the API.
        secret_dir: directory on a tmpfs for what must not reach a disk.
        disk_dir: directory for ``emptyDir``.
        claims_dir: directory of all persistent volume claims of the node.
        pod_ips: for the downward API.
        node_ips: for the downward API.

    """

    client: KubeClient
    secret_dir: Path
    disk_dir: Path
    claims_dir: Path
    pod_ips: Sequence[str]
    node_ips: Sequence[str]
    _tokens: dict[tuple[str, str], _Token] = field(default_factory=dict)
    _written: dict[str, dict[str, tuple[bytes, int]]] = field(default_factory=dict)

    async def prepare(self, pod: KubeObject) -> dict[str, Path]:
        """Make every volume, or bring it up to date; returns where each is.

        Raises:
            VolumeProblem: one cannot be made.
            ApiError: the API could not be asked.

        """
        return {v["name"]: await self._volume(pod, v) for v in volumes_of(pod)}

    async def refresh(self, pod: KubeObject) -> None:
        """Bring those volumes up to date whose content comes from the API."""
        for volume in volumes_of(pod):
            if not {"emptyDir", "hostPath", "persistentVolumeClaim"} & set(volume):
                await self._volume(pod, volume)

    def remove(self) -> None:
        """Remove everything; errors are ignored, as leftovers are swept later."""
        for path in (self.secret_dir, self.disk_dir):
            shutil.rmtree(path, ignore_errors=True)

    async def objects(
        self, namespace: str, wanted: Iterable[tuple[str, str]]
    ) -> dict[tuple[str, str], KubeObject | None]:
        """Fetch Secrets and ConfigMaps by kind and name; ``None`` for those that do not exist."""
        found: dict[tuple[str, str], KubeObject | None] = {}
        for kind, name in wanted:
            resource = SECRETS if kind == "Secret" else CONFIGMAPS
            try:
                found[kind, name] = await self.client.get(resource, name, namespace)
            except (NotFound, ValueError):
                found[kind, name] = None
        return found

    async def _volume(self, pod: KubeObject, volume: KubeObject) -> Path:
        name = str(volume["name"])
        if (empty := volume.get("emptyDir")) is not None:
            memory = empty.get("medium") == "Memory"
            path = (self.secret_dir if memory else self.disk_dir) / name
            _shared_directory(path)
            return path
        if (host := volume.get("hostPath")) is not None:
            return _host_path(name, host)
        if (claim := volume.get("persistentVolumeClaim")) is not None:
            return await self._claim(pod, name, str(claim.get("claimName") or ""))
        if (projected := volume.get("projected")) is not None:
            mode, sources = projected.get("defaultMode", 0o644), projected.get("sources") or []
        elif (secret := volume.get("secret")) is not None:
            mode = secret.get("defaultMode", 0o644)
            sources = [{"secret": secret | {"name": secret.get("secretName")}}]
        elif (config := volume.get("configMap")) is not None:
            mode, sources = config.get("defaultMode", 0o644), [{"configMap": config}]
        elif (downward := volume.get("downwardAPI")) is not None:
            mode, sources = downward.get("defaultMode", 0o644), [{"downwardAPI": downward}]
        else:
            kinds = ", ".join(sorted(set(volume) - {"name"})) or "none"
            raise VolumeProblem(f'volume "{name}": kind {kinds} is not supported here')
        files: dict[str, tuple[bytes, int]] = {}
        for source in sources:
            files |= await self._source(pod, name, source, mode)
        path = self.secret_dir / name
        if self._written.get(name) != files or not path.is_dir():
            _write_version(path, files)
            self._written[name] = files
        return path

    async def _claim(self, pod: KubeObject, volume: str, name: str) -> Path:
        """Find the directory of a claim, made at its first use, and say that it is bound."""
        namespace = pod["metadata"]["namespace"]
        try:
            claim = await self.client.get(PERSISTENTVOLUMECLAIMS, name, namespace)
        except (NotFound, ValueError):
            raise VolumeProblem(
                f'volume "{volume}": persistentvolumeclaim "{name}" not found'
            ) from None
        path = self.claims_dir / str(claim["metadata"]["uid"])
        _shared_directory(path)
        if (claim.get("status") or {}).get("phase") != "Bound":
            spec = claim.get("spec") or {}
            status = {
                "phase": "Bound",
                "accessModes": spec.get("accessModes") or ["ReadWriteOnce"],
                "capacity": (spec.get("resources") or {}).get("requests") or {},
            }
            await self.client.patch_status(PERSISTENTVOLUMECLAIMS, name, status, namespace)
        return path

    async def _source(
        self, pod: KubeObject, volume: str, source: KubeObject, mode: int
    ) -> dict[str, tuple[bytes, int]]:
        if (token := source.get("serviceAccountToken")) is not None:
            text = await self._token(pod, volume, token)
            return {_safe(token.get("path", "token")): (text.encode(), mode)}
        if (downward := source.get("downwardAPI")) is not None:
            files = {}
            for item in downward.get("items") or []:
                path = (item.get("fieldRef") or {}).get("fieldPath", "")
                try:
                    text = environment.field(pod, path, self.pod_ips, self.node_ips)
                except environment.EnvironmentProblem as error:
                    raise VolumeProblem(f'volume "{volume}": {error}') from error
                files[_safe(item["path"])] = (text.encode(), int(item.get("mode") or mode))
            return files
        for kind, key in (("Secret", "secret"), ("ConfigMap", "configMap")):
            if (ref := source.get(key)) is not None:
                return await self._entries(pod, volume, kind, ref, mode)
        raise VolumeProblem(f'volume "{volume}": source {", ".join(source)} is not supported here')

    async def _entries(
        self, pod: KubeObject, volume: str, kind: str, ref: KubeObject, mode: int
    ) -> dict[str, tuple[bytes, int]]:
        name, optional = str(ref.get("name") or ""), bool(ref.get("optional"))
        namespace = pod["metadata"]["namespace"]
        obj = (await self.objects(namespace, [(kind, name)]))[kind, name]
        if obj is None:
            if optional:
                return {}
            raise VolumeProblem(f'volume "{volume}": {kind.lower()} "{name}" not found')
        try:
            data = environment.decoded(kind, obj)
        except environment.EnvironmentProblem as error:
            raise VolumeProblem(f'volume "{volume}": {error}') from error
        if (items := ref.get("items")) is None:
            return {_safe(key): (raw, mode) for key, raw in data.items()}
        files = {}
        for item in items:
            if item["key"] in data:
                files[_safe(item["path"])] = (data[item["key"]], int(item.get("mode") or mode))
            elif not optional:
                missing = f'{kind.lower()} "{name}" has no key "{item["key"]}"'
                raise VolumeProblem(f'volume "{volume}": {missing}')
        return files

    async def _token(self, pod: KubeObject, volume: str, wanted: KubeObject) -> str:
        key = (volume, str(wanted.get("path", "token")))
        known = self._tokens.get(key)
        if known is not None and time.time() < known.renew_at_s:
            return known.text
        meta, spec = pod["metadata"], pod["spec"]
        account = str(spec.get("serviceAccountName") or "default")
        seconds = int(wanted.get("expirationSeconds") or 3600)
        audiences = [wanted["audience"]] if wanted.get("audience") else []
        bound = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {},
            "spec": {
                "audiences": audiences,
                "expirationSeconds": seconds,
                "boundObjectRef": bound,
            },
        }
        where = f"{meta['namespace']}/{account}"
        try:
            answer = await self.client.request(
                "POST",
                SERVICEACCOUNTS.path(meta["namespace"], account, "token"),
                f"issue a token for ServiceAccount {where}",
                body=request,
            )
        except NotFound as error:
            raise VolumeProblem(f'volume "{volume}": serviceaccount "{where}" not found') from error
        text = str(answer["status"]["token"])
        self._tokens[key] = _Token(text, time.time() + seconds * _RENEW_AT)
        return text


def volumes_of(pod: KubeObject) -> list[KubeObject]:
    """List the volumes of a Pod, with the one of its ServiceAccount if nobody added it before."""
    spec = pod["spec"]
    volumes = list(spec.get("volumes") or [])
    if not wants_api_access(pod):
        return volumes
    token = {"path": "token", "expirationSeconds": _TOKEN_LIFETIME_S}
    roots = {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    namespace = {"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}
    sources = [
        {"serviceAccountToken": token},
        {"configMap": roots},
        {"downwardAPI": {"items": [namespace]}},
    ]
    return [*volumes, {"name": _TOKEN_VOLUME, "projected": {"sources": sources}}]


def mounts_of(pod: KubeObject, container: KubeObject) -> list[KubeObject]:
    """List the mounts of a container, outermost first, with that of its ServiceAccount."""
    mounts = list(container.get("volumeMounts") or [])
    if wants_api_access(pod):
        mounts.append({"name": _TOKEN_VOLUME, "mountPath": TOKEN_PATH, "readOnly": True})
    return sorted(mounts, key=lambda mount: mount["mountPath"].rstrip("/").count("/"))


def wants_api_access(pod: KubeObject) -> bool:
    """Tell whether the node must add the ServiceAccount volume.

    On a cluster the API server's admission adds it to the Pod; where that was done, it is left.
    """
    spec = pod["spec"]
    if spec.get("automountServiceAccountToken") is False:
        return False
    containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    paths = {m.get("mountPath") for c in containers for m in c.get("volumeMounts") or []}
    return TOKEN_PATH not in paths


async def sweep_claims(client: KubeClient, claims_dir: Path) -> None:
    """Remove the directories of claims that the API has no more."""
    # The directories first: a claim that comes meanwhile is not among them.
    if not (found := _entries(claims_dir)):
        return
    listed = await client.list(PERSISTENTVOLUMECLAIMS)
    known = {claim["metadata"]["uid"] for claim in listed.items}
    for path in found:
        if path.name not in known:
            shutil.rmtree(path, ignore_errors=True)


def _entries(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.is_dir() else []


def _shared_directory(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    # Whoever the containers run as, they share it.
    path.chmod(0o777)


def _host_path(name: str, host: KubeObject) -> Path:
    path, kind = Path(str(host.get("path", ""))), host.get("type") or ""
    if not path.is_absolute():
        raise VolumeProblem(f'volume "{name}": hostPath {str(path)!r} is not absolute')
    if kind == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True)
    elif kind == "FileOrCreate" and not path.exists():
        path.touch()
    if not path.exists():
        raise VolumeProblem(f'volume "{name}": hostPath {path} does not exist')
    return path.resolve()


def _safe(path: str) -> str:
    parts = Path(path).parts
    if not path or path.startswith("/") or ".." in parts or parts[0].startswith(".."):
        raise VolumeProblem(f"{path!r} is not a valid path inside a volume")
    return path


def _write_version(volume: Path, files: dict[str, tuple[bytes, int]]) -> None:
    """Write a new version of all files and switch to it by one rename."""
    volume.mkdir(parents=True, exist_ok=True)
    version = volume / f"..{time.strftime('%Y_%m_%d_%H_%M_%S')}.{time.monotonic_ns()}"
    version.mkdir()
    for name, (content, mode) in files.items():
        path = version / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
    link, fresh = volume / "..data", volume / "..data_tmp"
    before = os.readlink(link) if link.is_symlink() else None
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(version.name)
    fresh.rename(link)
    tops = {Path(name).parts[0] for name in files}
    for top in tops:
        if not (volume / top).is_symlink():
            (volume / top).symlink_to(f"..data/{top}")
    for path in volume.iterdir():
        if not path.name.startswith("..") and path.name not in tops:
            path.unlink()
    if before and before != version.name:
        shutil.rmtree(volume / before, ignore_errors=True)
