from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from wherry_deploy.supervise import Program, ProgramFailed, run_to_end, supervise
from wherry_testing.deployment_processes import is_alive
from wherry_testing.waiting import PATIENCE_S

WITHIN_S = PATIENCE_S
READY = "print('up', flush=True)\n"
IDLE = READY + "import time\nwhile True: time.sleep(60)\n"


class Heard:
    """Keeps lines, and lets one wait for them."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self._news = asyncio.Event()

    def line(self, name: str, text: str) -> None:
        self.lines.append((name, text))
        self._news.set()

    def of(self, name: str) -> list[str]:
        return [text for who, text in self.lines if who == name]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not condition():
                self._news.clear()
                await self._news.wait()


def program(name: str, code: str, *, stage: int = 0, stop_within_s: float = 10) -> Program:
    command = [sys.executable, "-I", "-S", "-c", code]
    return Program(name, command, stage=stage, ready_line=lambda line: line == "up", stop_within_s=stop_within_s)


async def until_gone(pid: int) -> None:
    async with asyncio.timeout(WITHIN_S):
        while is_alive(pid):  # noqa: ASYNC110  # another process gives us no event
            await asyncio.sleep(0.01)


async def test_the_block_begins_when_all_are_ready_and_leaves_nothing_behind() -> None:
    heard = Heard()
    async with supervise([program("one", IDLE), program("two", IDLE)], heard) as running:
        await running.ready(WITHIN_S)
        pids = [running.pid("one"), running.pid("two")]
        assert all(pid is not None and is_alive(pid) for pid in pids)
    assert not any(pid is not None and is_alive(pid) for pid in pids)


async def test_a_probe_is_asked_until_it_says_yes() -> None:
    answers = iter([False, False, True])

    async def probe() -> bool:
        return next(answers)

    probed = Program("one", [sys.executable, "-I", "-c", IDLE], probe=probe)
    async with supervise([probed], Heard()) as running:
        await running.ready(WITHIN_S)
    assert next(answers, None) is None


async def test_one_that_dies_is_started_again_and_said() -> None:
    heard = Heard()
    async with supervise([program("one", IDLE)], heard) as running:
        await running.ready(WITHIN_S)
        first = running.pid("one")
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await heard.until(lambda: heard.of("one").count("up") == 2)
        assert running.pid("one") != first
    assert any("was ended by SIGKILL; starting it again" in line for line in heard.of("one"))


async def test_one_that_keeps_dying_is_started_later_each_time() -> None:
    heard = Heard()
    async with supervise([program("one", READY + "raise SystemExit(7)")], heard) as running:
        await heard.until(lambda: running.starts("one") >= 3)
    pauses = [line.rpartition(" in ")[2] for line in heard.of("one") if "starting it again" in line]
    assert pauses[:2] == ["0.5 s", "1 s"]
    assert "ended with status 7" in " ".join(heard.of("one"))


async def test_one_that_ends_before_it_is_ready_ends_the_block_with_one_line() -> None:
    bad = program("bad", "import sys\nprint('bad: key x: is wrong', file=sys.stderr)\nraise SystemExit(2)")
    heard = Heard()
    pid = None

    async def block() -> None:
        nonlocal pid
        async with supervise([program("good", IDLE), bad], heard) as running:
            pid = running.pid("good")
            await asyncio.Event().wait()

    with pytest.raises(ProgramFailed) as failed:
        await block()
    assert str(failed.value) == "bad: ended with status 2 while starting: bad: key x: is wrong"
    assert heard.of("good") in ([], ["up"])
    assert pid is None or not is_alive(pid)


async def test_one_that_is_not_ready_in_time_is_named_with_its_last_words() -> None:
    slow = program("slow", "print('thinking', flush=True)\nimport time\ntime.sleep(600)")
    heard = Heard()

    async def block() -> None:
        async with supervise([slow, program("one", IDLE)], heard) as running:
            await heard.until(lambda: bool(heard.of("slow")))
            await running.ready(2)

    with pytest.raises(ProgramFailed, match="slow: not ready within 2 s: thinking"):
        await block()


async def test_a_program_that_there_is_not_is_one_line() -> None:
    with pytest.raises(ProgramFailed, match="/no/such/program cannot be run: No such file"):
        async with supervise([Program("none", ["/no/such/program"], ready_line=lambda _: False)], Heard()) as running:
            await running.ready(WITHIN_S)


async def test_later_stages_end_before_earlier_ones() -> None:
    last_words = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"ending\\n"), sys.exit()))
print("up", flush=True)
while True: signal.pause()
"""
    heard = Heard()
    programs = [program(f"stage-{stage}", last_words, stage=stage) for stage in (1, 3, 2)]
    async with supervise(programs, heard) as running:
        await running.ready(WITHIN_S)
    ended = [name for name, text in heard.lines if text == "ending"]
    assert ended == ["stage-3", "stage-2", "stage-1"]


