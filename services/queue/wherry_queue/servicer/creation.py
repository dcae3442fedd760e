"""What requests for jobs ask for, as new jobs: sites resolved, paths absolute, everything checked.

While the site service is away they are made all the same, checked as far as that goes: see `resolving`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wherry.queue.v1 import job_service_pb2 as pb
from wherry.type.v1 import entry_pb2
from wherry_chassis.errors import FieldProblem, InvalidFields

from wherry_queue.jobs import NewJob, NewTask, copy_tasks, remove_tasks, rename_tasks, tree_tasks
from wherry_queue.paths import absolute, as_known
from wherry_queue.servicer.messages import location_path
from wherry_queue.servicer.option_checks import check_copy
from wherry_queue.servicer.pages import SPECIFICATION_BYTES
from wherry_queue.site_directory import ResolvedSite, SiteDirectory, SitesUnavailable, check_protocols, signed_in
from wherry_queue.states import TaskKind

DEFAULT_PRIORITY = 5
_SHOWN_ITEMS = 10
"""So many items or targets a job shows in lists and watches of many."""
_SITES = 100
"""So many sites may be named in one question to the site service; the contract says so."""

OPERATIONS = [field.name for field in pb.Job.DESCRIPTOR.oneofs_by_name["operation"].fields]
"""What a job can be asked to do."""
_PAIRS = frozenset({"copy", "rename"})
"""Those that name a source and a destination for each item."""

Sites = Mapping[str, ResolvedSite]
"""By name."""
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
        SiteNotFound, SignInRequired, NoCommonProtocol: about its sites.
    """
    return (await _new_jobs([_draft(request, "")], user, directory))[0]


async def new_jobs(requests: Sequence[pb.CreateJobRequest], user: str, directory: SiteDirectory) -> list[NewJob]:
    """Returns the jobs that requests ask for; raises as `new_job`, fields named with their request's place."""
    drafts = [_draft(request, f"requests[{index}].") for index, request in enumerate(requests)]
    jobs = await _new_jobs(drafts, user, directory)
    _check_size("requests", sum(len(job.summary or job.specification) for job in jobs), "send them in smaller batches")
    return jobs


async def _new_jobs(drafts: Sequence[_Draft], user: str, directory: SiteDirectory) -> list[NewJob]:
    """Asks for all of the sites together; where that cannot be done now, for none of them."""
    named = [site for draft in drafts for site in (draft.source_site, draft.destination_site)]
    sites = await sites_if_known(named, user, directory)
    return [_new_job(draft, user, sites) for draft in drafts]


async def sites_of(names: Sequence[str], user: str, directory: SiteDirectory) -> dict[str, ResolvedSite]:
    """Returns sites by name, at all of which the user is signed in.

    Raises:
        SiteNotFound, SignInRequired, SitesUnavailable: about one of them.
    """
    wanted = list(dict.fromkeys(names))
    sites: dict[str, ResolvedSite] = {}
    for start in range(0, len(wanted), _SITES):
        sites |= await signed_in(directory, user, wanted[start : start + _SITES], time.time())
    return sites


async def sites_if_known(names: Sequence[str], user: str, directory: SiteDirectory) -> Sites | None:
    """Does the same; returns None where the site service cannot be asked: then the work is accepted unresolved."""
    try:
        return await sites_of(names, user, directory)
    except SitesUnavailable:
        return None


def sessions_of(sites: Sites, names: Sequence[str]) -> dict[str, int]:
    """Returns when the user's sessions at sites end, in milliseconds since the epoch."""
    ends = {name: sites[name].session_expires_s for name in names}
    return {name: int(end_s * 1000) for name, end_s in ends.items() if end_s is not None}


def _draft(request: pb.CreateJobRequest, prefix: str) -> _Draft:
    job = request.job
    operation = job.WhichOneof("operation") or ""
    places = _places(job, operation, f"{prefix}job")
    _check_options(job, operation, f"{prefix}job")
    return _Draft(request, prefix, operation, places, *_sites(operation, places))


def _new_job(draft: _Draft, user: str, sites: Sites | None) -> NewJob:
    job, operation = draft.request.job, draft.operation
    if sites is not None and operation == "copy":
        check_protocols(sites[draft.source_site], sites[draft.destination_site], job.copy.options.protocols)
    paths = [_path(field, location, sites) for field, location in draft.places]
    kept = _specification(job)
    specification = kept.SerializeToString()
    _check_size(f"{draft.prefix}job.{operation}", len(specification), "make several jobs of it")
    return NewJob(
        user=user,
        source_site=draft.source_site,
        destination_site=draft.destination_site,
        operation=operation,
        specification=specification,
        summary=kept.SerializeToString() if _shorten(kept) else None,
        tasks=_tasks(draft, paths),
        request_id=draft.request.request_id or None,
        priority=job.priority if job.HasField("priority") else DEFAULT_PRIORITY,
        attempts=job.attempts if job.HasField("attempts") else None,
        recursive=_recursive(job, operation),
        overwrite=job.copy.overwrite or pb.OVERWRITE_POLICY_NEVER,
        options=_options(job, operation),
        dry_run=job.copy.options.dry_run,
        delete_extraneous=job.copy.options.delete_extraneous,
        directories_only=operation == "change_mode" and not job.change_mode.HasField("mode"),
        item_count=len(paths) // 2 if operation in _PAIRS else len(paths),
        sessions={} if sites is None else sessions_of(sites, (draft.source_site, draft.destination_site)),
        unresolved=sites is None,
    )


