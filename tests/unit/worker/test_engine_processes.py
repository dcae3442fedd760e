"""Engine processes under their parent's hand: limits, deaths, what is left behind. The doors are folders."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from wherry_fakes import folder_engine_boot
from wherry_fakes.worker_access import folder_access, folder_plan, folder_pool
from wherry_testing.deployment_processes import is_alive
from wherry_testing.engine_conformance import copy_with, listing, names_in, run
from wherry_testing.waiting import PATIENCE_S, until
from wherry_worker.access import EngineFolder, Visit, wipe
from wherry_worker.engine.messages import (
    CopyFiles,
    CopyItem,
    ListDirectory,
    Progress,
    RemoveTemporaries,
    Setup,
    Stat,
)
from wherry_worker.engine_process import EngineCommand, EngineDied, EngineLimits, EngineProcess
from wherry_worker.engines import EngineKey, EnginePool, EngineUnavailable, Plan

KEY = EngineKey("users/1", "sites/a", "sites/b")
QUICK = EngineLimits(stall_s=0.5, watch_interval_s=0.05)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    source, destination = tmp_path / "source", tmp_path / "destination"
    source.mkdir()
    destination.mkdir()
    return source, destination


@pytest.fixture
def plan(folders: tuple[Path, Path]) -> Plan:
    return folder_plan(*folders)


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[EnginePool]:
    pool = folder_pool(tmp_path, QUICK)
    yield pool
    await pool.close()


def task_for(name: str) -> CopyFiles:
    return CopyFiles("job.1", 1, "/", "/", (CopyItem(0, name, name),))


async def death(pool: EnginePool, plan: Plan, name: str, within_s: float = PATIENCE_S) -> str:
    (Path(plan.source.endpoint.root_path) / name).write_bytes(b"12345678")
    async with pool.engine(KEY, plan) as engine:
        with pytest.raises(EngineDied) as died:
            await run(engine, task_for(name), within_s)
    return died.value.cause


def shown(pid: int, what: str) -> str:
    """What the kernel shows of a process."""
    return Path(f"/proc/{pid}/{what}").read_text()


async def test_a_copy_without_progress_is_stopped(pool: EnginePool, plan: Plan) -> None:
    assert await death(pool, plan, "x!stall") == "stalled"


async def test_a_copy_that_makes_progress_is_not_taken_for_stalled(tmp_path: Path, plan: Plan) -> None:
    pool = folder_pool(tmp_path, EngineLimits(stall_s=1.5, watch_interval_s=0.05))  # progress comes once a second
    (Path(plan.source.endpoint.root_path) / "x!slow").write_bytes(b"12345678")
    async with pool.engine(KEY, plan) as engine:
        (done,) = await copy_with(engine, b"x!slow")
    assert done.problem is None
    await pool.close()


async def test_an_engine_that_takes_too_much_memory_is_stopped(tmp_path: Path, plan: Plan) -> None:
    pool = folder_pool(tmp_path, EngineLimits(memory_bytes=150 << 20, watch_interval_s=0.02))
    assert await death(pool, plan, "x!memory") == "memory"
    await pool.close()


async def test_an_engine_that_crashes_is_told_as_such(pool: EnginePool, plan: Plan) -> None:
    assert await death(pool, plan, "x!crash") == "crashed"


async def test_a_copy_stops_at_its_deadline(tmp_path: Path, plan: Plan) -> None:
    pool = folder_pool(tmp_path)
    started = time.monotonic()
    assert await death(pool, plan, "x!stall", within_s=0.4) == "deadline"
    assert time.monotonic() - started < 5
    await pool.close()


async def test_an_engine_ends_itself_at_its_deadline_when_its_parent_says_nothing(tmp_path: Path, plan: Plan) -> None:
    pool = folder_pool(tmp_path, EngineLimits(watch_interval_s=60))
    (Path(plan.source.endpoint.root_path) / "x!stall").write_bytes(b"12345678")
    async with pool.engine(KEY, plan) as engine:
        assert isinstance(engine, EngineProcess)
        async with aclosing(engine.run(task_for("x!stall"), time.monotonic() + 0.5)) as messages:
            await anext(messages)
            # From here on the parent's own clock is out of the way: this coroutine does not give it a turn.
            deadline = time.monotonic() + 10
            while is_alive(engine.pid) and time.monotonic() < deadline:
                os.sched_yield()
            assert not is_alive(engine.pid)
            with pytest.raises(EngineDied) as died:
                async for _ in messages:
                    pass
    assert died.value.cause == "deadline"
    await pool.close()


async def test_a_stopped_engine_is_past_its_deadline_when_it_goes_on(tmp_path: Path, plan: Plan) -> None:
    pool = folder_pool(tmp_path, EngineLimits(watch_interval_s=60))
    (Path(plan.source.endpoint.root_path) / "x!slow").write_bytes(b"12345678")
    async with pool.engine(KEY, plan) as engine:
        assert isinstance(engine, EngineProcess)
        async with aclosing(engine.run(task_for("x!slow"), time.monotonic() + 0.6)) as messages:
            await anext(messages)
            os.kill(engine.pid, signal.SIGSTOP)
            while time.monotonic() < engine._deadline + 0.3:
                os.sched_yield()
            os.kill(engine.pid, signal.SIGCONT)
            with pytest.raises(EngineDied):
                async for _ in messages:
                    pass
    assert not (Path(plan.destination.endpoint.root_path) / "x!slow").exists() if plan.destination else False
    await pool.close()


async def test_a_deadline_can_be_moved_while_a_task_runs(tmp_path: Path, plan: Plan) -> None:
    pool = folder_pool(tmp_path)
    (Path(plan.source.endpoint.root_path) / "x!slow").write_bytes(b"12345678")
    async with (
        pool.engine(KEY, plan) as engine,
        aclosing(engine.run(task_for("x!slow"), time.monotonic() + 0.5)) as messages,
    ):
        await anext(messages)
        await engine.extend(time.monotonic() + 30)
        async for _ in messages:
            pass
    assert plan.destination is not None
    assert (Path(plan.destination.endpoint.root_path) / "x!slow").exists()
    await pool.close()


@pytest.mark.row("J9")
def test_the_checksum_of_a_large_file_has_the_time_that_reading_it_takes() -> None:
    limits = EngineLimits(stall_s=1, verify_stall_s=2, other_stall_s=3)
    assert limits.patience_s(None) == limits.patience_s(Progress(0, "namespace", 5 << 40)) == 3
    assert limits.patience_s(Progress(0, "copying", 5 << 40)) == 1
    assert limits.patience_s(Progress(0, "verifying", 0)) == 2
    assert limits.patience_s(Progress(0, "verifying", 5 << 40)) > 2 + (5 << 40) / 100e6


@pytest.mark.row("J7")
async def test_a_kill_ends_a_running_copy_at_once_and_another_engine_cleans_up(tmp_path: Path, plan: Plan) -> None:
    pool = folder_pool(tmp_path)
    assert plan.destination is not None
    destination = Path(plan.destination.endpoint.root_path)
    (Path(plan.source.endpoint.root_path) / "x!stall").write_bytes(b"12345678")

    async def copying() -> None:
        async with pool.engine(KEY, plan) as engine:
            running.set_result(engine)
            await run(engine, task_for("x!stall"), 60)

    running: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(copying())
    engine = await running
    assert isinstance(engine, EngineProcess)
    await until(lambda: (destination / ".wherry-job.1-1-0").exists())
    started = time.monotonic()
    await engine.kill("cancelled")
    with pytest.raises(EngineDied) as died:
        await task
    assert died.value.cause == "cancelled"
    assert time.monotonic() - started < 1
    assert not is_alive(engine.pid)
    async with pool.engine(KEY, plan) as other:
        await run(other, RemoveTemporaries("job.1", 1, ("/",)))
    assert names_in(destination) == []
    await pool.close()


def start(program: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)


async def test_an_engine_dies_with_its_parent(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    """A parent of its own starts an engine on a copy that never ends, and is killed."""
    (folders[0] / "x!stall").write_bytes(b"12345678")
    program = f"""
