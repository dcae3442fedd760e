"""A job's files as messages: chunks are opened here, and only as far as a page shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from wherry.queue.v1 import job_service_pb2 as pb
from wherry.queue.v1 import lease_service_pb2
from wherry.type.v1 import entry_pb2
from wherry_chassis.logging import logger

from wherry_queue.job_files import ChunkPart, Cursor, FilePage, FileState, LeftOut, StoredFailure
from wherry_queue.paths import join
from wherry_queue.servicer import chunk_payloads
from wherry_queue.servicer.messages import failure_message, file_token, raw, shown
from wherry_queue.servicer.pages import Room


def file_page_message(uid: str, page: FilePage) -> pb.ListJobFilesResponse:
    """Returns a page of a job's files; where they are more than fit into it, it ends before those that do not."""
    files: list[pb.JobFile] = []
    room = Room()
    for part in page.parts:
        try:
            for cursor, file in _files_of(uid, part):
                if not room.takes(file):
                    return pb.ListJobFilesResponse(files=files, next_page_token=file_token(cursor))
                files.append(file)
        except chunk_payloads.Unreadable as error:
            # Its worker's fault, and not for this reader to mend; the other chunks are shown all the same.
            logger().error("chunk_unreadable", task=f"jobs/{uid}/tasks/{part.task_id}", problem=str(error))
    return pb.ListJobFilesResponse(files=files, next_page_token=file_token(page.next))


def _files_of(uid: str, part: ChunkPart | LeftOut) -> Iterator[tuple[Cursor, pb.JobFile]]:
    """Gives a part's files, each with where a page begins that has it first; raises Unreadable."""
    task = f"jobs/{uid}/tasks/{part.task_id}"
    if isinstance(part, LeftOut):
        yield part.cursor, _left_out(task, part)
    else:
        yield from _of_chunk(task, part)


def _of_chunk(task: str, part: ChunkPart) -> Iterator[tuple[Cursor, pb.JobFile]]:
    entries = chunk_payloads.entries(part.payload)
    results = chunk_payloads.results(part.results)
    for index, state in part.files:
        if index >= len(entries):
            raise chunk_payloads.Unreadable("a chunk has fewer entries than its worker said")
        entry = entries[index]
        number = pb.FileState.ValueType(state)
        file = pb.JobFile(state=number, size_bytes=entry.size_bytes, task=task, extraneous=part.extraneous)
        result = results.get(index) if state is FileState.DONE else None
        _set_paths(file, part, entry, result.kept_beside if result is not None else b"")
        if state is FileState.DONE:
            _set_result(file, result)
        elif state is FileState.FAILED:
            file.failure.MergeFrom(_failure(index, part.failures))
        yield Cursor(part.task_id, index), file


def _set_paths(file: pb.JobFile, part: ChunkPart, entry: lease_service_pb2.ChunkEntry, kept_beside: bytes) -> None:
    """Sets a file's paths; at the destination it may have been given another name."""
    path = join(part.source_path, entry.name)
    file.path, file.raw_path = shown(path), raw(path)
    if part.destination_path is not None:
        path = join(part.destination_path, entry.destination_name or entry.name)
        if kept_beside:
            path = join(path.rpartition(b"/")[0] or b"/", kept_beside)
        file.destination_path, file.raw_destination_path = shown(path), raw(path)


def _set_result(file: pb.JobFile, result: lease_service_pb2.EntryResult | None) -> None:
    if result is None:
        return
    file.adopted, file.left_alone = result.adopted, result.left_alone
    for name in ("checksum", "duration"):
        if result.HasField(name):
            getattr(file, name).CopyFrom(getattr(result, name))


def _failure(index: int, failures: Mapping[int, StoredFailure]) -> entry_pb2.Failure:
    """Returns why a file failed: its own failure, or that of its whole chunk."""
    found = failures.get(index) or failures.get(-1)
    return (failure_message(dict(found.failure)) if found else None) or entry_pb2.Failure(reason="UNKNOWN")


def _left_out(task: str, part: LeftOut) -> pb.JobFile:
    failure = part.failure
    return pb.JobFile(
        path=shown(failure.path),
        raw_path=raw(failure.path),
        state=pb.FileState.ValueType(part.state),
        size_bytes=failure.size_bytes,
        failure=failure_message(dict(failure.failure)),
        task=task,
    )
