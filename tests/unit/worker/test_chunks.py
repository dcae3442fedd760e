"""Chunks copied and removed, with engines whose doors are folders, and what becomes of them when things go wrong."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wherry_fakes.pretending_engines import Pretence, PretendingEngine, PretendingEngines
from wherry_fakes.worker_access import folder_access, folder_pool
from wherry_fakes.worker_ports import FakeQueue, FakeSites
from wherry_testing.waiting import PATIENCE_S, until
from wherry_worker import running
from wherry_worker.access import Endpoint, SiteAccess
from wherry_worker.attempt import Attempt
from wherry_worker.bitmap import Bitmap
from wherry_worker.copying import Tally
from wherry_worker.engine.messages import Finished, ItemDone, Message, Overwrite, Problem, Progress, Task
from wherry_worker.engine_process import EngineLimits, EngineTaskFailed
from wherry_worker.engines import EngineKey, Plan
from wherry_worker.planner import NoCommonProtocol, plan
from wherry_worker.ports import CredentialRefused, SiteSessionExpired, SiteUnavailable
from wherry_worker.running import TaskRunner
from wherry_worker.work import (
    ChangeModes,
    ChunkItem,
    CopyChunk,
    CopyRules,
    Lease,
    LeaseRef,
    Outcome,
    RemoveChunk,
    Settlement,
    SumChunk,
    Work,
    WorkClass,
)


class Bench:
    """A runner over two folders."""

    def __init__(self, tmp_path: Path, limits: EngineLimits) -> None:
        self.source, self.destination = tmp_path / "a", tmp_path / "b"
        self.source.mkdir()
        self.destination.mkdir()
        self.pool = folder_pool(tmp_path, limits)
        self.sites = FakeSites(folder_access("sites/a", self.source), folder_access("sites/b", self.destination))
        self.runner = TaskRunner(self.sites, FakeQueue(), self.pool, {"folder": "folder"})

    def attempt(self, work: Work, *, fence: int = 1, seconds: float = 30) -> Attempt:
        ref = LeaseRef("jobs/1/tasks/2", fence)
        deadline = time.monotonic() + seconds
        return Attempt(Lease(ref, deadline, "t", WorkClass.BULK, "users/1", "sites/a", "sites/b", 1, work))

    def chunk(self, *names: str, done: bytes = b"", overwrite: Overwrite = "never") -> CopyChunk:
        for name in names:
            if not name.startswith("missing"):
                (self.source / name).write_bytes(b"content")
        return CopyChunk("/", "/", tuple(ChunkItem(name, "", 7) for name in names), done, CopyRules(overwrite))

    async def run(self, work: Work, *, fence: int = 1, seconds: float = 30) -> Settlement:
        return await self.runner.run(self.attempt(work, fence=fence, seconds=seconds))

    def there(self) -> list[str]:
        return sorted(path.name for path in self.destination.iterdir())


def secrets_in(folder: Path, name: str) -> set[bytes]:
    return {path.read_bytes() for path in folder.rglob(name)}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path, EngineLimits(stall_s=0.6, watch_interval_s=0.05))
    yield bench
    await bench.pool.close()


@pytest.fixture
async def patient(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path, EngineLimits())
    yield bench
    await bench.pool.close()


async def test_a_chunk_is_copied_and_every_file_accounted_for(bench: Bench) -> None:
    settlement = await bench.run(bench.chunk("f1", "missing", "f3"))
    assert settlement.outcome is Outcome.COMPLETED
    assert (settlement.done, settlement.files_done, settlement.bytes_done) == (b"\x05", 2, 14)
    assert [(f.index, f.path, f.problem.reason) for f in settlement.failures] == [(1, "/missing", "SOURCE_NOT_FOUND")]
    checksum = f"{zlib.adler32(b'content'):08x}"
    assert [(r.index, r.size_bytes, r.checksum) for r in settlement.results] == [(0, 7, checksum), (2, 7, checksum)]
    assert bench.there() == ["f1", "f3"]


async def test_what_an_earlier_attempt_has_done_is_not_done_again(bench: Bench) -> None:
    chunk = bench.chunk("f1", "f2", done=b"\x01")
    settlement = await bench.run(chunk, fence=2)
    assert bench.there() == ["f2"]
    assert (settlement.done, settlement.files_done) == (b"\x03", 1)


@pytest.mark.row("J9")
@pytest.mark.row("D10")
@pytest.mark.parametrize(("name", "reason"), [("x!corrupt", "CHECKSUM_MISMATCH"), ("x!short", "SIZE_MISMATCH")])
async def test_a_copy_that_is_not_the_same_fails_and_is_removed(bench: Bench, name: str, reason: str) -> None:
    (bench.destination / name).write_bytes(b"what was there")
    settlement = await bench.run(bench.chunk(name, overwrite="always"))
    assert [failure.problem.reason for failure in settlement.failures] == [reason]
    assert settlement.files_done == 0
    assert (bench.destination / name).read_bytes() == b"what was there"
    assert bench.there() == [name]


async def test_a_file_that_stalls_costs_itself_and_the_others_go_on(bench: Bench) -> None:
    settlement = await bench.run(bench.chunk("a", "b!stall", "c"))
    assert settlement.outcome is Outcome.COMPLETED
    (failure,) = settlement.failures
    assert (failure.index, failure.problem.reason, failure.problem.retryable) == (1, "TRANSFER_STALLED", True)
    assert bench.there() == ["a", "c"]


async def test_a_file_that_crashes_engines_costs_itself_and_the_others_go_on(bench: Bench) -> None:
    settlement = await bench.run(bench.chunk("a", "b!crash", "c"))
    assert [(f.index, f.problem.reason) for f in settlement.failures] == [(1, "ENGINE_CRASHED")]
    assert (settlement.done, bench.there()) == (b"\x05", ["a", "c"])


async def test_a_chunk_of_crashes_is_given_up_with_what_is_done(bench: Bench) -> None:
    settlement = await bench.run(bench.chunk("a", "b!crash", "c!crash", "d!crash", "e!crash", "f"))
    assert settlement.outcome is Outcome.FAILED
    assert settlement.problem is not None
    assert (settlement.problem.reason, settlement.problem.retryable) == ("ENGINE_CRASHED", True)
    assert settlement.done == b"\x01"
    assert bench.there() == ["a"]


async def test_what_would_fail_for_every_file_ends_the_chunk_at_once(bench: Bench) -> None:
    settlement = await bench.run(bench.chunk("a", "b!full", "c"))
    assert settlement.outcome is Outcome.FAILED
    assert settlement.problem is not None
    assert settlement.problem.reason == "DESTINATION_FULL"
    assert (settlement.done, settlement.failures) == (b"\x01", ())
    assert bench.there() == ["a"]


@pytest.mark.row("J7")
async def test_a_cancel_stops_a_running_copy_and_leaves_no_temporary(patient: Bench) -> None:
    attempt = patient.attempt(patient.chunk("a", "b!stall"))
    running = asyncio.create_task(patient.runner.run(attempt))
    await until(lambda: any(name.startswith(".wherry-") for name in patient.there()) and attempt.files_done == 1)
    started = time.monotonic()
    await attempt.stop("JOB_CANCELLED")
    assert time.monotonic() - started < 1
    settlement = await running
    assert (settlement.outcome, settlement.done) == (Outcome.CANCELLED, b"\x01")
    assert patient.there() == ["a"]


async def test_a_cancel_before_the_engine_is_there_is_heeded(patient: Bench) -> None:
    attempt = patient.attempt(patient.chunk("a"))
    await attempt.stop("JOB_CANCELLED")
    assert (await patient.runner.run(attempt)).outcome is Outcome.CANCELLED
    assert patient.there() == []


@pytest.mark.row("J7")
async def test_a_pause_lets_the_moving_file_end_and_starts_no_other(patient: Bench) -> None:
    attempt = patient.attempt(patient.chunk("a", "b!slow", "c", "d"))
    running = asyncio.create_task(patient.runner.run(attempt))
    await until(lambda: any(name.startswith(".wherry-") for name in patient.there()) and attempt.files_done == 1)
    await attempt.pause()
    settlement = await running
    assert (settlement.outcome, settlement.done, settlement.failures) == (Outcome.COMPLETED, b"\x03", ())
    assert patient.there() == ["a", "b!slow"]
    assert patient.pool.started == 1


@pytest.mark.row("J7")
async def test_a_pause_before_the_first_file_leaves_all_of_them(patient: Bench) -> None:
    for work in (patient.chunk("a"), RemoveChunk("/", (ChunkItem("a", "", 7),), b"")):
        attempt = patient.attempt(work)
        await attempt.pause()
        settlement = await patient.runner.run(attempt)
        assert (settlement.outcome, settlement.done, settlement.files_done) == (Outcome.COMPLETED, b"\x00", 0)
    assert patient.there() == []
    assert (patient.source / "a").exists()


@pytest.mark.row("J7")
async def test_a_cancel_after_a_pause_still_stops_the_moving_file(patient: Bench) -> None:
    attempt = patient.attempt(patient.chunk("a", "b!stall"))
    running = asyncio.create_task(patient.runner.run(attempt))
    await until(lambda: any(name.startswith(".wherry-") for name in patient.there()) and attempt.files_done == 1)
    await attempt.pause()
    await attempt.stop("JOB_CANCELLED")
    settlement = await asyncio.wait_for(running, PATIENCE_S)
    assert (settlement.outcome, settlement.done) == (Outcome.CANCELLED, b"\x01")
    assert patient.there() == ["a"]


@pytest.mark.row("W4")
@pytest.mark.row("B4")
@pytest.mark.parametrize("reason", ["SIGN_IN_REQUIRED", "SUSPENDED"])
async def test_what_is_stopped_for_the_users_standing_keeps_what_is_done_and_holds_no_credential(
    patient: Bench, tmp_path: Path, reason: str
) -> None:
    attempt = patient.attempt(patient.chunk("a", "b!stall"))
    running = asyncio.create_task(patient.runner.run(attempt))
    await until(lambda: any(name.startswith(".wherry-") for name in patient.there()) and attempt.files_done == 1)
    assert secrets_in(tmp_path, "*.pem")
    await attempt.stop(reason)
    settlement = await asyncio.wait_for(running, PATIENCE_S)
    assert settlement.problem is not None
    assert (settlement.outcome, settlement.problem.reason, settlement.done) == (Outcome.RETURNED, reason, b"\x01")
    assert patient.there() == ["a"]
    assert secrets_in(tmp_path, "*.pem") == set()


@pytest.mark.row("W4")
async def test_an_engine_that_began_as_its_users_session_ended_is_not_kept_warm(patient: Bench, tmp_path: Path) -> None:
    attempt = patient.attempt(patient.chunk("a"))
    attempt.ended_sites.add("sites/b")  # said when the credentials had been fetched, and no engine had them yet
    settlement = await patient.runner.run(attempt)
    assert settlement.outcome is Outcome.COMPLETED
    assert secrets_in(tmp_path, "*.pem") == set()
    assert patient.pool.known("users/1", ["sites/a", "sites/b"]) == []


@pytest.mark.row("W2")
async def test_a_copy_stops_before_its_lease_ends_and_is_given_back_with_what_is_done(patient: Bench) -> None:
    settlement = await patient.run(patient.chunk("a", "b!stall"), seconds=1.5)
    assert (settlement.outcome, settlement.done) == (Outcome.RETURNED, b"\x01")
    assert settlement.problem is not None
    assert settlement.problem.reason == "LEASE_ENDED"
    assert patient.there() == ["a"]


@pytest.mark.row("D2")
async def test_a_later_lease_removes_what_an_earlier_one_left_behind(bench: Bench) -> None:
    (bench.destination / ".wherry-1.2-1-1").write_bytes(b"half a fi")
    settlement = await bench.run(bench.chunk("a", "b"), fence=2)
    assert settlement.files_done == 2
    assert bench.there() == ["a", "b"]


async def test_a_chunk_is_removed_and_what_is_gone_counts(bench: Bench) -> None:
    (bench.source / "a").touch()
    (bench.source / "d").mkdir()
    chunk = RemoveChunk("/", tuple(ChunkItem(name, "", 1) for name in ("z", "a", "gone", "d")), b"\x01")
    settlement = await bench.run(chunk)
    assert (settlement.outcome, settlement.done) == (Outcome.COMPLETED, b"\x07")
    assert [(f.index, f.path, f.problem.reason) for f in settlement.failures] == [(3, "/d", "IS_A_DIRECTORY")]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SiteUnavailable("UNAVAILABLE"), "SITE_SERVICE_UNAVAILABLE"),
        (CredentialRefused("LEASE_TOKEN_INVALID"), "CREDENTIAL_REFUSED"),
        (SiteSessionExpired("sites/a"), "SITE_SESSION_EXPIRED"),
    ],
)
async def test_without_credentials_the_task_goes_back_unstarted(bench: Bench, error: Exception, reason: str) -> None:
    bench.sites.error = error
    settlement = await bench.run(bench.chunk("a"))
    assert settlement.outcome is Outcome.RETURNED
    assert settlement.problem is not None
    assert settlement.problem.reason == reason
    assert bench.there() == []


@pytest.mark.row("W4")
async def test_a_credential_about_to_end_is_not_begun_with(bench: Bench) -> None:
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=5)
    bench.sites.accesses["sites/b"] = replace(bench.sites.accesses["sites/b"], expires=soon)
    settlement = await bench.run(bench.chunk("a"))
    assert settlement.problem is not None
    assert (settlement.outcome, settlement.problem.reason) == (Outcome.RETURNED, "SITE_SESSION_EXPIRED")


@pytest.mark.row("W4")
@pytest.mark.row("D16")
async def test_a_copy_that_outlasts_its_credentials_goes_on_with_renewed_ones(
    patient: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "LEAST_CREDENTIAL_S", 0)
    monkeypatch.setattr(running, "SESSION_MARGIN_S", 0)
    monkeypatch.setattr(running, "RENEW_LEAST_S", 0)
    now = dt.datetime.now(dt.UTC)
    first = patient.sites.accesses["sites/a"]
    patient.sites.accesses["sites/a"] = replace(first, expires=now + dt.timedelta(seconds=1.2))
    copying = asyncio.create_task(patient.run(patient.chunk("x!slow")))  # two seconds
    await until(lambda: patient.sites.asked)
    later = now + dt.timedelta(hours=1)
    patient.sites.accesses["sites/a"] = replace(first, expires=later, credential_id="new", proxy_pem=b"NEW KEY")
    settlement = await copying
    assert settlement.outcome is Outcome.COMPLETED
    assert secrets_in(tmp_path, "source.pem") == {b"NEW KEY"}
    assert [access.credential_id for access in patient.pool.known("users/1", ["sites/a"])] == ["new"]


@pytest.mark.row("W4")
async def test_a_second_engine_gets_the_renewed_credentials_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, EngineLimits(stall_s=2.5, watch_interval_s=0.05))
    monkeypatch.setattr(running, "LEAST_CREDENTIAL_S", 0)
    monkeypatch.setattr(running, "SESSION_MARGIN_S", 0)
    monkeypatch.setattr(running, "RENEW_LEAST_S", 0.1)
    now = dt.datetime.now(dt.UTC)
    first = bench.sites.accesses["sites/a"]
    bench.sites.accesses["sites/a"] = replace(first, expires=now + dt.timedelta(seconds=2))
    chunk = bench.chunk("a", "b!stall", "c")
    copying = asyncio.create_task(bench.run(chunk))
    await until(lambda: bench.sites.asked)
    bench.sites.accesses["sites/a"] = replace(first, expires=None, credential_id="new", proxy_pem=b"NEW KEY")
    settlement = await copying
    assert (settlement.outcome, settlement.done) == (Outcome.COMPLETED, b"\x05")
    assert bench.pool.started == 2
    assert secrets_in(tmp_path, "source.pem") == {b"NEW KEY"}
    await bench.pool.close()


@pytest.mark.row("W4")
@pytest.mark.row("B4")
async def test_a_copy_that_outlasts_its_session_stops_before_its_end_and_is_given_back_for_the_sign_in(
    patient: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "LEAST_CREDENTIAL_S", 0)
    monkeypatch.setattr(running, "SESSION_MARGIN_S", 30)
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=31.5)
    first = patient.sites.accesses["sites/b"]
    patient.sites.accesses["sites/b"] = replace(first, expires=soon, session_expires=soon)
    settlement = await patient.run(patient.chunk("a", "x!stall"), seconds=60)
    assert dt.datetime.now(dt.UTC) < soon - dt.timedelta(seconds=25)
    assert settlement.problem is not None
    assert (settlement.outcome, settlement.problem.reason) == (Outcome.RETURNED, "SITE_SESSION_EXPIRED")
    assert (settlement.sign_in_site, settlement.done, settlement.files_done) == ("sites/b", b"\x01", 1)
    assert patient.there() == ["a"]
    assert secrets_in(tmp_path, "*.pem") == set()


@pytest.mark.row("W4")
async def test_credentials_that_end_before_their_session_do_not_send_the_user_to_sign_in(
    patient: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "LEAST_CREDENTIAL_S", 0)
    monkeypatch.setattr(running, "SESSION_MARGIN_S", 0)
    monkeypatch.setattr(running, "RENEW_LEAST_S", 0.2)
    now = dt.datetime.now(dt.UTC)
    first = patient.sites.accesses["sites/a"]
    patient.sites.accesses["sites/a"] = replace(
        first, expires=now + dt.timedelta(seconds=1.2), session_expires=now + dt.timedelta(hours=9)
    )
    copying = asyncio.create_task(patient.run(patient.chunk("x!stall")))
    await until(lambda: patient.sites.asked)
    patient.sites.error = SiteUnavailable("UNAVAILABLE")
    settlement = await copying
    assert settlement.problem is not None
    assert (settlement.outcome, settlement.problem.reason) == (Outcome.RETURNED, "CREDENTIAL_NOT_RENEWED")
    assert settlement.sign_in_site == ""
    assert patient.there() == []


@pytest.mark.row("J5")
def test_bytes_of_several_files_on_their_way_all_count(bench: Bench) -> None:
    attempt = bench.attempt(chunk := bench.chunk("large", "small"))
    tally = Tally(attempt, chunk.items, b"", "/")
    tally.take(Progress(0, "copying", 5))
    assert attempt.transferred_bytes == 5
    tally.take(ItemDone(1, 7))
    assert (attempt.transferred_bytes, attempt.files_done) == (12, 1)
    tally.take(ItemDone(0, 9))
    assert (attempt.transferred_bytes, attempt.files_done) == (16, 2)


class SilentEngine(PretendingEngine):
    """Ends its tasks without a word."""

    async def run(self, task: Task, deadline: float) -> AsyncGenerator[Message, None]:
        nothing: tuple[Message, ...] = ()
        for message in nothing:
            yield message


class SilentEngines(PretendingEngines):
    @asynccontextmanager
    async def engine(self, key: EngineKey, plan: Plan) -> AsyncIterator[PretendingEngine]:
        yield SilentEngine(Pretence())


async def test_an_engine_that_says_nothing_of_its_files_is_not_asked_for_ever(bench: Bench) -> None:
    runner = TaskRunner(bench.sites, FakeQueue(), SilentEngines(Pretence()), {"folder": "folder"})
    settlement = await asyncio.wait_for(runner.run(bench.attempt(bench.chunk("a"))), 30)
    assert settlement.problem is not None
    assert (settlement.outcome, settlement.problem.reason) == (Outcome.FAILED, "WORKER_ERROR")
    assert (settlement.problem.retryable, settlement.done) == (True, b"\x00")


@pytest.mark.parametrize(
    "work",
    [
        SumChunk("/", (ChunkItem("a"),), b"\x01", "adler32"),
        RemoveChunk("/", (ChunkItem("a"),), b"\x01"),
        ChangeModes("/", (ChunkItem("a"),), b"\x01", 0o600),
    ],
)
async def test_a_chunk_of_which_all_is_done_needs_no_engine(bench: Bench, work: Work) -> None:
    """Its settlement was lost, or all that was left of it is unfit."""
    settlement = await bench.run(work)
    assert (settlement.outcome, settlement.done, settlement.failures) == (Outcome.COMPLETED, b"\x01", ())
    assert bench.pool.started == 0


class RefusingEngine(PretendingEngine):
    """Its destination's door holds every credential for expired."""

    async def run(self, task: Task, deadline: float) -> AsyncGenerator[Message, None]:
        problem = Problem("DESTINATION_SESSION_EXPIRED", "The sign-in at b has expired.", "user", stops=True)
        raise EngineTaskFailed(problem)
        yield Finished()