import asyncio, sys
sys.path[:0] = {[path for path in sys.path if path]!r}
from pathlib import Path
from wherry_fakes.worker_access import folder_plan, folder_pool
from wherry_worker.engine.messages import CopyFiles, CopyItem
from wherry_worker.engines import EngineKey
async def main():
    pool = folder_pool(Path({str(tmp_path)!r}))
    plan = folder_plan(Path({str(folders[0])!r}), Path({str(folders[1])!r}))
    async with pool.engine(EngineKey("users/1", "sites/a", "sites/b"), plan) as engine:
        print(f"pid {{engine.pid}}", flush=True)
        async for _ in engine.run(CopyFiles("job.1", 1, "/", "/", (CopyItem(0, "x!stall", "x"),)), 1e9):
            pass
asyncio.run(main())
"""
    parent = start(program)
    assert parent.stdout is not None
    engine_pid = next(int(line.split()[1]) for line in parent.stdout if line.startswith(b"pid "))
    await until(lambda: any(folders[1].iterdir()))
    assert is_alive(engine_pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    await until(lambda: not is_alive(engine_pid))


@pytest.mark.row("S6")
async def test_credentials_lie_in_a_private_folder_and_are_wiped_when_the_engine_ends(
    tmp_path: Path, plan: Plan, pool: EnginePool
) -> None:
    async with pool.engine(KEY, plan) as engine:
        await run(engine, Stat("source", "/"))
        (folder,) = (tmp_path / "engines").iterdir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        files = [path for path in folder.rglob("*.pem") if path.is_file()]
        assert len(files) == 2
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
        assert {path.read_bytes() for path in files} == {b"SECRET KEY"}
        descriptors = [path.open("rb") for path in files]
        assert isinstance(engine, EngineProcess)
        assert "SECRET" not in shown(engine.pid, "cmdline")
    await pool.close()
    assert list((tmp_path / "engines").iterdir()) == []
    for descriptor in descriptors:
        with descriptor:
            assert b"SECRET" not in descriptor.read()


async def test_a_killed_engines_credentials_are_wiped_too(tmp_path: Path, plan: Plan, pool: EnginePool) -> None:
    async with pool.engine(KEY, plan) as engine:
        await engine.kill("cancelled")
    assert list((tmp_path / "engines").iterdir()) == []


async def test_a_warm_engine_is_used_again_by_the_same_user_for_the_same_sites_only(
    pool: EnginePool, plan: Plan
) -> None:
    pids = []
    for key in (KEY, KEY, EngineKey("users/2", "sites/a", "sites/b"), EngineKey("users/1", "sites/b", "sites/a")):
        async with pool.engine(key, plan) as engine:
            assert isinstance(engine, EngineProcess)
            pids.append(engine.pid)
    assert pids[0] == pids[1]
    assert len(set(pids)) == 3


async def test_two_tasks_at_once_have_an_engine_each(pool: EnginePool, plan: Plan) -> None:
    async with pool.engine(KEY, plan) as first, pool.engine(KEY, plan) as second:
        assert first is not second
        await asyncio.gather(run(first, Stat("source", "/")), run(second, Stat("source", "/")))


async def test_a_renewed_credential_reaches_a_warm_engine_and_the_old_one_is_wiped(
    tmp_path: Path, folders: tuple[Path, Path], pool: EnginePool, plan: Plan
) -> None:
    async with pool.engine(KEY, plan) as engine:
        first = engine
    access = folder_access("sites/a", folders[0], b"RENEWED KEY")
    renewed = Plan(plan.engine, Visit(access, access.endpoints[0]), plan.destination)
    async with pool.engine(KEY, renewed) as engine:
        assert engine is first
        await run(engine, Stat("source", "/"))
        contents = {path.read_bytes() for path in (tmp_path / "engines").rglob("*.pem")}
    assert contents == {b"RENEWED KEY", b"SECRET KEY"}  # the destination's is as it was
    assert pool.known("users/1", ["sites/a"]) == [access]
    assert pool.known("users/2", ["sites/a"]) == []


async def test_idle_engines_end_after_a_while(tmp_path: Path, plan: Plan) -> None:
    pool = folder_pool(tmp_path, idle_s=0.2)
    async with pool.engine(KEY, plan) as engine:
        assert isinstance(engine, EngineProcess)
    reaping = asyncio.create_task(pool.reap())
    await until(lambda: not is_alive(engine.pid))
    await until(lambda: not any((tmp_path / "engines").iterdir()))
    assert pool.known("users/1", ["sites/a", "sites/b"]) == []
    reaping.cancel()
    await pool.close()


async def test_the_engine_idle_longest_gives_way_to_a_new_one(tmp_path: Path, plan: Plan) -> None:
    pool = folder_pool(tmp_path, most=2)
    pids = {}
    for user in ("1", "2", "1", "3"):
        async with pool.engine(EngineKey(f"users/{user}", "sites/a", "sites/b"), plan) as engine:
            assert isinstance(engine, EngineProcess)
            pids[user] = engine.pid
    assert not is_alive(pids["2"])
    assert is_alive(pids["1"])
    await pool.close()


async def test_sign_out_ends_the_engines_of_that_user_at_that_site(pool: EnginePool, plan: Plan) -> None:
    async with pool.engine(KEY, plan) as engine:
        assert isinstance(engine, EngineProcess)
    other = EngineKey("users/2", "sites/a", "sites/b")
    async with pool.engine(other, plan) as kept:
        assert isinstance(kept, EngineProcess)
    await pool.end_sessions("users/1", "sites/b")
    assert not is_alive(engine.pid)
    assert is_alive(kept.pid)
    async with pool.engine(other, plan) as busy:
        await pool.end_sessions("users/2", "sites/a")
        assert await listing(busy) == []  # what runs goes on
    assert not is_alive(kept.pid)


@pytest.mark.row("S6")
async def test_a_sign_out_wipes_the_credentials_of_idle_engines_at_once(
    tmp_path: Path, pool: EnginePool, plan: Plan
) -> None:
    async with pool.engine(KEY, plan), pool.engine(KEY, plan):
        pass
    assert len(list((tmp_path / "engines").iterdir())) == 2
    await pool.end_sessions("users/1", "sites/c")
    await pool.end_sessions("users/nobody", "sites/b")
    assert len(list((tmp_path / "engines").iterdir())) == 2
    await pool.end_sessions("users/1", "sites/b")
    assert list((tmp_path / "engines").iterdir()) == []
    assert pool.known("users/1", ["sites/a", "sites/b"]) == []


async def test_what_may_have_been_missed_ends_all_that_is_idle_and_keeps_nothing_of_what_is_busy(
    tmp_path: Path, pool: EnginePool, plan: Plan
) -> None:
    other = EngineKey("users/2", "sites/a", "sites/b")
    async with pool.engine(KEY, plan) as busy:
        async with pool.engine(other, plan) as idle:
            assert isinstance(idle, EngineProcess)
        await pool.end_all_sessions()
        assert not is_alive(idle.pid)
        assert pool.known("users/1", ["sites/a", "sites/b"]) == []
        assert await listing(busy) == []  # what runs goes on
    assert list((tmp_path / "engines").iterdir()) == []


def noisy_boot(folder: Path) -> Path:
    """A copy of the fake's start script whose libraries print."""
    boot = Path(folder_engine_boot.__file__)
    text = boot.read_text().replace("Path(__file__)", f"Path({str(boot)!r})")
    noise = "    print('library chatter')\n    sys.stderr.write('a warning\\n')\n    main("
    script = folder / "noisy.py"
    script.write_text(text.replace("    main(", noise))
    return script


