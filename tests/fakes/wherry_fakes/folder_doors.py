"""Doors that are folders of this machine, for engines without servers.

Standard library only: an engine process loads it.

A name with one of these words in it misbehaves when it is copied: `!stall` never ends, `!corrupt` changes a byte,
`!short` loses one, `!crash` ends the process, `!memory` takes 300 MB, `!full` finds no space, `!refused` is refused,
`!slow` takes two seconds with progress in between.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat as stat_bits
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from wherry_worker.engine.messages import Door, Entry, EntryKind, Problem, Setup
from wherry_worker.engine.namespace import DoorError, OnBytes
from wherry_worker.engine.paths import to_bytes, to_text
from wherry_worker.engine.port import Engine
from wherry_worker.engine.stepwise import StepwiseEngine


def folder_engine(setup: Setup) -> Engine:
    """An engine whose doors are the folders that the doors' root paths name."""
    source = FolderNamespace(setup.source)
    if setup.destination is None:
        return StepwiseEngine(setup, source, None, None)
    destination = FolderNamespace(setup.destination)
    return StepwiseEngine(setup, source, destination, FolderCopy(source, destination))


class FolderNamespace:
    """File operations in a folder."""

    def __init__(self, door: Door) -> None:
        self._root = Path(door.root_path)

    def real(self, path: str) -> Path:
        return self._root / os.fsdecode(to_bytes(path).lstrip(b"/"))

    def entries(self, path: str) -> Iterator[Entry]:
        try:
            for real in self.real(path).iterdir():
                text = to_text(os.fsencode(real.name))
                if "\n" in text or "\r" in text:
                    problem = Problem("SOURCE_NAME_NOT_CARRIED", "It holds a line break.", "user")
                    yield Entry(text, "unlistable", problem=problem)
                else:
                    target = to_text(os.fsencode(real.readlink())) if real.is_symlink() else ""
                    yield _entry(text, real.lstat(), target)
        except OSError as error:
            raise _door_error("list", error) from error

    def stat(self, path: str) -> Entry | None:
        if "\n" in path:
            raise DoorError("stat", 22, "the name holds a line break, which the protocol cannot carry")
        try:
            return _entry(path.rsplit("/", 1)[-1], self.real(path).stat())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _door_error("stat", error) from error

    def make_directory(self, path: str) -> None:
        try:
            self.real(path).mkdir()
        except OSError as error:
            raise _door_error("mkdir", error) from error

    def rename(self, path: str, new_path: str) -> None:
        try:
            self.real(path).rename(self.real(new_path))
        except OSError as error:
            raise _door_error("rename", error) from error

    def unlink(self, path: str) -> None:
        try:
            self.real(path).unlink()
        except OSError as error:
            raise _door_error("unlink", error) from error

    def remove_directory(self, path: str) -> None:
        try:
            self.real(path).rmdir()
        except OSError as error:
            raise _door_error("rmdir", error) from error

    def checksum(self, path: str, algorithm: str) -> str:
        try:
            content = self.real(path).read_bytes()
        except OSError as error:
            raise _door_error("checksum", error) from error
        if algorithm == "adler32":
            return f"{zlib.adler32(content):08x}"
        if algorithm not in hashlib.algorithms_guaranteed:
            raise DoorError("checksum", errno.EOPNOTSUPP, f"unknown checksum algorithm {algorithm}")
        return hashlib.new(algorithm, content).hexdigest()

    def set_mode(self, path: str, mode: int) -> None:
        try:
            self.real(path).chmod(mode)
        except OSError as error:
            raise _door_error("chmod", error) from error

    def set_modify_time(self, path: str, seconds: int) -> None:
        try:
            os.utime(self.real(path), (seconds, seconds))
        except OSError as error:
            raise _door_error("utime", error) from error

    def close(self) -> None:
        pass


class FolderCopy:
    """Copies from folder to folder, badly where the name asks for it."""

    def __init__(self, source: FolderNamespace, destination: FolderNamespace) -> None:
        self._source = source
        self._destination = destination

    def copy(self, source_path: str, destination_path: str, size_bytes: int, on_bytes: OnBytes) -> None:
        del size_bytes
        try:
            content = self._source.real(source_path).read_bytes()
            target = self._destination.real(destination_path)
            if "!refused" in source_path:
                raise DoorError("copy", 13, f"Permission denied: {destination_path}")
            target.write_bytes(content[: len(content) // 2])
            on_bytes(len(content) // 2)
            _misbehave(source_path, on_bytes)
            if "!corrupt" in source_path:
                content = bytes([content[0] ^ 1]) + content[1:]
            target.write_bytes(content[:-1] if "!short" in source_path else content)
            on_bytes(len(content))
        except OSError as error:
            where = source_path if error.filename == str(self._source.real(source_path)) else destination_path
            raise DoorError("copy", error.errno or 70, f"{error.strerror}: {where}") from error


def _misbehave(path: str, on_bytes: OnBytes) -> None:
    if "!full" in path:
        raise DoorError("copy", errno.ENOSPC, "No space left on device")
    if "!crash" in path:
        os._exit(9)
    if "!memory" in path:
        hoard = bytearray(os.urandom(1) * (300 << 20))
        time.sleep(600)
        del hoard
    if "!stall" in path:
        time.sleep(600)
    if "!slow" in path:
        for step in range(40):
            on_bytes(step)
            time.sleep(0.05)


def _entry(name: str, found: os.stat_result, target: str = "") -> Entry:
    kind: EntryKind = "other"
    for test, what in ((stat_bits.S_ISREG, "file"), (stat_bits.S_ISDIR, "directory"), (stat_bits.S_ISLNK, "symlink")):
        if test(found.st_mode):
            kind = what  # type: ignore[assignment]  # one of the literals, which a tuple in a loop does not keep
    size = found.st_size if kind == "file" else 0
    return Entry(name, kind, size, int(found.st_mtime), stat_bits.S_IMODE(found.st_mode), target=target)


def _door_error(phase: str, error: OSError) -> DoorError:
    return DoorError(phase, error.errno or 70, error.strerror or str(error))
