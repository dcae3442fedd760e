"""Looks into sites' file systems."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator
from enum import Enum

from wherry.queue.v1 import file_service_pb2 as messages
from wherry.type.v1 import entry_pb2

from wherry_client.calls import Caller
from wherry_client.connection import Connection
from wherry_client.errors import NotFoundError, UnavailableError, WherryError, from_failure
from wherry_client.paths import RemotePath

#: How long a listing may take, waiting for a worker included.
LIST_TIMEOUT_S = 300.0
#: Likewise, to a depth of more than one.
TREE_TIMEOUT_S = 3600.0
_REPEAT_AFTER_S = (0.3, 1.0)


class PathKind(Enum):
    """What is at a path."""

    MISSING = "missing"
    FILE = "file"
    DIRECTORY = "directory"


class Files:
    """Lists directories. Every method raises WherryError."""

    def __init__(self, connection: Connection, caller: Caller) -> None:
        self._files = connection.files
        self._caller = caller

    def list_batches(
        self, place: RemotePath, depth: int = 1, timeout_s: float | None = None
    ) -> Generator[messages.ListDirectoryResponse, None, None]:
        """Yields a directory's entries in batches, in byte order of their names; a file gives itself.

        With a `depth` of 2 to 32, so many levels of it: the entries of one directory together, then those of the first
        directory among them with all below it, then those of the next. A name is then a path below `place`. A directory
        that cannot be listed comes once more, with `failure`, where its entries would have come. `timeout_s` None: five
        minutes, an hour to a depth.
        """
        deadline = time.monotonic() + (timeout_s or (LIST_TIMEOUT_S if depth <= 1 else TREE_TIMEOUT_S))
        for pause_s in (*_REPEAT_AFTER_S, None):
            begun = False
            try:
                for response in self._list_once(place, depth, deadline - time.monotonic()):
                    begun = True
                    yield response
            except UnavailableError as error:
                # What the service has said itself is its last word: it has had its time.
                if begun or not error.was_lost or pause_s is None or time.monotonic() + pause_s >= deadline:
                    raise
                time.sleep(pause_s)
            else:
                return

    def _list_once(
        self, place: RemotePath, depth: int, timeout_s: float
    ) -> Generator[messages.ListDirectoryResponse, None, None]:
        request = messages.ListDirectoryRequest(location=place.location(), depth=depth if depth > 1 else 0)
        for response in self._caller.stream(self._files.ListDirectory, request, timeout_s):
            if response.HasField("failure"):
                raise from_failure(response.failure, place.site)
            if response.kind == entry_pb2.ENTRY_KIND_DIRECTORY and max(response.depth, 1) != max(depth, 1):
                raise WherryError("This deployment is of an older release, and lists one directory at a time.")
            if response.entries or response.path:
                yield response
            if response.last:
                return
        raise UnavailableError(f"The listing of {place} broke off.", advice="Try again.")

    def entries(self, place: RemotePath, depth: int = 1) -> Generator[entry_pb2.Entry, None, None]:
        """Yields a directory's entries, to a depth, as `list_batches` does."""
        for batch in self.list_batches(place, depth):
            yield from batch.entries

    def kind_of(self, place: RemotePath) -> PathKind:
        """Tells what is at a path, by beginning to list it."""
        if place.is_start:
            return PathKind.DIRECTORY
        try:
            with contextlib.closing(self.list_batches(place)) as batches:
                # A message without a kind is a sign of life.
                kind = next((batch.kind for batch in batches if batch.kind), entry_pb2.ENTRY_KIND_DIRECTORY)
        except WherryError as error:
            return _kind_by_error(error, missing=PathKind.MISSING)
        return PathKind.DIRECTORY if kind == entry_pb2.ENTRY_KIND_DIRECTORY else PathKind.FILE


def _kind_by_error(error: WherryError, missing: PathKind) -> PathKind:
    if isinstance(error, NotFoundError) and error.reason != "SITE_NOT_FOUND":
        return missing
    if error.reason.endswith("NOT_A_DIRECTORY"):
        return PathKind.FILE
    raise error