class RefusingEngines(PretendingEngines):
    @asynccontextmanager
    async def engine(self, key: EngineKey, plan: Plan) -> AsyncIterator[PretendingEngine]:
        yield RefusingEngine(Pretence())


@pytest.mark.row("W4")
@pytest.mark.row("B4")
@pytest.mark.parametrize(("left_s", "outcome"), [(60, Outcome.RETURNED), (7200, Outcome.FAILED)])
async def test_a_door_that_calls_the_credential_expired_is_believed_near_its_end(
    bench: Bench, left_s: float, outcome: Outcome
) -> None:
    end = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=left_s)
    bench.sites.accesses["sites/b"] = replace(bench.sites.accesses["sites/b"], expires=end, session_expires=end)
    runner = TaskRunner(bench.sites, FakeQueue(), RefusingEngines(Pretence()), {"folder": "folder"})
    settlement = await runner.run(bench.attempt(bench.chunk("a")))
    assert settlement.outcome is outcome
    assert settlement.sign_in_site == ("sites/b" if outcome is Outcome.RETURNED else "")


@pytest.mark.row("J10")
async def test_entries_below_the_directories_are_copied_and_their_parents_made(bench: Bench) -> None:
    for path in ("d/e/one", "d/two", "three"):
        (bench.source / path).parent.mkdir(parents=True, exist_ok=True)
        (bench.source / path).write_bytes(b"content")
    items = (ChunkItem("d/e/one", "x/y/1", 7), ChunkItem("d/two", "", 7), ChunkItem("three", "", 7))
    settlement = await bench.run(CopyChunk("/", "/new/top", items, b"", make_parents=True))
    assert (settlement.outcome, settlement.done, settlement.failures) == (Outcome.COMPLETED, b"\x07", ())
    found = sorted(str(path.relative_to(bench.destination)) for path in bench.destination.rglob("*") if path.is_file())
    assert found == ["new/top/d/two", "new/top/three", "new/top/x/y/1"]


