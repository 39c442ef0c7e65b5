"""A private, writable root directory for one container, made from the host's own.

There are no image layers here: a container sees the host's files, read through overlays whose
upper layer is a tmpfs of its own. So it can write anywhere it has the right to, mount points that
the host does not have can be made, and nothing of it ever reaches the host's disk.

    /            tmpfs
    /etc /usr …  one overlay each: below the host's directory, above the container's tmpfs
    /proc        of the container's PID namespace      /dev  null, zero, random, pts, shm
    /run         empty tmpfs                           /sys  the host's, read-only

Why one overlay per top-level directory and not one for all: in a user namespace the kernel refuses
an overlay over a directory that has locked mounts (``/proc``, ``/dev`` …) below it.
What comes in: paths. What goes out: the calling process's mount namespace, changed.
Invariants: standard library only; runs in the container's first process, before it pivots.
Not done here: volumes (``mount_volume`` is called by ``shim`` for each, after the pivot).
Source: https://docs.kernel.org/filesystems/overlayfs.html
"""

from __future__ import annotations

import contextlib
import os
import stat

from fsm.standalone.box import syscalls

#: Where the box keeps an empty directory for us to build on; private to this mount namespace.
_WORKSHOP = "/run/fsm/root"
#: Where the old root hangs while volumes are mounted.
OLD_ROOT = "/.old-root"
_SPECIAL = {"proc", "sys", "dev", "run", "lost+found"}
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
#: LIMIT: a directory with mounts below it is rebuilt entry by entry, but not a huge one.
_ENTRIES_MAX = 2000

_QUIET = syscalls.MS_NOSUID | syscalls.MS_NODEV


class RootError(Exception):
    """The root cannot be built or a volume cannot be mounted; the text says where and why."""


def build_and_enter() -> None:
    """Build the root and make it this process's; the old one stays reachable at ``OLD_ROOT``.

    Raises:
        RootError: a step failed.

    """
    try:
        syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
        syscalls.mount("tmpfs", _WORKSHOP, "tmpfs", _QUIET, "mode=755")
        layers, root = f"{_WORKSHOP}/layers", f"{_WORKSHOP}/root"
        os.mkdir(layers)
        os.mkdir(root)
        syscalls.mount("tmpfs", root, "tmpfs", _QUIET, "mode=755")
        _Composer(layers, _mount_points()).compose("/", root)
        _special(root)
        os.mkdir(root + OLD_ROOT)
        syscalls.pivot_root(root, root + OLD_ROOT)
        os.chdir("/")
    except OSError as error:
        raise RootError(f"cannot build the container's root directory: {error}") from error


def leave_old_root() -> None:
    """Let go of the host's root; from here on only the container's is visible."""
    syscalls.unmount(OLD_ROOT, syscalls.MNT_DETACH)
    os.rmdir(OLD_ROOT)


def mount_volume(source: str, target: str, *, read_only: bool) -> None:
    """Bind a file or directory of the old root at ``target`` in the new one.

    Raises:
        RootError: the source is missing or the mount point cannot be made.

    """
    origin = OLD_ROOT + source
    if not os.path.exists(origin):
        raise RootError(f"cannot mount on {target}: the source {source} does not exist")
    if os.path.realpath(target).startswith(("/proc", "/sys")):
        raise RootError(f"cannot mount on {target}: /proc and /sys cannot hold volumes")
    try:
        _mount_point(target, directory=os.path.isdir(origin))
        syscalls.bind(origin, target, recursive=True, read_only=read_only)
    except OSError as error:
        raise RootError(f"cannot mount on {target}: {error}") from error


def hide(directory: str) -> None:
    """Make a directory of the host appear empty and read-only."""
    if os.path.isdir(directory):
        flags = _QUIET | syscalls.MS_NOEXEC | syscalls.MS_RDONLY
        syscalls.mount("tmpfs", directory, "tmpfs", flags, "mode=555,size=4k")


def write_file(path: str, content: str, mode: int = 0o644) -> None:
    """Write a file of the container's own, such as ``/etc/hosts``, whatever was there before."""
    with contextlib.suppress(FileNotFoundError):
        # It may be a link to a file that does not exist in here (systemd's resolv.conf).
        os.unlink(path)
    with open(path, "w") as file:
        file.write(content)
    os.chmod(path, mode)


