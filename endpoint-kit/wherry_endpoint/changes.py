"""Brings files and folders to a wanted state, and remembers what had to change."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Optional

from wherry_endpoint.errors import EndpointError


class Changes:
    """One run over a site's folder. With `dry_run` nothing is written, only told."""

    def __init__(self, dry_run: bool = False) -> None:
        self.dry_run = dry_run
        self.made: list[str] = []

    def note(self, what: str) -> None:
        """Record a change made (or, in a dry run, one that would be made)."""
        self.made.append(what)

    def directory(self, path: Path, mode: int, uid: Optional[int] = None, gid: Optional[int] = None) -> None:
        """A folder with exactly `mode`, and with that owner when one is given."""
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise EndpointError(f"{path}: is in the way: a folder must be there; move it aside and run install again")
        if not path.exists():
            self.note(f"make {path}/")
            if self.dry_run:
                return
            path.mkdir(parents=True, mode=0o755)
            # mkdir obeys the umask; the folder's mode must not depend on who runs the kit.
            path.chmod(mode)
            if uid is not None and gid is not None:
                os.chown(path, uid, gid)
        self._bring(path, mode, uid, gid)

    def file(self, path: Path, content: bytes, mode: int) -> bool:
        """A file with exactly `content` and `mode`; whether the content had to be written."""
        if path.is_file() and not path.is_symlink() and path.read_bytes() == content:
            self._bring(path, mode, None, None)
            return False
        self.note(f"write {path}")
        if self.dry_run:
            return True
        # Written beside and renamed: a half-written key or policy is never seen, and the mode is right from the start.
        beside = path.with_name(f".{path.name}.new")
        beside.unlink(missing_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(descriptor, mode)
            stream.write(content)
            stream.flush()
            os.fsync(descriptor)
        beside.replace(path)
        return True

    def no_other_files(self, folder: Path, wanted: set[str]) -> None:
        """Remove the plain files of `folder` that are not `wanted`: a trust directory holds nothing extra."""
        if not folder.is_dir():
            return
        for path in sorted(folder.iterdir()):
            if path.name not in wanted:
                if path.is_dir() and not path.is_symlink():
                    raise EndpointError(f"{path}: a folder has no place in {folder}; move it elsewhere")
                self.note(f"remove {path}")
                if not self.dry_run:
                    path.unlink()

    def _bring(self, path: Path, mode: int, uid: Optional[int], gid: Optional[int]) -> None:
        now = path.stat()
        if uid is not None and gid is not None and (now.st_uid, now.st_gid) != (uid, gid):
            self.note(f"give {path} to {uid}:{gid}")
            if not self.dry_run:
                os.chown(path, uid, gid)
        if stat.S_IMODE(now.st_mode) != mode:
            self.note(f"set the mode of {path} to {mode:04o}")
            if not self.dry_run:
                path.chmod(mode)
