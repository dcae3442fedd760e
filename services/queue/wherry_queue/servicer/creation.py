"""What a CreateJob request asks for, as a new job: sites resolved, paths absolute, everything checked."""

from __future__ import annotations

import time
from collections.abc import Sequence

from wherry.queue.v1 import job_service_pb2 as pb
from wherry.type.v1 import entry_pb2
from wherry_chassis.errors import FieldProblem, InvalidFields

from wherry_queue.jobs import NewJob, NewTask, copy_tasks, remove_tasks, rename_tasks
from wherry_queue.paths import absolute
from wherry_queue.servicer.messages import location_path
from wherry_queue.site_directory import ResolvedSite, SiteDirectory, signed_in
from wherry_queue.states import TaskKind

_Places = Sequence[tuple[str, entry_pb2.Location]]


async def new_job(request: pb.CreateJobRequest, user: str, directory: SiteDirectory) -> NewJob:
    """Returns the job that a request asks for.

    Raises:
        InvalidFields: a field is unfit.
        SiteNotFound, SignInRequired, SitesUnavailable: about its sites.
    """
    job = request.job
    operation = job.WhichOneof("operation") or ""
    places = _places(job, operation)
    source_site, destination_site = _sites(operation, places)
    sites = await signed_in(directory, user, [source_site, destination_site], time.time())
    paths = [_absolute(field, location, sites) for field, location in places]
    return NewJob(
        user=user,
        source_site=source_site,
        destination_site=destination_site,
        operation=operation,
        specification=_specification(job).SerializeToString(),
        tasks=_tasks(operation, paths, same_site=source_site == destination_site),
        request_id=request.request_id or None,
        priority=job.priority if job.HasField("priority") else 5,
        recursive=_recursive(job, operation),
        overwrite=job.copy.overwrite or pb.OVERWRITE_POLICY_NEVER,
    )


def _places(job: pb.Job, operation: str) -> _Places:
    """Returns all locations with their fields' names; for copies and renames source and destination in turn."""
    match operation:
        case "copy":
            return [
                (f"job.copy.items[{index}].{end}", getattr(item, end))
                for index, item in enumerate(job.copy.items)
                for end in ("source", "destination")
            ]
        case "remove":
            return [(f"job.remove.targets[{index}]", target) for index, target in enumerate(job.remove.targets)]
        case "make_directory":
            return [("job.make_directory.target", job.make_directory.target)]
        case "rename":
            return [("job.rename.source", job.rename.source), ("job.rename.destination", job.rename.destination)]
    raise InvalidFields(FieldProblem("job", "says what to do with one of copy, remove, make_directory, rename"))


def _sites(operation: str, places: _Places) -> tuple[str, str]:
    """Returns source and destination site; a job has one of each."""
    pairs = operation == "copy"
    source, destination = places[0][1].site, places[1 if pairs else 0][1].site
    for index, (field, location) in enumerate(places):
        expected = destination if pairs and index % 2 else source
        if location.site != expected:
            problem = f"is {location.site}, the one before it {expected}: a job stays with its sites; make another job"
            raise InvalidFields(FieldProblem(f"{field}.site", problem))
    return source, destination


def _absolute(field: str, location: entry_pb2.Location, sites: dict[str, ResolvedSite]) -> bytes:
    path = location_path(location)
    if not path:
        raise InvalidFields(FieldProblem(f"{field}.path", "is missing"))
    return absolute(path, sites[location.site].default_path, f"{field}.path")


def _tasks(operation: str, paths: Sequence[bytes], *, same_site: bool) -> Sequence[NewTask]:
    match operation:
        case "copy":
            return copy_tasks(list(zip(paths[::2], paths[1::2], strict=True)), same_site=same_site)
        case "remove":
            return remove_tasks(paths)
        case "make_directory":
            return [NewTask(TaskKind.MAKE_DIRECTORY, paths[0])]
        case _:
            return rename_tasks(paths[0], paths[1])


def _recursive(job: pb.Job, operation: str) -> bool:
    match operation:
        case "copy":
            return job.copy.recursive
        case "remove":
            return job.remove.recursive
        case _:
            return job.make_directory.parents


def _specification(job: pb.Job) -> pb.Job:
    """Returns only what the caller decides; the rest of the message is ours to fill."""
    kept = pb.Job()
    kept.CopyFrom(job)
    for field in ("name", "owner", "state", "waiting_reason", "progress", "failure", "create_time", "start_time",
                  "end_time", "priority"):  # fmt: skip
        kept.ClearField(field)
    return kept
