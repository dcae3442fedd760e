"""What lease process and engine say to each other; both sides import this module.

Paths and names are text with bytes that are not UTF-8 as lone surrogates (`surrogateescape`), so that every POSIX name
survives the JSON. Times are seconds since the epoch, durations seconds.
"""

from __future__ import annotations

import json
import types
import typing
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Literal

#: Raised with every change that an engine of another release would misread; both sides refuse any other.
PROTOCOL_VERSION = 2

Side = Literal["source", "destination"]
EntryKind = Literal["file", "directory", "symlink", "other", "unlistable"]
Party = Literal["unknown", "user", "source_site", "destination_site", "operator", "network"]
Overwrite = Literal["never", "always"]
CopyPhase = Literal["copying", "verifying", "namespace"]


class ProtocolError(Exception):
    """The other side of the pipe speaks another version or sent a message that is none."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something did not work; the fields mean what they mean in `wherry.type.v1.Failure`.

    `stops` says that the rest of the chunk would meet the same and need not be tried.
    """

    reason: str
    message: str
    party: Party = "unknown"
    retryable: bool = False
    help: str = ""
    stops: bool = False


# --- what the lease process says ---


@dataclass(frozen=True, slots=True)
class Door:
    """One endpoint with the credential to use at it.

    `root_path` is put before every path; `credential_file` is a PEM file with certificate, key and chain, readable by
    the engine alone; `rename_replaces` says whether a rename onto an existing file replaces it.
    """

    site: str
    scheme: str
    host: str
    port: int
    credential_file: str
    trust_directory: str
    root_path: str = "/"
    rename_replaces: bool = True


@dataclass(frozen=True, slots=True)
class Setup:
    """First message, and again whenever credentials were renewed: the doors to work at.

    `destination` is None where one site is worked on. `engine` names the implementation.
    """

    engine: str
    source: Door
    destination: Door | None = None
    namespace_timeout_s: int = 60
    checksum_timeout_s: int = 1800
    marker_timeout_s: int = 120


@dataclass(frozen=True, slots=True)
class ListDirectory:
    """List `path` at the source and, where given, `beside` at the destination, paired by name in byte order.

    Entries up to and including `after` (byte order) are left out.
    """

    path: str
    beside: str | None = None
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Stat:
    """Look at one path."""

    side: Side
    path: str


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    """Make a directory; with `parents` the missing ones above too; `exist_ok` is content with one that is there."""

    side: Side
    path: str
    parents: bool = False
    exist_ok: bool = False


@dataclass(frozen=True, slots=True)
class Rename:
    """Rename at the source's door; something at `new_path` is a failure."""

    path: str
    new_path: str


@dataclass(frozen=True, slots=True)
class Unlink:
    """Remove a file or a link at the source's door; a real directory is left alone and is no failure."""

    path: str


@dataclass(frozen=True, slots=True)
class RemoveFiles:
    """Remove files of one directory at the source's door; one that is gone counts as removed."""

    directory: str
    names: tuple[str, ...]
    first_index: int = 0


@dataclass(frozen=True, slots=True)
class RemoveDirectory:
    """Remove an empty directory at the source's door; one that is gone counts as removed."""

    path: str


@dataclass(frozen=True, slots=True)
class ChecksumFile:
    """Have a file's checksum computed by the door."""

    side: Side
    path: str
    algorithm: str = "adler32"


@dataclass(frozen=True, slots=True)
class CopyItem:
    """One file of a chunk. `index` is its place in the chunk; `size_bytes` what the listing said.

    The names may be paths below the chunk's directories where CopyFiles says `make_parents`.
    """

    index: int
    source_name: str
    destination_name: str
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class CopyFiles:
    """Copy files of one directory, each by way of a temporary name that carries `tag` and `fence`.

    `remove_stale` has temporary names of the same tag and older fences removed before. With `make_parents` the
    directories of the destination files are made where they are missing, each once. Temporaries stand beside the files
    that they become.
    """

    tag: str
    fence: int
    source_directory: str
    destination_directory: str
    items: tuple[CopyItem, ...]
    overwrite: Overwrite = "never"
    algorithm: str = "adler32"
    remove_stale: bool = False
    make_parents: bool = False


@dataclass(frozen=True, slots=True)
class RemoveTemporaries:
    """Remove what a killed copy may have left in directories of the destination: fences up to and including `fence`."""

    tag: str
    fence: int
    directories: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Begin:
    """Starts a task: what to do, and the seconds after which the engine ends itself, whatever it does."""

    task: Task
    deadline_s: float


@dataclass(frozen=True, slots=True)
class Extend:
    """Moves the running task's deadline to so many seconds from now."""

    deadline_s: float


@dataclass(frozen=True, slots=True)
class Halt:
    """Begin no further file of the running task: it ends when those that are moving have ended."""