async def test_one_that_will_not_end_is_asked_twice_and_then_killed_and_so_are_its_children() -> None:
    stubborn = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"asked\\n"))
child = subprocess.Popen([sys.executable, "-I", "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
print("up", flush=True)
while True: signal.pause()
"""
    heard = Heard()
    async with supervise([program("one", stubborn, stop_within_s=1)], heard) as running:
        await running.ready(WITHIN_S)
        child = int(heard.of("one")[0])
        assert is_alive(child)
    assert heard.of("one").count("asked") == 2
    assert "did not end within 1 s; killed" in heard.of("one")[-1]
    await until_gone(child)


async def test_an_error_of_the_block_is_raised_as_it_is_after_everything_has_ended() -> None:
    class Mine(Exception):
        pass

    pid = None

    async def block() -> None:
        nonlocal pid
        async with supervise([program("one", IDLE)], Heard()) as running:
            await running.ready(WITHIN_S)
            pid = running.pid("one")
            raise Mine

    with pytest.raises(Mine):
        await block()
    assert pid is not None
    assert not is_alive(pid)


async def test_a_block_that_is_cancelled_leaves_nothing_behind() -> None:
    pids: list[int] = []

    async def block() -> None:
        async with supervise([program("one", IDLE)], Heard()) as running:
            await running.ready(WITHIN_S)
            pids.append(running.pid("one") or 0)
            started.set()
            await asyncio.Event().wait()

    started = asyncio.Event()
    task = asyncio.create_task(block())
    async with asyncio.timeout(WITHIN_S):
        await started.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert task.cancelled()
    assert not is_alive(pids[0])


async def test_processes_are_not_reached_by_a_ctrl_c_at_our_terminal() -> None:
    async with supervise([program("one", IDLE)], Heard()) as running:
        await running.ready(WITHIN_S)
        pid = running.pid("one")
        assert pid is not None
        assert os.getpgid(pid) != os.getpgid(0)


async def test_processes_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "supervisor.py"
    script.write_text(
        f"""
import asyncio, sys
from wherry_deploy.supervise import Program, supervise

class Lines:
    def line(self, name, text): pass

async def main():
    programs = [Program("one", [sys.executable, "-I", "-c", {IDLE!r}], ready_line=lambda line: line == "up")]
    async with supervise(programs, Lines()) as running:
        await running.ready(20)
        print(running.pid("one"), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
    )
    supervisor = await asyncio.create_subprocess_exec(sys.executable, str(script), stdout=subprocess.PIPE)
    assert supervisor.stdout is not None
    async with asyncio.timeout(WITHIN_S):
        pid = int(await supervisor.stdout.readline())
    assert is_alive(pid)
    supervisor.kill()
    await supervisor.wait()
    await until_gone(pid)


async def test_very_long_lines_and_bytes_that_are_no_text_are_kept(tmp_path: Path) -> None:
    code = (
        "import sys\nsys.stdout.buffer.write(b'x' * 200_000 + b'\\n' + bytes([0xff]) + b'\\nup\\n')\nsys.stdout.flush()"
    )
    heard = Heard()
    async with supervise([program("one", code + "\nimport time\ntime.sleep(600)")], heard) as running:
        await running.ready(WITHIN_S)
    assert sum(line.count("x") for line in heard.of("one") if set(line) == {"x"}) == 200_000
    assert "\\xff" in heard.of("one")


async def test_a_process_that_is_to_end_by_itself_fails_with_its_last_words() -> None:
    heard = Heard()
    await run_to_end(program("fine", "print('done')"), heard)
    assert heard.of("fine") == ["done"]
    with pytest.raises(ProgramFailed, match="bad: ended with status 3: no"):
        await run_to_end(program("bad", "print('no')\nraise SystemExit(3)"), heard)
