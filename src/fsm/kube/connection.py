"""Where the Kubernetes API is and how we prove who we are.

What comes in: a kubeconfig file, or the files and environment that every Pod has. What goes out:
a ``Connection`` (address, TLS, token) that ``client`` opens a session with.

Invariants: secrets are never part of a ``repr``; a token read from a file is read again when the
file changes, because the kubelet rotates it; everything wrong is one ``ConfigError`` in words.
Not done here: ``exec`` and ``auth-provider`` plugins of kubeconfig (refused with a hint).
Source: https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/ and
https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fsm.kube.errors import ConfigError

SERVICEACCOUNT_DIR = "/var/run/secrets/kubernetes.io/serviceaccount"


class TokenFile:
    """A bearer token in a file that someone else replaces from time to time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._token = ""

    def __call__(self) -> str:
        """Return the current token.

        Raises:
            ConfigError: the file cannot be read and no token was ever read from it.
        """
        try:
            stat = self._path.stat()
            # The kubelet swaps a symlink, so the inode is what changes most surely.
            stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if stamp != self._stamp:
                self._token = self._path.read_text().strip()
                self._stamp = stamp
        except OSError as error:
            if not self._token:
                raise ConfigError(f"cannot read the token {self._path}: {error}") from error
        return self._token


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach one API server.

    Attributes:
        server: base URL, ``https://host:port``, or ``http://localhost`` beside a unix socket.
        tls: ``None`` for plain HTTP.
        token: a token, a file that holds one, or ``None``.
        namespace: the namespace that the caller means when it names none.
        unix_socket: path of a unix socket to connect to instead of the host of ``server``.
    """

    server: str
    tls: ssl.SSLContext | None = None
    token: str | TokenFile | None = field(default=None, repr=False)
    namespace: str = "default"
    unix_socket: Path | None = None

    def authorization(self) -> dict[str, str]:
        """Return the header that authenticates a request, or none."""
        token = self.token() if isinstance(self.token, TokenFile) else self.token
        return {"Authorization": f"Bearer {token}"} if token else {}


def in_cluster() -> Connection:
    """Read what a Pod knows about its API server.

    Raises:
        ConfigError: this process does not run in a Pod, or its files are missing.
    """
    host = os.environ.get("KUBERNETES_SERVICE_HOST")
    port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise ConfigError("not in a Pod: KUBERNETES_SERVICE_HOST is not set")
    directory = Path(os.environ.get("FSM_SERVICEACCOUNT_DIR") or SERVICEACCOUNT_DIR)
    token = TokenFile(directory / "token")
    token()
    try:
        tls = ssl.create_default_context(cafile=str(directory / "ca.crt"))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"cannot use {directory / 'ca.crt'}: {error}") from error
    try:
        namespace = (directory / "namespace").read_text().strip() or "default"
    except OSError:
        namespace = "default"
    address = f"[{host}]" if ":" in host else host
    return Connection(f"https://{address}:{port}", tls, token, namespace)


def kubeconfig_paths() -> list[Path]:
    """List the kubeconfig files in force: ``$KUBECONFIG`` (colon-separated) or the usual one."""
    listed = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(":") if part]
    return listed or [Path.home() / ".kube" / "config"]


def from_kubeconfig(path: Path | None = None, context: str | None = None) -> Connection:
    """Read a connection from kubeconfig files; among several, the first to define a name wins.

    Args:
        path: one file; ``None`` means ``$KUBECONFIG`` or ``~/.kube/config``.
        context: name of the context; ``None`` means the current one.

    Raises:
        ConfigError: no file, broken YAML, a name that is not defined, or an unsupported login.
    """
    merged = _merge([path] if path else kubeconfig_paths())
    name = context or merged["current-context"]
    if not name:
        raise ConfigError("the kubeconfig has no current-context\nhint: name one with --context")
    chosen = merged["contexts"].get(name)
    if chosen is None:
        known = ", ".join(sorted(merged["contexts"])) or "none"
        raise ConfigError(f"the kubeconfig has no context {name!r} (it has: {known})")
    cluster = merged["clusters"].get(chosen.get("cluster"))
    if cluster is None or not cluster.get("server"):
        raise ConfigError(f"context {name!r} names a cluster that the kubeconfig does not define")
    user = merged["users"].get(chosen.get("user")) or {}
    for plugin in ("exec", "auth-provider"):
        if plugin in user:
            raise ConfigError(
                f"user {chosen.get('user')!r} logs in by a plugin ({plugin}), which is not"
                " supported here\nhint: use a context with a token or a client certificate"
            )
    token: str | TokenFile | None = user.get("token")
    if not token and user.get("tokenFile"):
        token = TokenFile(Path(user["tokenFile"]))
    server = str(cluster["server"]).rstrip("/")
    tls = _tls(cluster, user) if server.startswith("https://") else None
    return Connection(server, tls, token, chosen.get("namespace") or "default")


def _merge(paths: list[Path]) -> dict[str, Any]:
    merged: dict[str, Any] = {"current-context": "", "contexts": {}, "clusters": {}, "users": {}}
    found = False
    for path in paths:
        try:
            document = yaml.safe_load(path.read_text())
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ConfigError(f"cannot read the kubeconfig {path}: {error.strerror}") from error
        except (UnicodeDecodeError, yaml.YAMLError) as error:
            mark = getattr(error, "problem_mark", None)
            place = f", line {mark.line + 1}" if mark else ""
            what = getattr(error, "problem", None) or error
            raise ConfigError(f"the kubeconfig {path}{place} is not YAML: {what}") from error
        found = True
        if not isinstance(document, dict):
            raise ConfigError(f"the kubeconfig {path} is not a mapping")
        merged["current-context"] = merged["current-context"] or document.get("current-context")
        for section, key in (("contexts", "context"), ("clusters", "cluster"), ("users", "user")):
            for entry in document.get(section) or []:
                if not isinstance(entry, dict) or not isinstance(entry.get(key) or {}, dict):
                    raise ConfigError(f"the kubeconfig {path} has a broken entry in {section}")
                value = _absolute(dict(entry.get(key) or {}), path.parent)
                merged[section].setdefault(entry.get("name"), value)
    if not found:
        tried = ", ".join(map(str, paths))
        raise ConfigError(
            f"no kubeconfig at {tried}\nhint: start the mesh with `fsm up`, or set KUBECONFIG"
        )
    return merged


def _absolute(entry: dict[str, Any], base: Path) -> dict[str, Any]:
    """File names inside a kubeconfig are relative to that kubeconfig."""
    for key in ("certificate-authority", "client-certificate", "client-key", "tokenFile"):
        if isinstance(entry.get(key), str):
            entry[key] = str(base / entry[key])
    return entry


def _tls(cluster: dict[str, Any], user: dict[str, Any]) -> ssl.SSLContext:
    try:
        tls = ssl.create_default_context()
        if cluster.get("insecure-skip-tls-verify"):
            tls.check_hostname = False
            tls.verify_mode = ssl.CERT_NONE
        elif authority := _pem(cluster, "certificate-authority"):
            tls = ssl.create_default_context(cadata=authority.decode())
        certificate, key = _pem(user, "client-certificate"), _pem(user, "client-key")
        if certificate and key:
            # The ssl module loads key pairs from files only; this one lives for one call.
            with tempfile.NamedTemporaryFile() as pair:
                pair.write(certificate + b"\n" + key)
                pair.flush()
                tls.load_cert_chain(pair.name)
        return tls
    except (OSError, ValueError, ssl.SSLError, binascii.Error) as error:
        raise ConfigError(f"the kubeconfig holds unusable TLS material: {error}") from error


def _pem(section: dict[str, Any], key: str) -> bytes | None:
    if data := section.get(f"{key}-data"):
        return base64.b64decode(data)
    return Path(section[key]).read_bytes() if section.get(key) else None
