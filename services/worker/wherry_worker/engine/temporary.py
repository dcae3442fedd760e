"""Temporary names: what a copy writes to before it is verified and renamed.

The name carries task and fence, so that a later attempt knows what an earlier one left behind and never writes to the
same name. It is not built on the file's own name, which may fill the 255 bytes that a name can have.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PREFIX = ".wherry-"
#: More items than a chunk has.
_AGAIN = 1_000_000
MOST_AGAIN = 10_000
"""So often a file is begun anew by one engine, at most; the next one counts on from there.

Each refused file of a chunk has those behind it begun anew, and between two files that end there may be a few losses.
"""
_SAFE = re.compile(r"[^A-Za-z0-9.]")
_NAME = re.compile(
    r"^\.wherry-(?P<tag>[A-Za-z0-9.]{1,120})-(?P<fence>[0-9]{1,20})-(?P<index>[0-9]{1,12})(?P<aside>-old)?\Z"
)


def tag_of(task: str) -> str:
    """Returns the part of a temporary name that stands for a task, `jobs/{job}/tasks/{task}`.

    The job's id is in it too: two deployments that write to one directory may number their tasks alike.
    """
    parts = task.split("/")
    return ".".join(_SAFE.sub("", part)[:60] for part in parts[1::2])


def temporary_name(tag: str, fence: int, index: int, again: int = 0) -> str:
    """Returns the name under which item `index` is written by the lease `fence` of task `tag`.

    Args:
        again: how often it was begun before under this lease: no name is used twice, as a server may still write to the
            one before.
    """
    return f"{PREFIX}{tag}-{fence}-{index + again * _AGAIN}"


def aside_name(tag: str, fence: int, index: int) -> str:
    """Returns the name under which an old file waits where renames do not replace."""
    return f"{temporary_name(tag, fence, index)}-old"


@dataclass(frozen=True, slots=True)
class TemporaryName:
    """What a temporary name says.

    Attributes:
        again: how often the item was begun before under this lease, by this engine and those before.
        aside: whether it is no copy, but an old file that waits: somebody's only one.
    """

    tag: str
    fence: int
    index: int
    again: int
    aside: bool

    def is_before(self, tag: str, fence: int, engines_before: int = 0) -> bool:
        """Tells whether it was begun for the same task, under an older lease or by an engine that died under this."""
        if self.aside or self.tag != tag:
            return False
        return self.fence < fence or (self.fence == fence and self.again < engines_before * MOST_AGAIN)


def parse(name: str) -> TemporaryName | None:
    """Reads a temporary name, whoever's; None: it is none. Other names may begin like one."""
    match = _NAME.match(name)
    if match is None:
        return None
    again, index = divmod(int(match["index"]), _AGAIN)
    return TemporaryName(match["tag"], int(match["fence"]), index, again, match["aside"] is not None)


def is_temporary(name: str) -> bool:
    """Tells whether `name` is one of a copy that runs or was killed, whoever's."""
    return parse(name) is not None


def is_stale(name: str, tag: str, up_to_fence: int) -> bool:
    """Tells whether `name` is a temporary of the task from a lease up to and including `up_to_fence`.

    Files that were moved aside are not: they are somebody's only copy.
    """
    found = parse(name)
    return found is not None and found.is_before(tag, up_to_fence + 1)
