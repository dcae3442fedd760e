"""Users' paths: any bytes but NUL, made absolute and plain."""

from __future__ import annotations

from wherry_chassis.errors import FieldProblem, InvalidFields


def absolute(path: bytes, default_path: bytes, field: str) -> bytes:
    """Returns an absolute path without empty parts or a slash at its end.

    Args:
        path: what the user gave; relative ones begin at `default_path`, an empty one is it.
        field: the request's field, for the error.

    Raises:
        InvalidFields: a NUL, or `.` or `..` as a part: what they mean depends on links that we do not see.
    """
    if b"\0" in path:
        raise InvalidFields(FieldProblem(field, "a path cannot hold a NUL character"))
    whole = path if path.startswith(b"/") else default_path + b"/" + path
    parts = [part for part in whole.split(b"/") if part]
    if b"." in parts or b".." in parts:
        raise InvalidFields(FieldProblem(field, "write the path without '.' and '..' as parts"))
    return b"/" + b"/".join(parts)


def join(directory: bytes, name: bytes) -> bytes:
    """Returns the path of an entry of a directory."""
    return directory.rstrip(b"/") + b"/" + name


def within(path: bytes, directory: bytes) -> bool:
    """Tells whether a path is the directory or lies in it."""
    return path == directory or path.startswith(directory.rstrip(b"/") + b"/")
