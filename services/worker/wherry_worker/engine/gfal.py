"""gfal2 behind the ports: the general way to a door, for every scheme that gfal2 has a plugin for.

Facts that this module lives with (gfal2 2.21.3 on Debian 12, gsiftp): sessions are reused only within one context that
talks to one server; a strict copy overwrites in silence; a listing tells little (a line break in a name makes a false
entry and an error, trailing white space is cut off, links look like what they lead to, and those that lead nowhere are
left out); a directory handle that is not read to its end aborts the process later; texts are cut at about 500
characters.
"""

from __future__ import annotations

import errno
import re
import stat as stat_bits
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import gfal2

from wherry_worker.engine.messages import Door, Entry, EntryKind, Problem, Setup
from wherry_worker.engine.namespace import DoorError, OnBytes
from wherry_worker.engine.paths import join, to_text, url

_Result = TypeVar("_Result")
_CUT_LINE = re.compile(r"Error parsing GridFTP line: '(.*)'\s*$", re.DOTALL)
#: gfal2 wants a limit; the real ones are the parent's: wall clock, stall, lease.
_COPY_TIMEOUT_S = 14 * 24 * 3600
_DIRECTORY_MODE = 0o755


def new_context(setup: Setup, *doors: Door) -> Any:
    """Returns a gfal2 context that presents each door its own credential."""
    context = gfal2.creat_context()
    context.set_opt_boolean("GRIDFTP PLUGIN", "SESSION_REUSE", True)
    context.set_opt_boolean("GRIDFTP PLUGIN", "DCAU", False)
    context.set_opt_boolean("GRIDFTP PLUGIN", "GRIDFTP_V2", True)
    context.set_opt_integer("GRIDFTP PLUGIN", "OPERATION_TIMEOUT", setup.namespace_timeout_s)
    context.set_opt_integer("GRIDFTP PLUGIN", "CHECKSUM_CALC_TIMEOUT", setup.checksum_timeout_s)
    context.set_opt_integer("GRIDFTP PLUGIN", "PERF_MARKER_TIMEOUT", setup.marker_timeout_s)
    context.set_opt_integer("CORE", "NAMESPACE_TIMEOUT", setup.namespace_timeout_s)
    context.set_opt_integer("CORE", "CHECKSUM_TIMEOUT", setup.checksum_timeout_s)
    for door in doors:
        prefix = url(door.scheme, door.host, door.port, "/", "/")
        for kind in ("X509_CERT", "X509_KEY"):
            context.cred_set(prefix, context.cred_new(kind, door.credential_file))
    return context


def _call(phase: str, function: Callable[..., _Result], *arguments: object) -> _Result:
    try:
        return function(*arguments)
    except gfal2.GError as error:
        raise DoorError(phase, error.code, error.message) from error


