"""The system calls that Python 3.11 does not have: namespaces, mounts, capabilities.

What comes in: plain values. What goes out: nothing, or an ``OSError`` that names the call and what
it was applied to, so that a message for people can be made of it.

Invariants: standard library only (the container shim imports this without site-packages); no state
except the handle of the C library. Not done here: deciding what to mount or enter.
Source: unshare(2), setns(2), mount(2), pivot_root(2), capabilities(7), prctl(2).
"""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 0x2

_PR_CAPBSET_DROP = 24
_PR_SET_NAME = 15
#: The same number everywhere, as of all calls since Linux 5.1.
_SYS_PIDFD_GETFD = 438
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "armv7l": 218}

#: Names and numbers of all capabilities, linux/capability.h.
CAPABILITIES = {
    name: number
    for number, name in enumerate(
        "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP"
        " LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER"
        " SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE"
        " SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP"
        " MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF"
        " CHECKPOINT_RESTORE".split()
    )
}

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Move this process into new namespaces (a new PID namespace takes its next child)."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare", hex(flags))


def setns(fd: int, kind: int, what: str = "") -> None:
    """Move this thread into the namespace behind ``fd``; ``kind`` is a ``CLONE_NEW…`` flag."""
    _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)), "setns", what or str(fd))


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    """Attach a file system; ``kind`` and ``options`` are those of the mount command."""
    result = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        kind.encode(),
        ctypes.c_ulong(flags),
        options.encode() or None,
    )
    _check(result, f"mount {kind or 'bind'} {source} on", target)


def bind(source: str, target: str, *, recursive: bool = False, read_only: bool = False) -> None:
    """Make ``source`` appear at ``target`` too."""
    deep = MS_REC if recursive else 0
    mount(source, target, "", MS_BIND | deep)
    if read_only:
        # A bind mount takes its flags from a second call only; those that a user namespace
        # inherited locked (nosuid, nodev, noexec) must be repeated or the kernel refuses.
        kept = os.statvfs(target).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)
        mount("none", target, "", MS_BIND | MS_REMOUNT | MS_RDONLY | kept)


def unmount(target: str, flags: int = 0) -> None:
    """Remove a mount; ``MNT_DETACH`` also when it is in use."""
    _check(_libc.umount2(os.fsencode(target), ctypes.c_int(flags)), "umount", target)


def pivot_root(new_root: str, put_old: str) -> None:
    """Make ``new_root`` the root of this mount namespace and hang the old one at ``put_old``."""
    number = _SYS_PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise OSError(f"pivot_root: unknown machine type {os.uname().machine}")
    new, old = os.fsencode(new_root), os.fsencode(put_old)
    _check(_libc.syscall(ctypes.c_long(number), new, old), "pivot_root", new_root)


def set_hostname(name: str) -> None:
    """Name this UTS namespace."""
    raw = name.encode()
    _check(_libc.sethostname(raw, ctypes.c_size_t(len(raw))), "sethostname", name)


def limit_capabilities(kept: set[str]) -> None:
    """Take every capability that is not in ``kept`` out of the bounding set, for good.

    It takes effect with the next ``execve``: root gets no more than the bounding set.
    """
    for name, number in CAPABILITIES.items():
        if name not in kept:
            failed = _libc.prctl(ctypes.c_int(_PR_CAPBSET_DROP), ctypes.c_ulong(number), 0, 0, 0)
            # A kernel older than the capability answers EINVAL: then there is nothing to drop.
            if failed and ctypes.get_errno() != 22:
                _check(failed, "drop capability", name)


def set_process_name(name: str) -> None:
    """Set what ``ps`` and ``top`` show as the command of this thread (15 bytes)."""
    _libc.prctl(ctypes.c_int(_PR_SET_NAME), name.encode()[:15], 0, 0, 0)


def fd_of(pid: int, fd: int) -> int:
    """Get a duplicate of another process's descriptor; pidfd_getfd(2), Linux 5.6.

    Raises:
        OSError: there is no such process or descriptor, or it belongs to another user.
    """
    target = os.pidfd_open(pid)
    try:
        words = (ctypes.c_long(n) for n in (_SYS_PIDFD_GETFD, target, fd, 0))
        made = int(_libc.syscall(*words))
        _check(made, "pidfd_getfd", f"{pid}/{fd}")
        return made
    finally:
        os.close(target)


def start_ticks(pid: int | str) -> int | None:
    """When a process started, in clock ticks since boot; ``None`` when there is no such process.

    Together with the process id it names one process for ever: ids are reused, pairs are not.
    Source: proc(5), field 22 of ``/proc/PID/stat``.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command, in parentheses, may itself hold blanks and parentheses.
    fields = text[text.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _check(result: int, call: str, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call} {what}: {os.strerror(number)}")
