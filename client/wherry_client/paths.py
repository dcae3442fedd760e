"""Places written as `site:path`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from wherry.type.v1 import entry_pb2

from wherry_client.errors import UsageError
from wherry_client.names import show_name

SITE_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
MAX_PATH_BYTES = 16384


@dataclass(frozen=True)
class RemotePath:
    """A place at a site.

    `raw` is the path in bytes, without `.` parts, doubled slashes and a slash at the end (`/` itself aside): absolute,
    or relative to the site's default path, which is what an empty one means. `must_be_directory` remembers the slash.
    """

    site: str
    raw: bytes
    must_be_directory: bool = False

    @property
    def name(self) -> bytes:
        """The last part; empty for the default path and for `/`, which have no name of their own."""
        return self.raw.rpartition(b"/")[2]

    @property
    def is_start(self) -> bool:
        """Whether it is the site's default path or its root: always a directory, and nothing to remove lightly."""
        return self.raw in (b"", b"/")

    def child(self, name: bytes) -> RemotePath:
        """Returns the entry `name` of this directory."""
        if not self.raw:
            return RemotePath(self.site, name)
        return RemotePath(self.site, self.raw.rstrip(b"/") + b"/" + name)

    def location(self) -> entry_pb2.Location:
        """Returns the message; a path that is not UTF-8 goes as bytes, with a shown form beside."""
        try:
            return entry_pb2.Location(site=f"sites/{self.site}", path=self.raw.decode("utf-8"))
        except UnicodeDecodeError:
            return entry_pb2.Location(site=f"sites/{self.site}", path=show_name(self.raw), raw_path=self.raw)

    def __str__(self) -> str:
        return f"{self.site}:{show_name(self.raw)}"


def parse(argument: str) -> RemotePath:
    """Reads `site:path` as the command line gives it (bytes that are not UTF-8 as surrogates); raises UsageError.

    Everything behind the first colon is the path, whatever it holds.
    """
    site, colon, path = argument.partition(":")
    if not colon:
        raise UsageError(
            f"{show_name(os.fsencode(argument))}: not a place at a site.",
            advice="Write SITE:PATH, as in site-a:data/run1; SITE: alone is the site's default directory.",
        )
    return RemotePath(site_id(site), *_clean(os.fsencode(path), argument))


def site_id(text: str) -> str:
    """Returns a site's id, given bare or as `sites/{site}`; raises UsageError."""
    bare = text.removeprefix("sites/")
    if not SITE_ID.fullmatch(bare):
        raise UsageError(
            f'"{show_name(os.fsencode(text))}" is no site id: lower-case letters, digits and dashes, at most 63.',
            advice="See which there are: wherry sites",
        )
    return bare


def of_location(location: entry_pb2.Location) -> RemotePath:
    """Returns the place that a message names."""
    raw = location.raw_path or location.path.encode("utf-8")
    return RemotePath(location.site.removeprefix("sites/"), raw)


def raw_name(entry: entry_pb2.Entry) -> bytes:
    """Returns an entry's name in bytes."""
    return entry.raw_name or entry.name.encode("utf-8")


def _clean(raw: bytes, argument: str) -> tuple[bytes, bool]:
    if b"\0" in raw:
        raise UsageError("A path cannot hold a NUL.")
    if len(raw) > MAX_PATH_BYTES:
        raise UsageError(f"A path can have {MAX_PATH_BYTES} bytes at most.")
    parts = [part for part in raw.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise UsageError(f"{show_name(os.fsencode(argument))}: a path cannot hold `..`.")
    root = b"/" if raw.startswith(b"/") else b""
    return root + b"/".join(parts), raw.endswith((b"/", b"/.")) or raw == b"."
