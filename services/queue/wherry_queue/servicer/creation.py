"""What requests for jobs ask for, as new jobs: sites resolved, paths absolute, everything checked."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wherry.queue.v1 import job_service_pb2 as pb
from wherry.type.v1 import entry_pb2
from wherry_chassis.errors import FieldProblem, InvalidFields

from wherry_queue.jobs import NewJob, NewTask, copy_tasks, remove_tasks, rename_tasks
from wherry_queue.paths import absolute
from wherry_queue.servicer.messages import location_path, shorten
from wherry_queue.site_directory import ResolvedSite, SiteDirectory, signed_in
from wherry_queue.states import TaskKind

DEFAULT_PRIORITY = 5
_SITES = 100
"""So many sites may be named in one question to the site service; the contract says so."""

_Places = Sequence[tuple[str, entry_pb2.Location]]


@dataclass(frozen=True, slots=True)
class _Draft:
    """A job as far as it can be looked at without asking anybody.

    Attributes:
        prefix: of its fields' names, as `requests[3].`.
    """

    request: pb.CreateJobRequest
    prefix: str
    operation: str
    places: _Places
    source_site: str
    destination_site: str


async def new_job(request: pb.CreateJobRequest, user: str, directory: SiteDirectory) -> NewJob:
    """Returns the job that a request asks for.

    Raises:
        InvalidFields: a field is unfit.
        SiteNotFound, SignInRequired, SitesUnavailable: about its sites.
    """
    return (await _new_jobs([_draft(request, "")], user, directory))[0]


async def new_jobs(requests: Sequence[pb.CreateJobRequest], user: str, directory: SiteDirectory) -> list[NewJob]:
    """Returns the jobs that requests ask for; raises as `new_job`, fields named with their request's place."""
    drafts = [_draft(request, f"requests[{index}].") for index, request in enumerate(requests)]
    return await _new_jobs(drafts, user, directory)


async def _new_jobs(drafts: Sequence[_Draft], user: str, directory: SiteDirectory) -> list[NewJob]:
    """Asks for all of the sites together."""
    named = [site for draft in drafts for site in (draft.source_site, draft.destination_site)]
    sites = await sites_of(named, user, directory)
    return [_new_job(draft, user, sites) for draft in drafts]


async def sites_of(names: Sequence[str], user: str, directory: SiteDirectory) -> dict[str, ResolvedSite]:
    """Returns sites by name, at all of which the user is signed in; raises as `new_job`."""
    wanted = list(dict.fromkeys(names))
    sites: dict[str, ResolvedSite] = {}
    for start in range(0, len(wanted), _SITES):
        sites |= await signed_in(directory, user, wanted[start : start + _SITES], time.time())
    return sites


def sessions_of(sites: Mapping[str, ResolvedSite], names: Sequence[str]) -> dict[str, int]:
    """Returns when the user's sessions at sites end, in milliseconds since the epoch."""
    ends = {name: sites[name].session_expires_s for name in names}
    return {name: int(end_s * 1000) for name, end_s in ends.items() if end_s is not None}


def _draft(request: pb.CreateJobRequest, prefix: str) -> _Draft:
    job = request.job
    operation = job.WhichOneof("operation") or ""
    places = _places(job, operation, f"{prefix}job")
    return _Draft(request, prefix, operation, places, *_sites(operation, places))


def _new_job(draft: _Draft, user: str, sites: Mapping[str, ResolvedSite]) -> NewJob:
    job, operation = draft.request.job, draft.operation
    paths = [_absolute(field, location, sites) for field, location in draft.places]
    kept = _specification(job)
    specification = kept.SerializeToString()
    return NewJob(
        user=user,
        source_site=draft.source_site,
        destination_site=draft.destination_site,
        operation=operation,
        specification=specification,
        summary=kept.SerializeToString() if shorten(kept) else None,
        tasks=_tasks(draft, paths),
        request_id=draft.request.request_id or None,
        priority=job.priority if job.HasField("priority") else DEFAULT_PRIORITY,
        recursive=_recursive(job, operation),
        overwrite=job.copy.overwrite or pb.OVERWRITE_POLICY_NEVER,
        item_count=len(paths) // 2 if operation == "copy" else len(paths) if operation == "remove" else 1,
        sessions=sessions_of(sites, (draft.source_site, draft.destination_site)),
    )


def _places(job: pb.Job, operation: str, at: str) -> _Places:
    """Returns all locations with their fields' names; for copies and renames source and destination in turn."""
    match operation:
        case "copy":
            return [
                (f"{at}.copy.items[{index}].{end}", getattr(item, end))
                for index, item in enumerate(job.copy.items)
                for end in ("source", "destination")
            ]
        case "remove":
            return [(f"{at}.remove.targets[{index}]", target) for index, target in enumerate(job.remove.targets)]
        case "make_directory":
            return [(f"{at}.make_directory.target", job.make_directory.target)]
        case "rename":
            return [(f"{at}.rename.source", job.rename.source), (f"{at}.rename.destination", job.rename.destination)]
    raise InvalidFields(FieldProblem(at, "says what to do with one of copy, remove, make_directory, rename"))


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


def _absolute(field: str, location: entry_pb2.Location, sites: Mapping[str, ResolvedSite]) -> bytes:
    path = location_path(location)
    if not path:
        raise InvalidFields(FieldProblem(f"{field}.path", "is missing"))
    return absolute(path, sites[location.site].default_path, f"{field}.path")


def _tasks(draft: _Draft, paths: Sequence[bytes]) -> Sequence[NewTask]:
    try:
        match draft.operation:
            case "copy":
                same_site = draft.source_site == draft.destination_site
                return copy_tasks(list(zip(paths[::2], paths[1::2], strict=True)), same_site=same_site)
            case "remove":
                return remove_tasks(paths)
            case "make_directory":
                return [NewTask(TaskKind.MAKE_DIRECTORY, paths[0])]
            case _:
                return rename_tasks(paths[0], paths[1])
    except InvalidFields as error:
        raise InvalidFields(
            *(FieldProblem(f"{draft.prefix}{one.field}", one.problem) for one in error.field_problems)
        ) from None


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
    operation = job.WhichOneof("operation")
    assert operation is not None
    kept = pb.Job()
    getattr(kept, operation).CopyFrom(getattr(job, operation))
    return kept