class GfalNamespace:
    """A door's file operations by gfal2, in a context of its own."""

    def __init__(self, setup: Setup, door: Door) -> None:
        self._door = door
        self._context = new_context(setup, door)

    def _url(self, path: str) -> str:
        return url(self._door.scheme, self._door.host, self._door.port, self._door.root_path, path)

    def stat(self, path: str) -> Entry | None:
        """Returns what is at a path, None where there is nothing."""
        try:
            found = _call("stat", self._context.stat, self._url(path))
        except DoorError as error:
            if error.errno == 2:
                return None
            raise
        return _entry(path.rsplit("/", 1)[-1], found)

    def entries(self, path: str) -> Iterator[Entry]:
        """Yields a directory's entries, each looked at by name: only so is a name that was cut off found out."""
        found: dict[str, Entry] = {}
        for entry in self._raw_list(path):
            if entry.name in found:
                found[entry.name] = _unlistable(entry, "two names differ only in white space at their end")
            else:
                found[entry.name] = entry
        for entry in found.values():
            if entry.kind != "unlistable" and "\r" in entry.name:
                yield _unlistable(entry, "it holds a line break")
            elif entry.kind != "unlistable" and self.stat(join(path, entry.name)) is None:
                yield _unlistable(entry, "its name probably ends in white space, which listings cut off")
            else:
                yield entry

    def _raw_list(self, path: str) -> list[Entry]:
        directory = _call("list", self._context.opendir, self._url(path))
        entries: list[Entry] = []
        while True:
            try:
                dirent, found = directory.readpp()
                if dirent is None:
                    return [entry for entry in entries if entry.name not in (".", "..")]
                name = dirent.d_name
            except UnicodeDecodeError as error:
                name = to_text(error.object)
            except gfal2.GError as error:
                cut = _CUT_LINE.search(error.message)
                if cut is None or not entries:
                    raise DoorError("list", error.code, error.message) from error
                whole = f"{entries[-1].name}\n{cut[1]}"
                entries[-1] = _unlistable(Entry(whole, "unlistable"), "it holds a line break")
                continue
            entries.append(_entry(name, found))

    def make_directory(self, path: str) -> None:
        """Makes one directory."""
        _call("mkdir", self._context.mkdir, self._url(path), _DIRECTORY_MODE)

    def rename(self, path: str, new_path: str) -> None:
        """Renames."""
        _call("rename", self._context.rename, self._url(path), self._url(new_path))

    def unlink(self, path: str) -> None:
        """Removes a file or a link."""
        _call("unlink", self._context.unlink, self._url(path))

    def remove_directory(self, path: str) -> None:
        """Removes an empty directory."""
        _call("rmdir", self._context.rmdir, self._url(path))

    def checksum(self, path: str, algorithm: str) -> str:
        """Returns a checksum, lower case, with the zeros that some servers leave out."""
        value = str(_call("checksum", self._context.checksum, self._url(path), algorithm.upper())).strip().lower()
        return value.rjust(8, "0") if algorithm == "adler32" else value

    def set_mode(self, path: str, mode: int) -> None:
        """Sets permission bits."""
        _call("chmod", self._context.chmod, self._url(path), mode)

    def set_modify_time(self, path: str, seconds: int) -> None:
        """Refuses: gfal2 has nothing for it."""
        raise DoorError("utime", errno.EOPNOTSUPP, f"gfal2 cannot set the time of {path} to {seconds}")

    def close(self) -> None:
        """Does nothing: the process ends right after, and gfal2 is not to be trusted with tidying up."""


class GfalThirdParty:
    """Copies by gfal2, server to server only."""

    def __init__(self, setup: Setup, source: Door, destination: Door) -> None:
        self._doors = (source, destination)
        self._context = new_context(setup, source, destination)

    def copy(self, source_path: str, destination_path: str, size_bytes: int, on_bytes: OnBytes) -> None:
        """Copies one file; strict, so that gfal2 neither looks nor deletes before, and never by way of this host."""
        del size_bytes
        parameters = self._context.transfer_parameters()
        parameters.strict_copy = True
        parameters.overwrite = False
        parameters.local_transfers = False
        parameters.create_parent = False
        parameters.timeout = _COPY_TIMEOUT_S

        def monitor(_source: str, _destination: str, _average: int, _now: int, transferred: int, _elapsed: int) -> None:
            on_bytes(transferred)

        parameters.monitor_callback = monitor
        urls = [
            url(door.scheme, door.host, door.port, door.root_path, path)
            for door, path in zip(self._doors, (source_path, destination_path), strict=True)
        ]
        _call("copy", self._context.filecopy, parameters, *urls)


def _entry(name: str, found: Any) -> Entry:
    kind: EntryKind = "other"
    if stat_bits.S_ISDIR(found.st_mode):
        kind = "directory"
    elif stat_bits.S_ISREG(found.st_mode):
        kind = "file"
    elif stat_bits.S_ISLNK(found.st_mode):
        kind = "symlink"
    return Entry(
        name=name,
        kind=kind,
        size_bytes=int(found.st_size) if kind == "file" else 0,
        modify_time_s=int(found.st_mtime),
        mode=stat_bits.S_IMODE(found.st_mode),
    )


def _unlistable(entry: Entry, why: str) -> Entry:
    problem = Problem(
        "SOURCE_NAME_NOT_CARRIED",
        f"GridFTP cannot carry this name: {why}.",
        "user",
        retryable=False,
        help="Rename it at the site.",
    )
    return Entry(entry.name, "unlistable", problem=problem)