@pytest.mark.row("J10")
@pytest.mark.parametrize("name", ["../out", "d/../../out", "d//two", "/etc/passwd", "d/.", "d/", "", "nul\0"])
async def test_an_entry_that_could_lead_out_of_its_directory_is_refused_by_itself(bench: Bench, name: str) -> None:
    good = bench.chunk("a").items[0]
    for item in (ChunkItem(name, "ok", 7), *([ChunkItem("a", name, 7)] if name else [])):
        chunk = CopyChunk("/", "/", (item, good), b"", CopyRules("always"), make_parents=True)
        settlement = await bench.run(chunk)
        assert [(f.index, f.problem.reason) for f in settlement.failures] == [(0, "PATH_INVALID")]
        assert settlement.done == b"\x02"
    assert bench.there() == ["a"]


async def test_a_path_where_a_name_has_to_be_is_refused(bench: Bench) -> None:
    (bench.source / "d").mkdir()
    (bench.source / "d" / "f").write_bytes(b"content")
    items = (ChunkItem("d/f", "", 7), ChunkItem("..", "", 7))
    for work in (CopyChunk("/", "/", items, b""), RemoveChunk("/", items, b"")):
        settlement = await bench.run(work)
        assert [f.problem.reason for f in settlement.failures] == ["PATH_INVALID"] * 2
    assert (bench.source / "d" / "f").exists()


