"""Two panes on real sites: a folder dragged across arrives, and the page shows how."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect
from wherry_testing.deployment_processes import wait_until
from wherry_testing.running_copies import same_trees, write_large, write_many
from wherry_testing.visitors import Visitor

COPIED_WITHIN_MS = 60_000
LARGE_BYTES = 800_000_000
_WATCH = "/wherry.queue.v1.JobService/WatchJobs"
Source = Callable[..., Path]
_MISSING_V1 = "drag of several at once, drag in every column"
_MISSING_V9 = "several dragged at once; more than 1000"
_MISSING_V11 = "files done while a chunk runs, an ETA that is scored, the chart"


@pytest.fixture
def at_both(visitor: Visitor) -> Visitor:
    """Somebody who has signed in everywhere and sees both home folders."""
    visitor.sign_in()
    visitor.open_both()
    return visitor


@pytest.fixture
def source(at_both: Visitor) -> Source:
    """Makes a folder of small files, and a large one if wanted, in the left home, and shows it there."""

    def make(count: int, large_bytes: int = 0) -> Path:
        run = at_both.home("site-a") / f"run {secrets.token_hex(3)}"
        (run / "empty").mkdir(parents=True)
        write_many(run, count)
        if large_bytes:
            write_large(run / "large.dat", large_bytes)
        at_both.own("site-a")
        at_both.pane("left").get_by_role("button", name="Refresh").click()
        at_both.row("left", run.name).wait_for()
        return run

    return make


@pytest.mark.row("V1", missing=_MISSING_V1)
@pytest.mark.row("V9", missing=_MISSING_V9)
@pytest.mark.row("D19")
def test_a_folder_dragged_across_is_one_job_and_arrives(at_both: Visitor, source: Source) -> None:
    run = source(4)
    at_both.drag(at_both.row("left", run.name), at_both.pane("right").get_by_role("grid"))
    expect(at_both.jobs()).to_have_count(1)
    expect(at_both.jobs()).to_have_attribute("data-state", "succeeded", timeout=COPIED_WITHIN_MS)
    assert same_trees(run, at_both.home("site-b") / run.name)
    expect(at_both.row("right", run.name)).to_be_visible()
    at_both.visit.must_be_clean()


@pytest.mark.row("V1", missing=_MISSING_V1)
def test_a_folder_can_be_dropped_into_a_folder_of_the_other_pane_and_from_right_to_left(
    at_both: Visitor, source: Source
) -> None:
    run = source(2)
    at_both.drag(at_both.row("left", run.name), at_both.pane("right").get_by_role("grid"))
    expect(at_both.jobs().first).to_have_attribute("data-state", "succeeded", timeout=COPIED_WITHIN_MS)
    expect(at_both.row("right", run.name)).to_be_visible()
    at_both.drag(at_both.row("right", run.name), at_both.row("left", run.name))
    expect(at_both.jobs()).to_have_count(2)
    expect(at_both.page.locator("[data-job][data-state=succeeded]")).to_have_count(2, timeout=COPIED_WITHIN_MS)
    assert same_trees(at_both.home("site-b") / run.name, run / run.name)


@pytest.mark.row("V9", missing=_MISSING_V9)
@pytest.mark.row("V2", missing="every other thing that drag does, a screen reader's announcements")
def test_what_is_selected_goes_across_by_the_button_as_one_job(at_both: Visitor, source: Source) -> None:
    run = source(3)
    at_both.row("left", run.name).dblclick()
    at_both.row("left", "file 000.dat").click()
    at_both.row("left", "file 002.dat").click(modifiers=["Control"])
    at_both.pane("left").get_by_role("button", name=re.compile("^Copy to")).click()
    expect(at_both.jobs()).to_have_count(1)
    expect(at_both.jobs()).to_have_attribute("data-state", "succeeded", timeout=COPIED_WITHIN_MS)
    home = at_both.home("site-b")
    for name in ("file 000.dat", "file 002.dat"):
        assert (home / name).read_bytes() == (run / name).read_bytes()
        (home / name).unlink()
    assert not (home / "file 001.dat").exists()


@pytest.mark.row("V2", missing="every other thing that drag does, a screen reader's announcements")
def test_the_keyboard_alone_copies_a_folder_across(at_both: Visitor, source: Source) -> None:
    run = source(1)
    grid = at_both.pane("left").get_by_role("grid")
    grid.focus()
    at_both.page.keyboard.press("/")
    at_both.page.keyboard.type(run.name)
    at_both.page.keyboard.press("Enter")
    at_both.page.keyboard.press("Space")
    at_both.page.keyboard.press("Control+Enter")
    expect(at_both.jobs()).to_have_attribute("data-state", "succeeded", timeout=COPIED_WITHIN_MS)
    assert same_trees(run, at_both.home("site-b") / run.name)


@pytest.mark.row("V11", missing=_MISSING_V11)
@pytest.mark.row("J5")
def test_progress_is_live_and_comes_by_one_stream(at_both: Visitor, source: Source) -> None:
    run = source(3000)
    streams = at_both.visit.paths.count(_WATCH)
    at_both.drag(at_both.row("left", run.name), at_both.pane("right").get_by_role("grid"))
    expect(at_both.jobs()).to_have_count(1)
    seen: set[int] = set()
    bar = at_both.jobs().get_by_role("progressbar")

    def done() -> bool:
        if at_both.jobs().get_attribute("data-state") == "succeeded":
            return True
        if bar.count():
            seen.add(int(bar.get_attribute("aria-valuenow") or 0))
        return False

    wait_until(done, "the copy has ended", COPIED_WITHIN_MS / 1000, 0.05)
    assert len(seen - {0, 100}) >= 2, seen
    assert at_both.visit.paths.count(_WATCH) == streams
    assert not [path for path in at_both.visit.paths if path.endswith(("/GetJob", "/ListJobs", "/ListTasks"))]


@pytest.mark.row("D18")
def test_a_pane_lists_by_one_stream_and_asks_no_second_time(at_both: Visitor, source: Source) -> None:
    run = source(3)
    before = at_both.visit.paths.count("/wherry.queue.v1.FileService/ListDirectory")
    at_both.row("left", run.name).dblclick()
    at_both.row("left", "file 002.dat").wait_for()
    expect(at_both.pane("left")).to_contain_text("4 items")
    assert at_both.visit.paths.count("/wherry.queue.v1.FileService/ListDirectory") == before + 1


@pytest.mark.row("V25", missing="every screen there will be")
@pytest.mark.row("U3", missing="session length, idle time-out")
def test_a_reload_in_the_middle_of_a_copy_loses_nothing(at_both: Visitor, source: Source) -> None:
    run = source(2, LARGE_BYTES)
    at_both.drag(at_both.row("left", run.name), at_both.pane("right").get_by_role("grid"))
    job = at_both.jobs().get_attribute("data-job")
    arriving = at_both.home("site-b") / run.name
    wait_until(lambda: list(arriving.glob(".wherry-*")), "bytes arrive", 60, 0.01)
    address = at_both.page.url
    at_both.page.reload()
    expect(at_both.page.locator(f"[data-job={job!r}]")).to_have_attribute("data-state", re.compile("running|expanding"))
    expect(at_both.row("left", run.name)).to_be_visible()
    assert at_both.page.url == address
    expect(at_both.jobs()).to_have_attribute("data-state", "succeeded", timeout=COPIED_WITHIN_MS)
    expect(at_both.row("right", run.name)).to_be_visible()
    assert same_trees(run, at_both.home("site-b") / run.name)
    at_both.visit.must_be_clean()
