"""What operators do meanwhile: they set limits, ban and lift bans, and drain workers and replicas."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import grpc
from wherry.queue.v1 import admin_service_pb2 as pb
from wherry.queue.v1 import admin_service_pb2_grpc as rpc
from wherry_testing.bare_deployment import SITES, BareDeployment
from wherry_testing.chaos.asking import CALL_S, Asker, Refused
from wherry_testing.chaos.breaking import Breaker
from wherry_testing.chaos.plan import Ban, Drain, LiftBan, SetLimit

_AGAIN_S = 0.3


class Operator:
    """An operator, who asks whichever replica answers.

    Attributes:
        done: how often what was done.
    """

    def __init__(self, centre: BareDeployment, asker: Asker, breaker: Breaker, fault: Callable[[str], None]) -> None:
        self._centre = centre
        self._asker = asker
        self._breaker = breaker
        self._fault = fault
        self._bans: dict[int, asyncio.Future[str]] = {}
        self.done: Counter[str] = Counter()

    async def set_limit(self, act: SetLimit) -> None:
        """Limits a link, or no longer."""
        link = pb.LinkSubject(
            source_site=f"sites/{SITES[act.source]}", destination_site=f"sites/{SITES[act.destination]}"
        )
        request = pb.SetLimitRequest(subject=pb.LimitSubject(link=link))
        if act.tasks is None:
            request.deployment_default = True
        else:
            request.tasks = act.tasks
        await self._ask("SetLimit", request)

    async def ban(self, act: Ban, subject: str) -> None:
        """Bans `users/{user}` or `sites/{site}`."""
        ban = await self._ask("CreateBan", pb.CreateBanRequest(subject=subject, reason="There is chaos."))
        self._ban(act.number).set_result(ban.name)
        self.done[f"ban {act.kind}"] += 1

    async def lift(self, act: LiftBan) -> None:
        """Lifts a ban, once it is there."""
        name = await self._ban(act.number)
        try:
            await self._ask("DeleteBan", pb.DeleteBanRequest(name=name))
        except Refused as refusal:
            if not (refusal.doubtful and refusal.reason == "BAN_NOT_FOUND"):
                self._fault(f"{name} could not be lifted: {refusal}")
        self.done["lift ban"] += 1

    async def drain(self, act: Drain) -> None:
        """Drains a process of a kind, as soon as one is there."""
        drain = self._drain_worker if act.party == "worker" else self._drain_replica
        while not await drain(act):  # noqa: ASYNC110  # what is waited for lies in other processes
            await asyncio.sleep(_AGAIN_S)
        self.done[f"drain {act.party}"] += 1

    async def _drain_worker(self, act: Drain) -> bool:
        up = [one for one in self._centre.workers if one.running and one.events("stream_opened")]
        if not up:
            return False
        worker = up[act.number % len(up)]
        pid, names = worker.pid, worker.events("worker_started")
        if not names:  # it has just been killed, and started again
            return False
        self._breaker.may_leave(worker, pid)
        try:
            await self._ask("DrainWorker", pb.DrainWorkerRequest(name=f"workers/{names[0]['worker']}"))
        except Refused as refusal:
            if refusal.reason != "WORKER_NOT_FOUND":
                self._fault(f"{worker.name} could not be drained: {refusal}")
            return refusal.doubtful  # it may have been told, and gone
        self._breaker.must_leave(worker, pid)
        return True

    async def _drain_replica(self, act: Drain) -> bool:
        name = f"queue-{act.number % self._centre.replicas}"
        process = self._centre.services[name]
        if not process.running:
            return False
        pid = process.pid
        try:
            stub: Any = rpc.AdminServiceStub(self._centre.channel(name))
            listed = await stub.ListReplicas(pb.ListReplicasRequest(), timeout=CALL_S)
        except grpc.aio.AioRpcError:
            return False
        own = [replica.name for replica in listed.replicas if replica.answering]
        if not own:
            return False
        try:
            await self._ask("DrainReplica", pb.DrainReplicaRequest(name=own[0]))
        except Refused as refusal:
            if refusal.reason != "REPLICA_NOT_FOUND":
                self._fault(f"{own[0]} could not be drained: {refusal}")
            return False
        await asyncio.sleep(act.stay_s)
        self._breaker.end(process, pid)
        return True

    def _ban(self, number: int) -> asyncio.Future[str]:
        if number not in self._bans:
            self._bans[number] = asyncio.get_running_loop().create_future()
        return self._bans[number]

    async def _ask(self, method: str, request: Any) -> Any:
        return await self._asker.ask(
            lambda channel: getattr(rpc.AdminServiceStub(channel), method)(request, timeout=CALL_S)
        )