class _Composer:
    """Fills a directory with overlays, links and binds of the host's."""

    def __init__(self, layers: str, mount_points: set[str]) -> None:
        self._layers = layers
        self._mount_points = mount_points
        self._count = 0

    def compose(self, lower: str, into: str) -> None:
        with os.scandir(lower) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found[:_ENTRIES_MAX]:
            if lower == "/" and entry.name in _SPECIAL:
                continue
            source, target = os.path.join(lower, entry.name), os.path.join(into, entry.name)
            # One unreadable or vanished entry is no reason to have no container.
            with contextlib.suppress(PermissionError, FileNotFoundError):
                self._entry(entry, source, target)

    def _entry(self, entry: os.DirEntry[str], source: str, target: str) -> None:
        if entry.is_symlink():
            os.symlink(os.readlink(source), target)
        elif entry.is_dir(follow_symlinks=False):
            os.mkdir(target)
            below = source.rstrip("/") + "/"
            if any(point.startswith(below) for point in self._mount_points):
                self.compose(source, target)
                _copy_mode(source, target)
            else:
                self._overlay(source, target)
        elif entry.is_file(follow_symlinks=False):
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
            syscalls.bind(source, target, read_only=True)

    def _overlay(self, lower: str, target: str) -> None:
        self._count += 1
        overlay(lower, target, f"{self._layers}/{self._count}")


def overlay(lower: str, target: str, layer: str) -> None:
    """Mount ``lower`` at ``target`` with a fresh upper layer; where that cannot be, read-only."""
    upper, work = f"{layer}/upper", f"{layer}/work"
    os.makedirs(upper)
    os.makedirs(work)
    # The merged directory takes its own mode from the upper one.
    _copy_mode(lower, upper)
    if any(mark in lower for mark in ",:\\"):
        syscalls.bind(lower, target, read_only=True)
        return
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    # `userxattr` is how an overlay in a user namespace keeps its notes; old kernels refuse it.
    for tried in (f"{options},userxattr", options):
        try:
            syscalls.mount("overlay", target, "overlay", 0, tried)
            return
        except OSError:
            continue
    syscalls.bind(lower, target, read_only=True)


def _mount_point(target: str, *, directory: bool) -> None:
    if os.path.isdir(target) if directory else os.path.isfile(target):
        return
    parent = target if directory else os.path.dirname(target)
    try:
        os.makedirs(parent, exist_ok=True)
        if not directory:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    except PermissionError:
        # The directory belongs to a user that this user namespace does not map. An overlay of our
        # own on it has an upper directory that is ours, so there the entry can be made.
        _own(_deepest_directory(parent))
        os.makedirs(parent, exist_ok=True)
        if not directory:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))


def _own(directory: str) -> None:
    real = os.path.realpath(directory)
    workshop = OLD_ROOT + _WORKSHOP
    taken = len(os.listdir(f"{workshop}/layers"))
    # From the host's directory, not from the overlay on it: the kernel stacks only two deep.
    overlay(OLD_ROOT + real, real, f"{workshop}/layers/own-{taken}")


def _deepest_directory(path: str) -> str:
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _special(root: str) -> None:
    for name in ("proc", "sys", "dev", "run"):
        os.mkdir(f"{root}/{name}")
    syscalls.mount("proc", f"{root}/proc", "proc", _QUIET | syscalls.MS_NOEXEC)
    syscalls.bind("/sys", f"{root}/sys", recursive=True, read_only=True)
    syscalls.mount("tmpfs", f"{root}/run", "tmpfs", _QUIET, "mode=755")
    os.mkdir(f"{root}/run/lock", 0o777)
    syscalls.mount("tmpfs", f"{root}/dev", "tmpfs", syscalls.MS_NOSUID, "mode=755")
    for name in _DEVICES:
        if os.path.exists(f"/dev/{name}"):
            os.close(os.open(f"{root}/dev/{name}", os.O_CREAT | os.O_WRONLY, 0o666))
            syscalls.bind(f"/dev/{name}", f"{root}/dev/{name}")
    links = {"fd": "fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
    for name, to in links.items():
        os.symlink(f"/proc/self/{to}", f"{root}/dev/{name}")
    os.mkdir(f"{root}/dev/shm")
    syscalls.mount("tmpfs", f"{root}/dev/shm", "tmpfs", _QUIET, "mode=1777,size=64m")
    os.mkdir(f"{root}/dev/pts")
    # Terminals are a convenience: some sandboxes allow no devpts, and services need none.
    with contextlib.suppress(OSError):
        options = "newinstance,ptmxmode=0666,mode=620"
        # Not MS_NODEV: terminals are devices.
        flags = syscalls.MS_NOSUID | syscalls.MS_NOEXEC
        syscalls.mount("devpts", f"{root}/dev/pts", "devpts", flags, options)
        os.symlink("pts/ptmx", f"{root}/dev/ptmx")


def _mount_points() -> set[str]:
    """List what is mounted, except below the directories that every container gets anew."""
    points = set()
    with open("/proc/self/mountinfo") as file:
        for line in file:
            point = line.split(" ")[4].encode().decode("unicode_escape")
            if point != "/" and point.split("/")[1] not in _SPECIAL:
                points.add(point)
    return points


def _copy_mode(source: str, target: str) -> None:
    found = os.stat(source)
    os.chmod(target, stat.S_IMODE(found.st_mode))
    # A user namespace maps one id only; there the owner stays the container's user.
    with contextlib.suppress(OSError):
        os.chown(target, found.st_uid, found.st_gid)
