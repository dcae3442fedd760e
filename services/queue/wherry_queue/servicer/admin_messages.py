"""Messages of AdminService out of what the domain and the store know."""

from __future__ import annotations

from typing import Any

from wherry.queue.v1 import admin_service_pb2 as pb
from wherry.queue.v1 import lease_service_pb2

from wherry_queue.banning import BanRecord
from wherry_queue.overview import ClassFigures, LinkFigures, Overview
from wherry_queue.servicer.messages import timestamp
from wherry_queue.states import WorkClass
from wherry_queue.store.limit_setting import SetLimit, Subject
from wherry_queue.store.limits import Kind
from wherry_queue.store.workers import ReplicaFigures

_CLASSES = {
    WorkClass.INTERACTIVE: lease_service_pb2.WORK_CLASS_INTERACTIVE,
    WorkClass.BULK: lease_service_pb2.WORK_CLASS_BULK,
}


def overview(found: Overview) -> pb.GetOverviewResponse:
    """Returns the overview."""
    return pb.GetOverviewResponse(
        classes=[_class(figures) for figures in found.classes],
        links=[_link(figures) for figures in found.links],
        jobs_open=found.jobs_open,
        jobs_waiting_for_sign_in=found.jobs_waiting_for_sign_in,
        jobs_paused=found.jobs_paused,
        oldest_waiting_time=timestamp(found.oldest_waiting_ms),
    )


def _class(figures: ClassFigures) -> pb.ClassOverview:
    return pb.ClassOverview(
        work_class=_CLASSES[figures.work_class],
        tasks_ready=figures.tasks_ready,
        tasks_running=figures.tasks_running,
        tasks_delayed=figures.tasks_delayed,
        active_users=figures.active_users,
        places=figures.places,
    )


def _link(figures: LinkFigures) -> pb.LinkOverview:
    return pb.LinkOverview(
        source_site=figures.source_site,
        destination_site=figures.destination_site,
        tasks_ready=figures.tasks_ready,
        tasks_running=figures.tasks_running,
        bytes_per_second=figures.bytes_per_second,
        limit=figures.limit or 0,
        unlimited=figures.limit is None,
    )


def replica(figures: ReplicaFigures, *, answering: bool) -> pb.Replica:
    """Returns a replica."""
    row = figures.row
    return pb.Replica(
        name=f"replicas/{row.id}",
        version=row.version,
        start_time=timestamp(row.started_ms),
        lease_time=timestamp(row.until_ms),
        tasks_running=figures.tasks_running,
        workers=figures.workers,
        draining=row.draining,
        answering=answering,
    )


def worker(row: Any) -> pb.Worker:
    """Returns a worker."""
    return pb.Worker(
        name=f"workers/{row.name}",
        version=row.version,
        replica=f"replicas/{row.replica_id}",
        connect_time=timestamp(row.connected_ms),
        heard_time=timestamp(row.heard_ms),
        interactive_places=row.interactive_places,
        bulk_places=row.bulk_places,
        tasks_running=row.held,
        # One that drains of itself says that it has no places.
        draining=row.draining or not (row.interactive_places or row.bulk_places),
        certificate_subject=row.subject,
        certificate_thumbprint=row.thumbprint,
    )


def subject_of(message: pb.LimitSubject) -> Subject:
    """Returns what a limit shall be about (one of them was validated to be there)."""
    match message.WhichOneof("subject"):
        case "link":
            return Subject(Kind.LINK, message.link.source_site, message.link.destination_site)
        case "site_out":
            return Subject(Kind.SITE_OUT, message.site_out)
        case "site_in":
            return Subject(Kind.SITE_IN, message.site_in)
        case _:
            return Subject(Kind.USER, message.user)


def _subject(subject: Subject) -> pb.LimitSubject:
    match subject.kind:
        case Kind.LINK:
            link = pb.LinkSubject(source_site=subject.name, destination_site=subject.destination)
            return pb.LimitSubject(link=link)
        case Kind.SITE_OUT:
            return pb.LimitSubject(site_out=subject.name)
        case Kind.SITE_IN:
            return pb.LimitSubject(site_in=subject.name)
        case Kind.USER:
            return pb.LimitSubject(user=subject.name)


def limit(found: SetLimit) -> pb.Limit:
    """Returns a limit."""
    message = pb.Limit(subject=_subject(found.subject), in_use=found.in_use)
    if found.cap is None:
        message.deployment_default = True
    elif found.cap < 0:
        message.unlimited = True
    else:
        message.tasks = found.cap
    return message


def ban(record: BanRecord) -> pb.Ban:
    """Returns a ban."""
    return pb.Ban(
        name=record.name, subject=record.subject, reason=record.reason, create_time=timestamp(record.created_ms)
    )


def audit_entry(row: Any) -> pb.AuditEntry:
    """Returns an entry of the audit log."""
    return pb.AuditEntry(
        name=f"auditEntries/{row.id}",
        time=timestamp(row.at_ms),
        actor=row.actor,
        act=row.act,
        subject=row.subject,
        details=row.details,
    )
