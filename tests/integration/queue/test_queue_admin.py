"""AdminService over mutual TLS: what operators see and do, and that nobody else does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from wherry.queue.v1 import admin_service_pb2 as pb
from wherry.queue.v1 import job_service_pb2, lease_service_pb2
from wherry_testing.pki import TestPki
from wherry_testing.queue_service import (
    DEADLINE_S,
    QueueServiceUnderTest,
    copy_request,
    read_to_end,
    running_queue_service,
)
from wherry_testing.refusals import refused

pytestmark = pytest.mark.timeout(180)

METHODS = list(pb.DESCRIPTOR.services_by_name["AdminService"].methods)
LINK = pb.LimitSubject(link=pb.LinkSubject(source_site="sites/a", destination_site="sites/b"))


@pytest.fixture
async def replicas(
    pki: TestPki, fresh_postgres: Callable[[str], str], tmp_path: Path
) -> AsyncIterator[tuple[QueueServiceUnderTest, QueueServiceUnderTest]]:
    """Two of one database."""
    url = fresh_postgres("wherry_queue")
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(running_queue_service(pki, url, tmp_path / "1"))
        second = await stack.enter_async_context(running_queue_service(pki, url, tmp_path / "2"))
        yield first, second


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    """Asks again and again until something is so; returns what it is."""
    ends_s = time.monotonic() + DEADLINE_S
    while not (found := await condition()):
        assert time.monotonic() < ends_s, "it never was"
        await asyncio.sleep(0.05)
    return found


async def worker_listed(admin: Any, name: str) -> pb.Worker:
    """Returns a worker with places as the service shows it."""

    async def listed() -> pb.Worker | None:
        workers = (await admin.ListWorkers(pb.ListWorkersRequest())).workers
        return next((one for one in workers if one.name == f"workers/{name}" and one.bulk_places), None)

    found: pb.Worker = await until(listed)
    return found


async def audited(admin: Any) -> list[tuple[str, str]]:
    entries = (await admin.ListAuditEntries(pb.ListAuditEntriesRequest())).entries
    return [(entry.act, entry.subject) for entry in entries]


@pytest.mark.row("A1")
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
async def test_only_the_operators_certificate_opens_it(queue: QueueServiceUnderTest, method: Any) -> None:
    for name in ("client", "worker", "gateway", "user", "site", "queue"):
        async with queue.channel(name) as channel:
            call: Any = channel.unary_unary(
                f"/wherry.queue.v1.AdminService/{method.name}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=GetMessageClass(method.output_type).FromString,
            )
            with refused("PERMISSION_DENIED", "ACCESS_DENIED"):
                await call(GetMessageClass(method.input_type)(), metadata=queue.as_user())


async def test_unfit_requests_name_nothing_that_could_be_there(queue: QueueServiceUnderTest) -> None:
    async with queue.admin() as admin:
        for call in (
            admin.SetLimit(pb.SetLimitRequest(subject=LINK)),
            admin.SetLimit(pb.SetLimitRequest(subject=LINK, tasks=-1)),
            admin.SetLimit(pb.SetLimitRequest(subject=pb.LimitSubject(), tasks=1)),
            admin.SetWeight(pb.SetWeightRequest(user="users/a", weight=0.0)),
            admin.CreateBan(pb.CreateBanRequest(subject="jobs/1", reason="x")),
            admin.CreateBan(pb.CreateBanRequest(subject="users/a")),
            admin.DrainReplica(pb.DrainReplicaRequest(name="replicas/one")),
            admin.ListAuditEntries(pb.ListAuditEntriesRequest(page_token="newest")),
        ):
            with refused("INVALID_ARGUMENT", "INVALID_FIELDS"):
                await call
        large = "9" * 40
        not_there: list[tuple[Any, str]] = [
            (admin.DrainWorker(pb.DrainWorkerRequest(name="workers/none")), "WORKER_NOT_FOUND"),
            (admin.DrainReplica(pb.DrainReplicaRequest(name=f"replicas/{large}")), "REPLICA_NOT_FOUND"),
            (admin.DeleteBan(pb.DeleteBanRequest(name=f"bans/{large}")), "BAN_NOT_FOUND"),
            (admin.SetWeight(pb.SetWeightRequest(user="users/none", weight=1)), "SUBJECT_NOT_FOUND"),
        ]
        for asked, reason in not_there:
            with refused("NOT_FOUND", reason):
                await asked
        assert await audited(admin) == []


async def test_the_overview_shows_the_work_its_link_and_the_places(queue: QueueServiceUnderTest) -> None:
    async with queue.jobs() as jobs, queue.admin() as admin, queue.worker(interactive=2, bulk=1) as worker:
        first = await jobs.CreateJob(copy_request(), metadata=queue.as_user())
        lease = await worker.lease()
        second = await jobs.CreateJob(copy_request(), metadata=queue.as_user())
        await jobs.CreateJob(copy_request(), metadata=queue.as_user("b"))
        await jobs.PauseJob(job_service_pb2.PauseJobRequest(name=second.name), metadata=queue.as_user())
        await worker_listed(admin, "w1")
        found = await admin.GetOverview(pb.GetOverviewRequest())
        interactive, bulk = found.classes
        assert (interactive.work_class, interactive.places) == (lease_service_pb2.WORK_CLASS_INTERACTIVE, 2)
        assert bulk == pb.ClassOverview(
            work_class=lease_service_pb2.WORK_CLASS_BULK, tasks_ready=1, tasks_running=1, active_users=1, places=1
        )
        assert list(found.links) == [
            pb.LinkOverview(
                source_site="sites/a", destination_site="sites/b", tasks_ready=1, tasks_running=1, unlimited=True
            )
        ]
        assert (found.jobs_open, found.jobs_paused, found.jobs_waiting_for_sign_in) == (3, 1, 0)
        assert found.oldest_waiting_time.ToMilliseconds() > first.create_time.ToMilliseconds()
        await worker.settle(lease)


async def test_a_limit_set_while_work_runs_holds_at_once_and_lifted_lets_it_on(queue: QueueServiceUnderTest) -> None:
    async with queue.jobs() as jobs, queue.admin() as admin:
        for _ in range(4):
            await jobs.CreateJob(copy_request(), metadata=queue.as_user())
        async with queue.worker(bulk=1) as one:
            first = await one.lease()
            limit = await admin.SetLimit(pb.SetLimitRequest(subject=LINK, tasks=2))
            assert limit == pb.Limit(subject=LINK, tasks=2, in_use=1)
            async with queue.worker("w2", bulk=4) as two:
                await two.lease()
                overview = await admin.GetOverview(pb.GetOverviewRequest())
                assert (overview.links[0].tasks_running, overview.links[0].limit) == (2, 2)
                assert two.leases_waiting() == 0
                assert list((await admin.ListLimits(pb.ListLimitsRequest())).limits) == [
                    pb.Limit(subject=LINK, tasks=2, in_use=2)
                ]
                lifted = await admin.SetLimit(pb.SetLimitRequest(subject=LINK, unlimited=True))
                assert lifted.unlimited
                await two.lease()
                await two.lease()
                default = await admin.SetLimit(pb.SetLimitRequest(subject=LINK, deployment_default=True))
                assert default.deployment_default
            await one.settle(first)
        assert list((await admin.ListLimits(pb.ListLimitsRequest())).limits) == []


async def test_weights_are_set(queue: QueueServiceUnderTest) -> None:
    async with queue.jobs() as jobs, queue.admin() as admin:
        await jobs.CreateJob(copy_request(), metadata=queue.as_user())
        answer = await admin.SetWeight(pb.SetWeightRequest(user="users/a", weight=2.5))
        assert answer == pb.SetWeightResponse(user="users/a", weight=2.5)


@pytest.mark.parametrize(
    ("subject", "code", "reason"),
    [("users/a", "PERMISSION_DENIED", "USER_SUSPENDED"), ("sites/b", "FAILED_PRECONDITION", "SITE_SUSPENDED")],
)
async def test_a_ban_stops_what_runs_lets_nothing_in_and_lifted_lets_it_go_on(
    queue: QueueServiceUnderTest, subject: str, code: str, reason: str
) -> None:
    async with queue.jobs() as jobs, queue.admin() as admin, queue.worker(bulk=1) as worker:
        request = copy_request()
        job = await jobs.CreateJob(request, metadata=queue.as_user())
        lease = await worker.lease()
        ban = await admin.CreateBan(pb.CreateBanRequest(subject=subject, reason="The disks are full."))
        await worker.until(lambda: worker.cancelled)
        assert (worker.cancelled[0].lease, worker.cancelled[0].reason) == (lease.lease, "SUSPENDED")
        with refused(code, reason) as refusal:
            await jobs.CreateJob(copy_request(), metadata=queue.as_user())
        assert "The disks are full." in (refusal.error.details() or "")
        again = await jobs.CreateJob(request, metadata=queue.as_user())
        assert again.name == job.name, "what was accepted before is answered alike"
        await worker.settle(lease, lease_service_pb2.OUTCOME_CANCELLED)
        assert list((await admin.ListBans(pb.ListBansRequest())).bans) == [ban]
        await admin.DeleteBan(pb.DeleteBanRequest(name=ban.name))
        resumed = await worker.lease()
        assert resumed.lease.task == lease.lease.task
        assert list((await admin.ListBans(pb.ListBansRequest())).bans) == []
        await jobs.CreateJob(copy_request(), metadata=queue.as_user())


@pytest.mark.row("W1")
async def test_a_drained_worker_ends_what_it_holds_and_gets_nothing_more(queue: QueueServiceUnderTest) -> None:
    async with queue.jobs() as jobs, queue.admin() as admin, queue.worker(bulk=2, version="2.1") as worker:
        await jobs.CreateJob(copy_request(), metadata=queue.as_user())
        lease = await worker.lease()
        shown = await worker_listed(admin, "w1")
        assert (shown.version, shown.interactive_places, shown.bulk_places, shown.draining) == ("2.1", 1, 2, False)
        await admin.DrainWorker(pb.DrainWorkerRequest(name="workers/w1"))
        await worker.until(lambda: worker.drained)
        await jobs.CreateJob(copy_request(), metadata=queue.as_user())
        async with queue.worker("w2", bulk=1) as other:
            await other.lease()
            assert worker.leases_waiting() == 0
        assert (await worker_listed(admin, "w1")).draining
        assert not worker.cancelled
        assert await worker.settle(lease) == lease_service_pb2.SETTLEMENT_STATUS_ACCEPTED


async def test_a_worker_that_has_gone_is_listed_no_more(queue: QueueServiceUnderTest) -> None:
    async with queue.admin() as admin:
        async with queue.worker():
            await worker_listed(admin, "w1")

        async def gone() -> bool:
            return not (await admin.ListWorkers(pb.ListWorkersRequest())).workers

        await until(gone)


@pytest.mark.row("W1")
async def test_a_worker_is_drained_by_whichever_replica_is_asked(
    replicas: tuple[QueueServiceUnderTest, QueueServiceUnderTest],
) -> None:
    here, there = replicas
    async with here.admin() as admin, there.worker(bulk=1) as worker:
        shown = await worker_listed(admin, "w1")
        listed = (await admin.ListReplicas(pb.ListReplicasRequest())).replicas
        assert len(listed) == 2
        (home,) = [replica for replica in listed if replica.workers]
        assert shown.replica == home.name
        assert not home.answering
        assert home.version
        await admin.DrainWorker(pb.DrainWorkerRequest(name="workers/w1"))
        await worker.until(lambda: worker.drained)


async def test_a_ban_reaches_what_runs_at_another_replica(
    replicas: tuple[QueueServiceUnderTest, QueueServiceUnderTest],
) -> None:
    here, there = replicas
    async with here.jobs() as jobs, here.admin() as admin, there.worker(bulk=1) as worker:
        await jobs.CreateJob(copy_request(), metadata=here.as_user())
        lease = await worker.lease()
        await admin.CreateBan(pb.CreateBanRequest(subject="sites/a", reason="It is being moved."))
        await worker.until(lambda: worker.cancelled)
        assert (worker.cancelled[0].lease, worker.cancelled[0].reason) == (lease.lease, "SUSPENDED")


@pytest.mark.row("W1")
async def test_a_drained_replica_sends_everybody_elsewhere_and_answers_what_is_left(
    replicas: tuple[QueueServiceUnderTest, QueueServiceUnderTest],
) -> None:
    here, there = replicas
    async with here.jobs() as jobs, there.jobs() as there_jobs, here.admin() as admin:
        job = await jobs.CreateJob(copy_request(), metadata=here.as_user())
        async with there.worker(bulk=1) as worker:
            lease = await worker.lease()
            name = (await worker_listed(admin, "w1")).replica
            watch = there_jobs.WatchJob(job_service_pb2.WatchJobRequest(name=job.name), metadata=there.as_user())
            await watch.read()
            await admin.DrainReplica(pb.DrainReplicaRequest(name=name))
            await worker.until(lambda: worker.closed)
            await asyncio.wait_for(_ended(watch), DEADLINE_S)
        async with there.channel("operator") as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)

            async def not_serving() -> bool:
                for service in ("", "wherry.queue.v1.JobService"):
                    answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
                    if answer.status != health_pb2.HealthCheckResponse.NOT_SERVING:
                        return False
                return True

            await until(not_serving)
        with refused("UNAVAILABLE", "REPLICA_ENDING"):
            async with there.worker("w2") as late:
                pytest.fail(f"{late.name} was taken")
        async with here.worker(bulk=1, held=[lease.lease]) as again:
            assert not again.opened.lost
            assert await again.settle(lease) == lease_service_pb2.SETTLEMENT_STATUS_ACCEPTED
        answered = await there_jobs.GetJob(job_service_pb2.GetJobRequest(name=job.name), metadata=there.as_user())
        assert answered.name == job.name
        shown = {one.name: one for one in (await admin.ListReplicas(pb.ListReplicasRequest())).replicas}
        assert {one.name: one.draining for one in shown.values()} == {one: one == name for one in shown}, (
            "the other one was drained, or this one is not shown so"
        )
        assert not (await _own(here)).draining


async def _ended(watch: Any) -> None:
    """Waits until a stream has ended, however it does."""
    try:
        await read_to_end(watch)
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.UNAVAILABLE, error  # noqa: PT017  # any end is well but a fault


async def _own(service: QueueServiceUnderTest) -> pb.Replica:
    async with service.admin() as admin:
        listed = (await admin.ListReplicas(pb.ListReplicasRequest())).replicas
    (own,) = [replica for replica in listed if replica.answering]
    return own


async def test_everything_that_operators_do_is_written_down_with_their_certificates_subject(
    queue: QueueServiceUnderTest,
) -> None:
    async with queue.jobs() as jobs, queue.admin() as admin, queue.worker():
        await jobs.CreateJob(copy_request(), metadata=queue.as_user())
        await worker_listed(admin, "w1")
        replica = (await _own(queue)).name
        await admin.SetLimit(pb.SetLimitRequest(subject=pb.LimitSubject(site_in="sites/b"), tasks=5))
        await admin.SetWeight(pb.SetWeightRequest(user="users/a", weight=2))
        ban = await admin.CreateBan(pb.CreateBanRequest(subject="users/a", reason="Too much."))
        await admin.DeleteBan(pb.DeleteBanRequest(name=ban.name))
        await admin.DrainWorker(pb.DrainWorkerRequest(name="workers/w1"))
        await admin.DrainReplica(pb.DrainReplicaRequest(name=replica))
        assert list(reversed(await audited(admin))) == [
            ("SetLimit", "sites/b (in)"), ("SetWeight", "users/a"), ("CreateBan", "users/a"), ("DeleteBan", "users/a"),
            ("DrainWorker", "workers/w1"), ("DrainReplica", replica),
        ]  # fmt: skip
        entries: list[pb.AuditEntry] = []
        token = ""
        while not entries or token:
            page = await admin.ListAuditEntries(pb.ListAuditEntriesRequest(page_size=4, page_token=token))
            assert len(page.entries) <= 4
            entries += page.entries
            token = page.next_page_token
        assert len(entries) == 6
        (subject,) = queue.pki.roles["operator"]
        assert {entry.actor for entry in entries} == {subject}
        assert entries[3].details == "Too much."


@pytest.mark.row("A1")
async def test_no_two_workers_with_different_certificates_have_one_name(
    replicas: tuple[QueueServiceUnderTest, QueueServiceUnderTest],
) -> None:
    first, second = replicas
    async with first.admin() as admin:
        async with first.worker("w1", bulk=1):
            known = await worker_listed(admin, "w1")
            assert known.certificate_subject.endswith("worker")
            assert len(known.certificate_thumbprint) == 64
            async with first.worker("w1", bulk=1), second.worker("w1", bulk=1):
                pass  # its own, as after a restart
            first.pki.issue("worker")
            for replica in replicas:
                with refused("ALREADY_EXISTS", "WORKER_NAME_TAKEN"):
                    async with replica.worker("w1"):
                        pass
                async with replica.worker("w2"):
                    pass

        async def gone() -> bool:
            return not (await admin.ListWorkers(pb.ListWorkersRequest())).workers

        await until(gone)
        async with second.worker("w1", bulk=1):
            assert (await worker_listed(admin, "w1")).certificate_thumbprint != known.certificate_thumbprint