Task = (
    ListDirectory
    | Stat
    | MakeDirectory
    | Rename
    | Unlink
    | RemoveFiles
    | RemoveDirectory
    | ChecksumFile
    | CopyFiles
    | RemoveTemporaries
)

# --- what the engine says ---


@dataclass(frozen=True, slots=True)
class Ready:
    """The doors are set up (nothing has been connected yet)."""

    engine: str
    version: str


@dataclass(frozen=True, slots=True)
class Entry:
    """What is at a path. `size_bytes` is a file's; `mode` holds permission bits, 0 where the door does not tell."""

    name: str
    kind: EntryKind
    size_bytes: int = 0
    modify_time_s: int = 0
    mode: int = 0
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """An entry of the source and, where a destination was listed beside it, what has the same name there."""

    source: Entry
    destination: Entry | None = None


@dataclass(frozen=True, slots=True)
class EntryBatch:
    """Part of a listing, in byte order of the names; further batches follow until Finished."""

    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class StatResult:
    """What Stat found; None where there is nothing."""

    entry: Entry | None


@dataclass(frozen=True, slots=True)
class Changed:
    """Whether MakeDirectory made one; it was there otherwise."""

    changed: bool


@dataclass(frozen=True, slots=True)
class UnlinkResult:
    """What Unlink came upon: something that it removed, nothing, or a real directory, which it left alone."""

    found: Literal["removed", "absent", "directory"]


@dataclass(frozen=True, slots=True)
class ChecksumResult:
    """A checksum, lower-case hexadecimal."""

    algorithm: str
    value: str


@dataclass(frozen=True, slots=True)
class ItemDone:
    """One item of a chunk has come to its end; `problem` is None where it is done.

    `adopted`: it was there already with the same bytes. `checksum` is equal at both ends.
    """

    index: int
    size_bytes: int = 0
    checksum: str = ""
    duration_s: float = 0.0
    adopted: bool = False
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the running item is: bytes at the destination, in which phase. At most one a second."""

    index: int
    phase: CopyPhase
    transferred_bytes: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The task has ended; `problem` says why it failed as a whole.

    `worn`: the process has gathered what the libraries leak; do not give it more work.
    """

    problem: Problem | None = None
    worn: bool = False


Message = (
    Setup
    | Begin
    | Extend
    | Halt
    | Ready
    | EntryBatch
    | StatResult
    | Changed
    | UnlinkResult
    | ChecksumResult
    | ItemDone
    | Progress
    | Finished
)
_MESSAGES: dict[str, type] = {cls.__name__: cls for cls in typing.get_args(Message)}
_TASKS: dict[str, type] = {cls.__name__: cls for cls in typing.get_args(Task)}


def encode(message: Message) -> bytes:
    """Returns a message as JSON, with its type and the protocol's version."""
    return json.dumps(
        {"v": PROTOCOL_VERSION, "t": type(message).__name__, "m": _plain(message)}, separators=(",", ":")
    ).encode("ascii")


def decode(body: bytes) -> Message:
    """Reads a message; raises ProtocolError for another version, an unknown type, or a field that is wrong."""
    try:
        outer = json.loads(body)
        version, name, content = outer["v"], outer["t"], outer["m"]
    except (ValueError, KeyError, TypeError) as error:
        raise ProtocolError from error
    if version != PROTOCOL_VERSION or name not in _MESSAGES:
        raise ProtocolError(f"version {version!r}, type {name!r}")
    try:
        return typing.cast("Message", _build(_MESSAGES[name], content))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProtocolError(f"type {name!r}") from error


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        plain = {}
        for field in fields(value):
            inner = getattr(value, field.name)
            if inner != field.default:  # what is at its default is left out: entries travel by the thousand
                plain[field.name] = _plain(inner)
        if type(value).__name__ in _TASKS:
            plain["t"] = type(value).__name__
        return plain
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _build(cls: type, content: dict[str, Any]) -> object:
    hints = _hints(cls)
    return cls(**{name: _value(hints[name], item) for name, item in content.items() if name != "t"})


def _value(hint: Any, item: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin is tuple:
        if not isinstance(item, list):
            raise TypeError
        inner = typing.get_args(hint)[0]
        return tuple(_value(inner, part) for part in item)
    if origin in (types.UnionType, typing.Union):
        choices = typing.get_args(hint)
        if item is None and type(None) in choices:
            return None
        if isinstance(item, dict) and "t" in item:
            return _build(_TASKS[item["t"]], item)
        return _value(next(choice for choice in choices if choice is not type(None)), item)
    if origin is Literal:
        if item not in typing.get_args(hint):
            raise ValueError
        return item
    if is_dataclass(hint):
        return _build(typing.cast("type", hint), item)
    if hint is float and isinstance(item, int) and not isinstance(item, bool):
        return float(item)
    if type(item) is not hint:
        raise TypeError
    return item
