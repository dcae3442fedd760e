"""Users' paths: any bytes but NUL, made absolute and plain."""

from __future__ import annotations

from collections.abc import Iterator

from wherry_chassis.errors import FieldProblem, InvalidFields


def absolute(path: bytes, default_path: bytes, field: str) -> bytes:
    """Returns an absolute path without empty parts or a slash at its end.

    Args:
        path: what the user gave; relative ones begin at `default_path`, an empty one is it.
        field: the request's field, for the error.

    Raises:
        InvalidFields: a NUL, or `.` or `..` as a part: what they mean depends on links that we do not see.
    """
    return b"/" + _plain(path if is_absolute(path) else default_path + b"/" + path, field)


def as_known(path: bytes, field: str) -> bytes:
    """Returns a path of a site whose default path is not known, as far as that goes: a relative one stays relative.

    `absolute` makes the same of it, later, as of what the user gave. Raises as `absolute`.
    """
    return (b"/" if is_absolute(path) else b"") + _plain(path, field)


def is_absolute(path: bytes) -> bool:
    """Tells whether a path begins at the root."""
    return path.startswith(b"/")


def _plain(path: bytes, field: str) -> bytes:
    if b"\0" in path:
        raise InvalidFields(FieldProblem(field, "a path cannot hold a NUL character"))
    parts = [part for part in path.split(b"/") if part]
    if b"." in parts or b".." in parts:
        raise InvalidFields(FieldProblem(field, "write the path without '.' and '..' as parts"))
    return b"/".join(parts)


def join(directory: bytes, name: bytes) -> bytes:
    """Returns the path of an entry of a directory; an empty one is the default path of a site, not known yet."""
    return directory.rstrip(b"/") + b"/" + name if directory else name


def within(path: bytes, directory: bytes) -> bool:
    """Tells whether a path is the directory or lies in it.

    Of two relative ones of one site it tells it as well; of a relative and an absolute one only where it is so wherever
    the relative one begins.
    """
    return path == directory or directory == b"/" or path.startswith(directory.rstrip(b"/") + b"/")


def above(path: bytes) -> Iterator[bytes]:
    """Gives the directories that a plain path lies in, nearest first; of a relative one as far as it says them."""
    while path not in (b"", b"/"):
        directory, root, _ = path.rpartition(b"/")
        path = directory or root
        if path:
            yield path
