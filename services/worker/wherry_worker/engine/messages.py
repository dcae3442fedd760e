"""What lease process and engine say to each other; both sides import this module.

Paths and names are text with bytes that are not UTF-8 as lone surrogates (`surrogateescape`), so that every POSIX name
survives the JSON. Times are seconds since the epoch, durations seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

#: Raised with every change that an engine of another release would misread; both sides refuse any other.
PROTOCOL_VERSION = 6
#: A file of at least this size goes on from what an earlier beginning has left. Of that, as much at the end is not
#: believed: streams side by side leave holes there.
RESUME_BYTES = 64 << 20

Side = Literal["source", "destination"]
EntryKind = Literal["file", "directory", "symlink", "other", "unlistable"]
Party = Literal["unknown", "user", "source_site", "destination_site", "operator", "network"]
Overwrite = Literal["never", "always", "if_newer", "if_different", "keep_both"]
Comparison = Literal["size_and_time", "checksum"]
Verification = Literal["checksum", "size"]
CopyPhase = Literal["copying", "verifying", "namespace"]
#: How bytes go from door to door: as they are, between servers that know each other, or encrypted besides.
Protection = Literal["clear", "authenticated", "encrypted"]


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

    `destination` is None where one site is worked on. `engine` names the implementation. `channel_context` is what both
    servers know each other by where the bytes between them are protected (base64 of a certificate, its key and the
    certificate again; GridFTP's DCSC); without it they cannot be. `resume_bytes` is RESUME_BYTES, or less in tests.
    """

    engine: str
    source: Door
    destination: Door | None = None
    namespace_timeout_s: int = 60
    checksum_timeout_s: int = 1800
    marker_timeout_s: int = 120
    channel_context: str = field(default="", repr=False)
    resume_bytes: int = RESUME_BYTES


@dataclass(frozen=True, slots=True)
class ListDirectory:
    """List `path` at the source and, where given, `beside` at the destination, paired by name in byte order.

    Entries up to and including `after` (byte order) are left out; so are those that only the destination has, unless
    `extraneous` asks for them. With `follow_links` a link is told as what it leads to, with its target.
    """

    path: str
    beside: str | None = None
    after: str | None = None
    extraneous: bool = False
    follow_links: bool = False


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
class ChecksumFiles:
    """Have the checksums of files of one directory computed by the source's door."""

    directory: str
    names: tuple[str, ...]
    algorithm: str = "adler32"


@dataclass(frozen=True, slots=True)
class SetMode:
    """Set the permission bits of one path at the source's door."""

    path: str
    mode: int


@dataclass(frozen=True, slots=True)
class SetModes:
    """Set the permission bits of files of one directory at the source's door; one that is gone is a failure."""

    directory: str
    names: tuple[str, ...]
    mode: int


@dataclass(frozen=True, slots=True)
class CopyItem:
    """One file of a chunk. `index` is its place in the chunk; `size_bytes` what the listing said.

    The names may be paths below the chunk's directories where CopyFiles says `make_parents`. `listed_time_s` is the
    time of its change, where it was just listed, and nothing then had its place; None: who copies it looks.
    """

    index: int
    source_name: str
    destination_name: str
    size_bytes: int = 0
    listed_time_s: int | None = None


@dataclass(frozen=True, slots=True)
class CopyFiles:
    """Copy files of one directory, each by way of a temporary name that carries `tag` and `fence`.

    `remove_stale` has removed before what older fences of the same tag, and engines before under this one, have left
    under temporary names; an engine that can go on from it keeps what it needs of it. `later` are items that are not
    copied now, but by another attempt: what is there of them stays, where that could go on from it. With
    `make_parents` the directories of the destination files are made where they are missing, each once. Temporaries
    stand beside the files that they become. `comparison` is for `if_different`. `verification` by size alone trusts
    the servers with the bytes. `keep_times` has files keep their times of change, where the destination can set them.
    `protection` None leaves it to the engine: small files are encrypted where both doors offer it; `least_protection`
    is what the sites demand in any case. `engines_before` have died over the same task under the same fence: their
    temporary names are not used again.
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
    protection: Protection | None = None
    comparison: Comparison = "size_and_time"
    verification: Verification = "checksum"
    keep_times: bool = True
    engines_before: int = 0
    least_protection: Protection = "clear"
    later: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RemoveTemporaries:
    """Remove what a killed copy may have left in directories of the destination: fences up to and including `fence`.

    With `keep_resumable`, what another copy of the same task could go on from stays; LeftBehind tells of it.
    """

    tag: str
    fence: int
    directories: tuple[str, ...]
    keep_resumable: bool = False


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
    | ChecksumFiles
    | SetMode
    | SetModes
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
    """What is at a path.

    `size_bytes` is a file's; `mode` holds permission bits, 0 where the door does not tell; `target` is what a symbolic
    link says, as far as the door tells.
    """

    name: str
    kind: EntryKind
    size_bytes: int = 0
    modify_time_s: int = 0
    mode: int = 0
    problem: Problem | None = None
    target: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """An entry of the source and, where a destination was listed beside it, what has the same name there."""

    source: Entry
    destination: Entry | None = None


@dataclass(frozen=True, slots=True)
class EntryBatch:
    """Part of a listing, in byte order of the names; further batches follow until Finished.

    `extraneous` are entries that only the destination has, where they were asked for, in the same order: their names
    come before those of the next batch. `unlisted`, in the last batch, says that the source holds more than it lists.
    """

    pairs: tuple[Pair, ...]
    extraneous: tuple[Entry, ...] = ()
    unlisted: Problem | None = None


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

    `adopted`: it was there already with the same bytes. `left_alone`: what is there was left as it is, as the policy
    says. `kept_beside`: the name that it was given beside a file that kept its own. `checksum` is equal at both ends,
    and by `algorithm`, where that is not empty, in the place of the one that was asked for.
    """

    index: int
    size_bytes: int = 0
    checksum: str = ""
    duration_s: float = 0.0
    adopted: bool = False
    problem: Problem | None = None
    left_alone: bool = False
    kept_beside: str = ""
    algorithm: str = ""


@dataclass(frozen=True, slots=True)
class ChannelUsed:
    """How the bytes of a copy go; told before the first of them."""

    protection: Protection


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """Temporary files lie at the destination still: to go on from, or since they could not be removed."""


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
    | ChannelUsed
    | LeftBehind
    | Progress
    | Finished
)
