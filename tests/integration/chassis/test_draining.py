"""A service that is drained: nobody who balances sends it anything more, and it answers what comes all the same."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2
from wherry.queue.v1 import job_service_pb2, job_service_pb2_grpc
from wherry_chassis.revocations import Revocations
from wherry_testing.access_tokens import TokenMaker
from wherry_testing.chassis_service import chassis_service, health_stub
from wherry_testing.pki import TestPki
from wherry_testing.waiting import PATIENCE_S

_DEADLINE_S = PATIENCE_S


async def _until(watch: Any, status: int) -> None:
    async with asyncio.timeout(_DEADLINE_S):
        while (await watch.read()).status != status:
            pass


@pytest.mark.row("W1")
async def test_a_drained_service_says_not_serving_at_once_and_answers_on(pki: TestPki, tmp_path: Path) -> None:
    for role in ("queue", "operator", "client"):
        pki.files(role)
    tokens, drained = TokenMaker(), asyncio.Event()
    async with (
        chassis_service(pki, tmp_path, tokens.verifier(Revocations()), drained=drained) as address,
        pki.channel("operator", address) as channel,
    ):
        names = ("", "wherry.queue.v1.JobService", "wherry.queue.v1.LeaseService")
        watches = [health_stub(channel).Watch(health_pb2.HealthCheckRequest(service=name)) for name in names]
        for watch in watches:
            await _until(watch, health_pb2.HealthCheckResponse.SERVING)
        drained.set()
        for watch in watches:
            await _until(watch, health_pb2.HealthCheckResponse.NOT_SERVING)
        jobs = job_service_pb2_grpc.JobServiceStub(channel)
        answer = await jobs.GetJob(
            job_service_pb2.GetJobRequest(name="jobs/1"),
            metadata=(("authorization", f"Bearer {tokens.token()}"),),
            timeout=_DEADLINE_S,
        )
        assert answer.name == "jobs/1"
