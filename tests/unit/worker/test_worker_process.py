"""The worker process around its parts: its folder, its command, and the runner that does nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from wherry_fakes.noop_runner import NoopRunner
from wherry_fakes.worker_ports import FakeQueue
from wherry_worker.__main__ import main
from wherry_worker.access import RunFolder
from wherry_worker.attempt import Attempt
from wherry_worker.work import (
    LOG_MAX_BYTES,
    ChunkItem,
    CopyChunk,
    Found,
    Lease,
    LeaseRef,
    ListOne,
    Outcome,
    Work,
    WorkClass,
)


def lease(work: Work) -> Lease:
    ref = LeaseRef("jobs/1/tasks/2", 1)
    return Lease(ref, time.monotonic() + 9, "t", WorkClass.BULK, "users/1", "sites/a", "sites/a", 1, work)


@pytest.mark.row("S6")
def test_what_a_killed_worker_left_is_wiped_by_the_next_and_a_living_ones_is_not(tmp_path: Path) -> None:
    living = RunFolder(tmp_path)
    (living.path / "mine.pem").write_bytes(b"KEY")
    program = f"""
import os, sys
sys.path[:0] = {[path for path in sys.path if path]!r}
from pathlib import Path
from wherry_worker.access import RunFolder
folder = RunFolder(Path({str(tmp_path)!r}))
(folder.path / "engine-1").mkdir()
(folder.path / "engine-1" / "source.pem").write_bytes(b"KEY")
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    assert len(list(tmp_path.rglob("*.pem"))) == 2
    third = RunFolder(tmp_path)
    assert [path.name for path in tmp_path.rglob("*.pem")] == ["mine.pem"]
    third.close()
    living.close()
    assert list(tmp_path.iterdir()) == []


def test_a_configuration_that_cannot_be_used_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--buildout", str(tmp_path / "none.toml")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("wherry-worker: ")
    assert said.count("\n") == 1


async def test_the_runner_for_benchmarks_says_that_all_is_done() -> None:
    queue = FakeQueue()
    runner = NoopRunner(queue)
    items = tuple(ChunkItem(str(number), "", 10) for number in range(9))
    settlement = await runner.run(Attempt(lease(CopyChunk("/", "/", items, b"\x01"))))
    assert (settlement.outcome, settlement.done, settlement.files_done, settlement.bytes_done) == (
        Outcome.COMPLETED,
        b"\xff\x01",
        8,
        80,
    )
    assert (await runner.run(Attempt(lease(ListOne("/"))))).outcome is Outcome.COMPLETED
    assert queue.reported == [Found("", "", directories_done=1)]


def test_an_attempts_log_keeps_its_head_and_tail() -> None:
    attempt = Attempt(lease(ListOne("/")))
    attempt.note("the first")
    for number in range(3000):
        attempt.note(f"line {number} ä" + "x" * 40)
    attempt.note("the last")
    log = attempt.log
    assert len(log.encode()) <= LOG_MAX_BYTES
    assert "the first" in log
    assert "the last" in log
