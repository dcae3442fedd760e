"""The composition root of the queue service."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib.metadata import version

import grpc
from wherry.queue.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    file_service_pb2,
    file_service_pb2_grpc,
    job_service_pb2,
    job_service_pb2_grpc,
    lease_service_pb2,
    lease_service_pb2_grpc,
)
from wherry_chassis.access import build_table
from wherry_chassis.buildout import Buildout, BuildoutError, database_url
from wherry_chassis.command import material_files
from wherry_chassis.interceptors import chain
from wherry_chassis.revocations import Revocations, follow
from wherry_chassis.server import Service
from wherry_chassis.sql import Database
from wherry_chassis.tls import ServiceChannels
from wherry_chassis.tokens import RemoteKeys, TokenVerifier

from wherry_queue.attendance import Attendance
from wherry_queue.bulletin import Bulletin, Topic
from wherry_queue.dispatching import Dispatcher, LeaseTerms
from wherry_queue.hub import Hub
from wherry_queue.own_replica import OwnReplica
from wherry_queue.pairs import PairBounds
from wherry_queue.progress import ProgressBoard
from wherry_queue.progress_writing import ProgressWriter
from wherry_queue.resolving import SiteResolver
from wherry_queue.servicer.admin import AdminServicer
from wherry_queue.servicer.files import FileServicer
from wherry_queue.servicer.jobs import JobServicer
from wherry_queue.servicer.leases import LeaseKeyServicer, LeaseServicer
from wherry_queue.servicer.watching import JobShowing
from wherry_queue.session_follower import SessionFollower
from wherry_queue.settling import RetryPolicy
from wherry_queue.sign_in_checking import SignInChecker
from wherry_queue.site_client import GrpcSiteDirectory
from wherry_queue.store import resolving, sign_ins
from wherry_queue.store.deletion import forget_user
from wherry_queue.store.limits import Defaults
from wherry_queue.store.waiting import Circumstances
from wherry_queue.upkeep import Retention, Upkeep
from wherry_queue.watch_feed import WatchFeed


def build(buildout: Buildout, index: int) -> Service:  # noqa: ARG001  # replicas differ by their row
    """Puts the queue service together."""
    section = buildout.service.queue
    if len(section.listen) > 1 and database_url(section).startswith("sqlite"):
        raise BuildoutError(
            "service.queue: several replicas meet in their database, which SQLite cannot be; use PostgreSQL"
        )
    files = material_files(buildout, "queue")
    database = Database(database_url(section))
    user_channels = ServiceChannels(buildout.service.user.addresses, files)
    site_channels = ServiceChannels(buildout.service.site.addresses, files)
    revocations = Revocations()
    verifier = TokenVerifier(
        RemoteKeys(user_channels),
        issuer=buildout.tokens.issuer,
        audience=buildout.tokens.audience,
        revocations=revocations,
    )
    lease = buildout.lease
    hub, progress, bulletin = Hub(), ProgressBoard(), Bulletin(database)
    replica = OwnReplica(database, lease.ttl_s, version("wherry-queue"))
    dispatcher = Dispatcher(database, replica, bulletin, progress, _terms(buildout))
    writer = ProgressWriter(database, replica, progress, dispatcher.changed)
    upkeep = Upkeep(database, replica, dispatcher, _retention(buildout))
    directory = GrpcSiteDirectory(site_channels)
    checker = SignInChecker(database, sign_ins, directory, dispatcher.signed)
    follower = SessionFollower(site_channels, database, sign_ins, dispatcher.signed, dispatcher.end_sessions)
    policy = RetryPolicy(lease.attempts, lease.back_off_s)
    bulletin.subscribe(Topic.JOBS, hub.notify)

    def here() -> Circumstances:
        return Circumstances(dispatcher.terms.limits, dispatcher.has_workers)

    def resolved(job_ids: Sequence[int]) -> None:
        """Tells all replicas of jobs that go on, or have failed, now that their sites are known."""
        dispatcher.changed(job_ids)
        dispatcher.ready()

    resolver = SiteResolver(database, resolving, directory, resolved)
    feed = WatchFeed(database, bulletin, JobShowing(), here)
    drained = asyncio.Event()

    def leave() -> None:
        """Has everybody go elsewhere."""
        dispatcher.drain()
        feed.close()

    def leave_for_good() -> None:
        drained.set()
        leave()

    drain_grace_s = buildout.worker.drain_grace_s
    attendance = Attendance(database, replica, dispatcher, bulletin, leave_for_good, drain_grace_s=drain_grace_s)

    def register(server: grpc.aio.Server) -> None:
        bounds = PairBounds(section.pairs_per_job, section.staged_bytes_per_user)
        jobs = JobServicer(database, dispatcher, feed, bulletin, directory, bounds, heartbeat_s=section.heartbeat_s)
        job_service_pb2_grpc.add_JobServiceServicer_to_server(jobs, server)
        listings = FileServicer(
            database, dispatcher, hub, directory, wait_s=lease.listing_wait_s, heartbeat_s=section.heartbeat_s
        )
        file_service_pb2_grpc.add_FileServiceServicer_to_server(listings, server)
        leases = LeaseServicer(
            database,
            dispatcher,
            progress,
            policy,
            attendance.admit,
            checker.ask,
            stream_max_age_s=lease.stream_max_age_s,
        )
        lease_service_pb2_grpc.add_LeaseServiceServicer_to_server(leases, server)
        lease_service_pb2_grpc.add_LeaseKeyServiceServicer_to_server(LeaseKeyServicer(database), server)
        admin = AdminServicer(database, dispatcher, bulletin, dispatcher.terms.limits)
        admin_service_pb2_grpc.add_AdminServiceServicer_to_server(admin, server)

    async def forget(users: Sequence[str]) -> None:
        for user in users:
            dispatcher.held(await database.write(forget_user, user))

    return Service(
        name="queue",
        register=register,
        service_names=[
            service.full_name
            for module in (job_service_pb2, file_service_pb2, lease_service_pb2, admin_service_pb2)
            for service in module.DESCRIPTOR.services_by_name.values()
        ],
        interceptors=chain(build_table(buildout.access), verifier),
        database=database,
        background=[
            dispatcher.run,
            upkeep.run,
            writer.run,
            dispatcher.stops.run,
            bulletin.run,
            feed.run,
            attendance.run,
            checker.run,
            resolver.run,
            follower.run,
            lambda: follow(user_channels, revocations, forget),
        ],
        before_stop=leave,
        drained=drained,
        close=[replica.retire, bulletin.close, user_channels.close, site_channels.close],
    )


def _terms(buildout: Buildout) -> LeaseTerms:
    lease, limits = buildout.lease, buildout.limits
    defaults = Defaults(limits.user_tasks, limits.site_out_tasks, limits.site_in_tasks, limits.link_tasks)
    return LeaseTerms(lease.ttl_s, lease.heartbeat_s, defaults)


def _retention(buildout: Buildout) -> Retention:
    kept = buildout.retention
    return Retention(kept.listing_s, kept.jobs_s, kept.audit_s)