@pytest.mark.row("D2")
async def test_a_killed_copy_below_the_directory_leaves_no_temporary(patient: Bench) -> None:
    (patient.source / "d").mkdir()
    (patient.source / "d" / "b!stall").write_bytes(b"content")
    chunk = CopyChunk("/", "/", (ChunkItem("d/b!stall", "", 7),), b"", make_parents=True)
    attempt = patient.attempt(chunk)
    copying = asyncio.create_task(patient.runner.run(attempt))
    await until(lambda: list(patient.destination.glob("d/.wherry-*")))
    await attempt.stop("JOB_CANCELLED")
    assert (await copying).outcome is Outcome.CANCELLED
    assert list((patient.destination / "d").iterdir()) == []


async def test_what_warm_engines_hold_is_offered_when_credentials_are_asked_for(bench: Bench) -> None:
    await bench.run(bench.chunk("a"))
    await bench.run(bench.chunk("b"))
    assert [have for _, have in bench.sites.asked] == [[], ["sites/a#1", "sites/b#1"]]
    assert bench.pool.started == 1


async def test_no_secret_is_in_what_is_shown_or_told(bench: Bench) -> None:
    attempt = bench.attempt(bench.chunk("a", "missing"))
    settlement = await bench.runner.run(attempt)
    shown = repr((attempt.lease, settlement, bench.sites.accesses, settlement.log))
    assert "SECRET" not in shown
    assert "token='t'" not in shown


