"""What `cp` and `mv` make of their arguments: which exact path each source shall have."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wherry_client.errors import UsageError
from wherry_client.files import PathKind
from wherry_client.paths import RemotePath

#: What one job takes.
MAX_ITEMS = 1000

KindOf = Callable[[RemotePath], PathKind]


def plan_copy(
    sources: Sequence[RemotePath], destination: RemotePath, kind_of: KindOf, *, recursive: bool
) -> list[tuple[RemotePath, RemotePath]]:
    """Returns each source with its exact destination, as `cp` would choose it; raises UsageError.

    A destination that is a directory receives each source under its own name; the default path or `/`, which have none,
    give what they hold. Otherwise the destination is the name that the one source gets. `kind_of` is asked only where
    the answer matters, since it is a listing at a site.
    """
    if len({source.site for source in sources}) != 1:
        raise UsageError("All sources of one copy must be at the same site.")
    if len(sources) > MAX_ITEMS:
        raise UsageError(f"One copy takes {MAX_ITEMS} sources at most; copy their directory with -r.")
    for source in sources:
        if source.is_start and not recursive:
            raise UsageError(f"{source} is a directory.", advice="To copy it with all it holds: -r")
    if kind_of(destination) is PathKind.DIRECTORY:
        pairs = [(source, destination.child(source.name) if source.name else destination) for source in sources]
    else:
        _check_single(sources, destination, kind_of, recursive=recursive)
        pairs = [(sources[0], destination)]
    _check_apart(pairs)
    return pairs


def plan_sync(
    source: RemotePath, destination: RemotePath, *, deletes: bool = False
) -> list[tuple[RemotePath, RemotePath]]:
    """Returns a directory with the one that shall hold the same, which is named exactly; raises UsageError.

    `deletes`: whether what only the destination has is removed; the source must not be among that.
    """
    pairs = [(source, destination)]
    _check_apart(pairs)
    if deletes and source.site == destination.site and _is_inside(destination.raw, source.raw):
        raise UsageError(f"{source} lies inside {destination}, and would be removed from there: leave out --delete.")
    return pairs


def plan_rename(source: RemotePath, destination: RemotePath, kind_of: KindOf) -> RemotePath:
    """Returns the exact new path, as `mv` would choose it; raises UsageError."""
    if source.site != destination.site:
        raise UsageError("mv works within one site.", advice="Between sites: wherry cp -r, then wherry rm -r")
    if source.is_start:
        raise UsageError(f"{source} cannot be moved.")
    if kind_of(destination) is PathKind.DIRECTORY:
        exact = destination.child(source.name)
    elif destination.must_be_directory and kind_of(source) is not PathKind.DIRECTORY:
        raise UsageError(f"{destination}: there is no such directory.", advice="Make it: wherry mkdir -p")
    else:
        exact = destination
    if exact.raw == source.raw:
        raise UsageError(f"{source} is there already.")
    return exact


def _check_single(sources: Sequence[RemotePath], destination: RemotePath, kind_of: KindOf, *, recursive: bool) -> None:
    """Checks that a destination that is no directory can be the name of what is copied."""
    if len(sources) > 1:
        raise UsageError(
            f"{destination}: there is no such directory, and several sources need one.",
            advice="Make it: wherry mkdir -p",
        )
    if not destination.must_be_directory:
        return
    # A slash at the end names a directory: fit for the copy of a directory, not for that of a file.
    if not recursive or kind_of(sources[0]) is PathKind.FILE or kind_of(destination) is PathKind.FILE:
        raise UsageError(f"{destination}: there is no such directory.", advice="Make it: wherry mkdir -p")


def _check_apart(pairs: Sequence[tuple[RemotePath, RemotePath]]) -> None:
    taken: dict[bytes, RemotePath] = {}
    for source, destination in pairs:
        if (source.site, source.raw) == (destination.site, destination.raw):
            raise UsageError(f"{source} and {destination} are the same.")
        if source.site == destination.site and _is_inside(source.raw, destination.raw):
            raise UsageError(f"{source} cannot be copied into itself, {destination}.")
        other = taken.setdefault(destination.raw, source)
        if other is not source:
            raise UsageError(f"{other} and {source} would both become {destination}.")


def _is_inside(outer: bytes, inner: bytes) -> bool:
    """Tells whether a path lies inside another, as far as words show: where the default path is, is not known here."""
    if not outer:
        return not inner.startswith(b"/")
    return inner.startswith(outer.rstrip(b"/") + b"/")
