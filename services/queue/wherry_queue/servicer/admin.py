"""AdminService."""

from __future__ import annotations

from typing import Any

from google.protobuf.empty_pb2 import Empty
from wherry.queue.v1 import admin_service_pb2 as pb
from wherry.queue.v1 import admin_service_pb2_grpc
from wherry_chassis.identity import current_caller
from wherry_chassis.logging import logger
from wherry_chassis.sql import Database

from wherry_queue.bulletin import Bulletin, Topic
from wherry_queue.dispatching import Dispatcher
from wherry_queue.limiting import UNLIMITED
from wherry_queue.servicer import admin_messages, messages
from wherry_queue.servicer.pages import fitting
from wherry_queue.store import audit, banning, limit_setting, overview, workers
from wherry_queue.store.limits import Defaults

_SLICE = 300
"""So many jobs are held, or let go, in one transaction."""


class AdminServicer(admin_service_pb2_grpc.AdminServiceServicer):
    """What operators see of the queue and do to it."""

    def __init__(self, database: Database, dispatcher: Dispatcher, bulletin: Bulletin, defaults: Defaults) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._bulletin = bulletin
        self._defaults = defaults

    async def GetOverview(self, request: pb.GetOverviewRequest, context: Any) -> pb.GetOverviewResponse:
        """Returns the queue at a moment."""
        count = messages.page_size(request.link_count)
        return admin_messages.overview(await self._database.read(overview.overview, count, self._defaults))

    async def ListReplicas(self, request: pb.ListReplicasRequest, context: Any) -> pb.ListReplicasResponse:
        """Lists the replicas that live."""
        found = await self._database.read(workers.list_replicas)
        answering = self._dispatcher.replica_id
        return pb.ListReplicasResponse(
            replicas=[admin_messages.replica(one, answering=one.row.id == answering) for one in found]
        )

    async def ListWorkers(self, request: pb.ListWorkersRequest, context: Any) -> pb.ListWorkersResponse:
        """Lists the workers."""
        rows = await self._database.read(workers.list_workers)
        return pb.ListWorkersResponse(workers=[admin_messages.worker(row) for row in rows])

    async def DrainReplica(self, request: pb.DrainReplicaRequest, context: Any) -> Empty:
        """Has a replica send everybody elsewhere."""
        await self._database.write(workers.drain_replica, _actor(), _row_id(request.name))
        self._bulletin.say(Topic.DRAIN)
        _log("DrainReplica", request.name)
        return Empty()

    async def DrainWorker(self, request: pb.DrainWorkerRequest, context: Any) -> Empty:
        """Has a worker end what it runs."""
        await self._database.write(workers.drain_worker, _actor(), _id_of(request.name))
        self._bulletin.say(Topic.DRAIN)
        _log("DrainWorker", request.name)
        return Empty()

    async def ListLimits(self, request: pb.ListLimitsRequest, context: Any) -> pb.ListLimitsResponse:
        """Lists the limits that were set."""
        found = await self._database.read(limit_setting.limits_set)
        return pb.ListLimitsResponse(limits=[admin_messages.limit(one) for one in found])

    async def SetLimit(self, request: pb.SetLimitRequest, context: Any) -> pb.Limit:
        """Sets a limit."""
        caps = {"tasks": request.tasks, "unlimited": UNLIMITED, "deployment_default": None}
        cap = caps[request.WhichOneof("value") or "deployment_default"]
        subject = admin_messages.subject_of(request.subject)
        found = await self._database.write(limit_setting.set_limit, _actor(), subject, cap, self._defaults)
        self._dispatcher.ready()  # it may let more start
        _log("SetLimit", str(subject))
        return admin_messages.limit(found)

    async def SetWeight(self, request: pb.SetWeightRequest, context: Any) -> pb.SetWeightResponse:
        """Sets a user's weight."""
        await self._database.write(limit_setting.set_weight, _actor(), request.user, request.weight)
        _log("SetWeight", request.user)
        return pb.SetWeightResponse(user=request.user, weight=request.weight)

    async def CreateBan(self, request: pb.CreateBanRequest, context: Any) -> pb.Ban:
        """Bans a user or a site; when this answers, all of its jobs are held."""
        record = await self._database.write(banning.create, _actor(), request.subject, request.reason)
        _log("CreateBan", record.subject)
        await self._settle_bans()
        return admin_messages.ban(record)

    async def ListBans(self, request: pb.ListBansRequest, context: Any) -> pb.ListBansResponse:
        """Lists bans."""
        return pb.ListBansResponse(
            bans=[admin_messages.ban(record) for record in await self._database.read(banning.bans)]
        )

    async def DeleteBan(self, request: pb.DeleteBanRequest, context: Any) -> Empty:
        """Lifts a ban; when this answers, its jobs go on."""
        record = await self._database.write(banning.delete, _actor(), _row_id(request.name))
        _log("DeleteBan", record.subject)
        await self._settle_bans()
        return Empty()

    async def _settle_bans(self) -> None:
        """Holds and lets go what the bans say; if this is cut short, the dispatcher's sweep goes on with it."""
        while jobs := await self._database.write(banning.settle, _SLICE):
            self._dispatcher.held(jobs)

    async def ListAuditEntries(self, request: pb.ListAuditEntriesRequest, context: Any) -> pb.ListAuditEntriesResponse:
        """Lists what operators have done."""
        limit = messages.page_size(request.page_size)
        before = messages.page_key(request.page_token)
        rows = await self._database.read(audit.entries, before, limit)
        found = fitting(admin_messages.audit_entry(row) for row in rows)
        more = str(rows[len(found) - 1].id) if len(rows) == limit or len(found) < len(rows) else ""
        return pb.ListAuditEntriesResponse(entries=found, next_page_token=more)


def _actor() -> str:
    return current_caller().peer.subject


def _log(act: str, subject: str) -> None:
    logger().info("operator_act", actor=_actor(), act=act, subject=subject)


def _id_of(name: str) -> str:
    """Returns what stands behind the collection in a resource name (its pattern was validated)."""
    return name.split("/", 1)[1]


def _row_id(name: str) -> int:
    """Returns the number in a resource name; 0, which is nobody's, for one larger than a database counts."""
    digits = _id_of(name)
    return int(digits) if len(digits) < 19 else 0