async def test_what_libraries_print_does_not_disturb_the_messages(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    script = noisy_boot(tmp_path)
    engine = await EngineProcess.start(EngineCommand(sys.executable, script), tmp_path, EngineLimits())
    plan = folder_plan(*folders)
    folder = EngineFolder(tmp_path)
    source, destination, _ = folder.write(plan.source, plan.destination)
    await engine.setup(Setup("folder", source, destination))
    assert await listing(engine) == []
    await engine.close()
    assert "library chatter" in engine.output


async def test_an_interpreter_that_cannot_run_is_said_and_leaves_nothing(tmp_path: Path, plan: Plan) -> None:
    (tmp_path / "engines").mkdir()
    for python in ("/no/such/python", "/bin/false"):
        pool = EnginePool(tmp_path / "engines", EngineCommand(python), EngineLimits())
        with pytest.raises(EngineUnavailable):
            async with pool.engine(KEY, plan):
                pass
    assert list((tmp_path / "engines").iterdir()) == []


async def test_progress_is_told_at_most_once_a_second_for_a_file_and_phase(tmp_path: Path, plan: Plan) -> None:
    pool = folder_pool(tmp_path)
    (Path(plan.source.endpoint.root_path) / "x!slow").write_bytes(b"12345678")
    async with pool.engine(KEY, plan) as engine:
        told = await run(engine, task_for("x!slow"))
    copying = [message for message in told if isinstance(message, Progress) and message.phase == "copying"]
    assert 1 <= len(copying) <= 4  # the fake tells forty times in two seconds
    await pool.close()


async def test_an_abandoned_task_ends_its_engine(pool: EnginePool, plan: Plan) -> None:
    (Path(plan.source.endpoint.root_path) / "file").write_bytes(b"1")
    async with pool.engine(KEY, plan) as engine:
        assert isinstance(engine, EngineProcess)
        async with aclosing(engine.run(ListDirectory("/"), time.monotonic() + 10)) as messages:
            await anext(messages)
    assert not is_alive(engine.pid)


def test_wiping_what_is_gone_is_no_error(tmp_path: Path) -> None:
    wipe(tmp_path / "never-was")
