"""The few Linux calls that Python 3.9's standard library does not offer, through the C library."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_RELATIME = 1 << 21
MNT_DETACH = 2

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """Have the kernel send this process `number` when the thread that started it ends (prctl(2))."""
    _call("prctl", _PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def adopt_orphans() -> None:
    """Make this process the parent of its descendants that lose theirs, so that none gets away."""
    _call("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def unshare(flags: int) -> None:
    """Leave the namespaces named by `flags` for new ones (unshare(2))."""
    _call("unshare", flags)


def mount(source: str, target: Path, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    _call(
        *("mount", source.encode(), os.fsencode(target), kind.encode() or None),
        *(ctypes.c_ulong(flags), data.encode() or None),
    )


def bind_read_only(source: Path, target: Path) -> None:
    """Show `source` at `target`, not to be written through."""
    mount(str(source), target, flags=MS_BIND | MS_REC)
    # Inside a user namespace a remount must repeat the flags the mount is locked to.
    now = os.statvfs(target).f_flag
    kept = 0
    for seen, flag in (
        *((os.ST_NOSUID, MS_NOSUID), (os.ST_NODEV, MS_NODEV), (os.ST_NOEXEC, MS_NOEXEC)),
        *((os.ST_NOATIME, MS_NOATIME), (os.ST_NODIRATIME, MS_NODIRATIME), (os.ST_RELATIME, MS_RELATIME)),
    ):
        kept |= flag if now & seen else 0
    mount("none", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY | kept)


def change_root(new_root: Path) -> None:
    """Make `new_root`, a mount point, the root of this mount namespace; the old root is gone afterwards."""
    os.chdir(new_root)
    # Stacks the old root on the new one at the same place, from where it is then taken off (pivot_root(2)).
    _call("pivot_root", b".", b".")
    _call("umount2", b".", MNT_DETACH)
    os.chdir("/")