def _check_size(field: str, size_bytes: int, remedy: str) -> None:
    """Refuses what could be taken in, but not be shown again."""
    if size_bytes > SPECIFICATION_BYTES:
        problem = f"has {size_bytes} bytes, and no more than {SPECIFICATION_BYTES} can be shown again: {remedy}"
        raise InvalidFields(FieldProblem(field, problem))


def _places(job: pb.Job, operation: str, at: str) -> _Places:
    """Returns all locations with their fields' names; for copies and renames source and destination in turn."""
    match operation:
        case "copy":
            return [
                (f"{at}.copy.items[{index}].{end}", getattr(item, end))
                for index, item in enumerate(job.copy.items)
                for end in ("source", "destination")
            ]
        case "remove" | "change_mode" | "checksum":
            targets = getattr(job, operation).targets
            return [(f"{at}.{operation}.targets[{index}]", target) for index, target in enumerate(targets)]
        case "make_directory":
            return [(f"{at}.make_directory.target", job.make_directory.target)]
        case "rename":
            return [(f"{at}.rename.source", job.rename.source), (f"{at}.rename.destination", job.rename.destination)]
    raise InvalidFields(FieldProblem(at, f"says what to do with one of {', '.join(OPERATIONS)}"))


def _check_options(job: pb.Job, operation: str, at: str) -> None:
    """Refuses what has no meaning together; raises InvalidFields."""
    if operation == "copy":
        check_copy(job.copy, f"{at}.copy")
    if operation == "change_mode" and not (
        job.change_mode.HasField("mode") or job.change_mode.HasField("directory_mode")
    ):
        problem = "is missing: say it, or directory_mode, or both"
        raise InvalidFields(FieldProblem(f"{at}.change_mode.mode", problem))


def _options(job: pb.Job, operation: str) -> bytes:
    """Returns how a job's tasks are done, as their workers need it."""
    match operation:
        case "copy":
            return job.copy.options.SerializeToString()
        case "change_mode" | "checksum":
            kept: pb.ChangeModeOperation | pb.ChecksumOperation = getattr(_specification(job), operation)
            del kept.targets[:]
            return kept.SerializeToString()
        case _:
            return b""


def _sites(operation: str, places: _Places) -> tuple[str, str]:
    """Returns source and destination site; a job has one of each."""
    pairs = operation == "copy"  # a rename stays within one site
    source, destination = places[0][1].site, places[1 if pairs else 0][1].site
    for index, (field, location) in enumerate(places):
        expected = destination if pairs and index % 2 else source
        if location.site != expected:
            problem = f"is {location.site}, the one before it {expected}: a job stays with its sites; make another job"
            raise InvalidFields(FieldProblem(f"{field}.site", problem))
    return source, destination


def path_at(location: entry_pb2.Location, sites: Sites | None, field: str) -> bytes:
    """Returns a location's path: absolute, or as it is known where its site is not."""
    path = location_path(location)
    return as_known(path, field) if sites is None else absolute(path, sites[location.site].default_path, field)


def _path(field: str, location: entry_pb2.Location, sites: Sites | None) -> bytes:
    if not location_path(location):
        raise InvalidFields(FieldProblem(f"{field}.path", "is missing"))
    return path_at(location, sites, f"{field}.path")


def _tasks(draft: _Draft, paths: Sequence[bytes]) -> Sequence[NewTask]:
    try:
        match draft.operation:
            case "copy":
                items = list(zip(paths[::2], paths[1::2], strict=True))
                deletes = draft.request.job.copy.options.delete_extraneous
                return copy_tasks(items, same_site=draft.source_site == draft.destination_site, deletes=deletes)
            case "remove":
                return remove_tasks(paths)
            case "change_mode":
                return tree_tasks(TaskKind.WALK_CHANGE_MODE, paths)
            case "checksum":
                return tree_tasks(TaskKind.WALK_CHECKSUM, paths)
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
        case "copy" | "remove" | "change_mode" | "checksum":
            return bool(getattr(job, operation).recursive)
        case _:
            return job.make_directory.parents


def _specification(job: pb.Job) -> pb.Job:
    """Returns only what the caller decides; the rest of the message is ours to fill."""
    operation = job.WhichOneof("operation")
    assert operation is not None
    kept = pb.Job()
    getattr(kept, operation).CopyFrom(getattr(job, operation))
    return kept


def _shorten(job: pb.Job) -> bool:
    """Leaves only the first few items or targets in a job; tells whether there were more."""
    operation = job.WhichOneof("operation") or ""
    named = job.copy.items if operation == "copy" else getattr(getattr(job, operation), "targets", [])
    more = len(named) > _SHOWN_ITEMS
    del named[_SHOWN_ITEMS:]
    return more
