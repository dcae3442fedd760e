"""Leases as messages: what a worker has to know of a task and its job."""

from __future__ import annotations

from wherry.queue.v1 import job_service_pb2
from wherry.queue.v1 import lease_service_pb2 as pb

from wherry_queue.servicer import messages
from wherry_queue.states import TaskKind, WorkClass
from wherry_queue.store.leases import LeasedTask
from wherry_queue.workers import GivenLease


def lease_message(given: GivenLease) -> pb.Lease:
    """Returns a lease as its worker gets it."""
    task = given.task
    lease = pb.Lease(
        lease=pb.LeaseRef(task=task.name, fence=task.fence),
        time_left=messages.duration(given.time_left_s),
        lease_token=given.token,
        work_class=pb.WORK_CLASS_INTERACTIVE if task.work_class is WorkClass.INTERACTIVE else pb.WORK_CLASS_BULK,
        user=task.user,
        source_site=task.source_site,
        destination_site=task.destination_site,
        attempt=task.attempt,
    )
    match task.kind:
        case TaskKind.WALK_COPY | TaskKind.COPY_FILES:
            _set_copying(lease, task)
        case TaskKind.WALK_REMOVE | TaskKind.REMOVE_FILES | TaskKind.REMOVE_DIRECTORY:
            _set_removing(lease, task)
        case TaskKind.WALK_CHANGE_MODE | TaskKind.CHANGE_MODE_OF_FILES | TaskKind.CHANGE_MODE_OF_DIRECTORY:
            _set_changing_mode(lease, task)
        case TaskKind.WALK_CHECKSUM | TaskKind.CHECKSUM_FILES:
            _set_summing(lease, task)
        case TaskKind.MAKE_DIRECTORY:
            lease.make_directory.CopyFrom(pb.MakeDirectoryWork(path=task.source_path, parents=task.recursive))
        case TaskKind.RENAME:
            destination = task.destination_path or b""
            lease.rename.CopyFrom(pb.RenameWork(source_path=task.source_path, destination_path=destination))
        case TaskKind.REMOVE_TEMPORARIES:
            lease.remove_temporaries.CopyFrom(
                pb.RemoveTemporariesWork(
                    task=task.cleans,
                    fence=task.cleans_fence,
                    destination_directory=task.source_path,
                    chunk=pb.EntryChunk(payload=task.payload) if task.payload else None,
                )
            )
        case TaskKind.LIST:
            lease.list.CopyFrom(pb.ListWork(path=task.source_path, depth=pb.ListWork.FromString(task.options).depth))
    return lease


def _chunk(task: LeasedTask) -> pb.EntryChunk:
    return pb.EntryChunk(payload=task.payload, entry_count=task.entry_count, total_bytes=task.total_bytes)


def _set_copying(lease: pb.Lease, task: LeasedTask) -> None:
    options = job_service_pb2.CopyOptions.FromString(task.options) if task.options else None
    overwrite = job_service_pb2.OverwritePolicy.ValueType(task.overwrite)
    destination = task.destination_path or b""
    if task.kind is TaskKind.WALK_COPY:
        lease.walk_copy.CopyFrom(
            pb.WalkCopyWork(
                source_path=task.source_path,
                destination_path=destination,
                root=task.root,
                recursive=task.recursive,
                cursor=task.cursor,
                overwrite=overwrite,
                options=options,
                path_below=task.path_below,
            )
        )
    else:
        lease.copy_files.CopyFrom(
            pb.CopyFilesWork(
                source_directory=task.source_path,
                destination_directory=destination,
                chunk=_chunk(task),
                done=task.settled,
                overwrite=overwrite,
                make_parents=task.below,
                options=options,
            )
        )


def _set_removing(lease: pb.Lease, task: LeasedTask) -> None:
    path = task.source_path
    match task.kind:
        case TaskKind.WALK_REMOVE:
            lease.walk_remove.CopyFrom(
                pb.WalkRemoveWork(
                    path=path,
                    root=task.root,
                    recursive=task.recursive,
                    cursor=task.cursor,
                    # Of a copy the options are its own; a removal has none.
                    dry_run=task.extraneous and job_service_pb2.CopyOptions.FromString(task.options).dry_run,
                )
            )
        case TaskKind.REMOVE_FILES:
            lease.remove_files.CopyFrom(pb.RemoveFilesWork(directory=path, chunk=_chunk(task), done=task.settled))
        case _:
            lease.remove_directory.CopyFrom(pb.RemoveDirectoryWork(path=path))


def _set_changing_mode(lease: pb.Lease, task: LeasedTask) -> None:
    asked = job_service_pb2.ChangeModeOperation.FromString(task.options)
    match task.kind:
        case TaskKind.WALK_CHANGE_MODE:
            lease.walk_tree.CopyFrom(
                _walk_tree(task, directories_too=True, directories_only=not asked.HasField("mode"))
            )
        case TaskKind.CHANGE_MODE_OF_FILES:
            if asked.HasField("mode"):  # else there is nothing to do, nor may a mode be made up: its worker refuses it
                lease.change_mode_of_files.CopyFrom(
                    pb.ChangeModeOfFilesWork(
                        directory=task.source_path, chunk=_chunk(task), done=task.settled, mode=asked.mode
                    )
                )
        case _:
            mode = asked.directory_mode if asked.HasField("directory_mode") else asked.mode
            lease.change_mode_of_directory.CopyFrom(pb.ChangeModeOfDirectoryWork(path=task.source_path, mode=mode))


def _set_summing(lease: pb.Lease, task: LeasedTask) -> None:
    if task.kind is TaskKind.WALK_CHECKSUM:
        lease.walk_tree.CopyFrom(_walk_tree(task, directories_too=False, directories_only=False))
        return
    lease.checksum_files.CopyFrom(
        pb.ChecksumFilesWork(
            directory=task.source_path,
            chunk=_chunk(task),
            done=task.settled,
            algorithm=job_service_pb2.ChecksumOperation.FromString(task.options).algorithm,
        )
    )


def _walk_tree(task: LeasedTask, *, directories_too: bool, directories_only: bool) -> pb.WalkTreeWork:
    return pb.WalkTreeWork(
        path=task.source_path,
        root=task.root,
        recursive=task.recursive,
        cursor=task.cursor,
        directories_too=directories_too,
        directories_only=directories_only,
    )