@pytest.mark.row("T2", missing="davs and root; relaying")
def test_a_plan_needs_a_protocol_that_both_sites_and_the_worker_have() -> None:
    def site(name: str, *schemes: str) -> SiteAccess:
        doors = tuple(Endpoint(scheme, f"{number}.{name}", 1) for number, scheme in enumerate(schemes))
        return SiteAccess(f"sites/{name}", doors, (), "", None, b"")

    chosen = plan(site("a", "davs", "gsiftp"), site("b", "gsiftp"), {"gsiftp": "gfal2"})
    assert chosen.destination is not None
    assert (chosen.engine, chosen.source.endpoint.scheme, chosen.destination.endpoint.host) == (
        "gfal2",
        "gsiftp",
        "0.b",
    )
    with pytest.raises(NoCommonProtocol):
        plan(site("a", "davs"), site("b", "gsiftp"), {"gsiftp": "gfal2"})
    with pytest.raises(NoCommonProtocol):
        plan(site("a", "davs"), None, {"gsiftp": "gfal2"})


@pytest.mark.row("S7", missing="spreading by load")
def test_a_further_attempt_takes_the_next_door() -> None:
    doors = tuple(Endpoint("gsiftp", f"node{number}", 1) for number in range(3))
    site = SiteAccess("sites/a", doors, (), "", None, b"")
    hosts = [plan(site, None, {"gsiftp": "g"}, attempt).source.endpoint.host for attempt in (1, 2, 3, 4)]
    assert hosts == ["node0", "node1", "node2", "node0"]


@given(st.sets(st.integers(0, 999)))
def test_bitmaps_keep_what_was_added(indexes: set[int]) -> None:
    bitmap = Bitmap(size=1000)
    for index in indexes:
        bitmap.add(index)
    again = Bitmap(bytes(bitmap))
    assert {index for index in range(1100) if index in again} == indexes
    assert len(bytes(bitmap)) == 125
