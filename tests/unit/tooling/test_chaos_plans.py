"""Plans of chaos runs: a seed decides everything, and there is enough of it."""

from __future__ import annotations

from collections import Counter

import pytest
from wherry_fakes.synthetic_trees import directory_at, entries_of
from wherry_testing.chaos.jobs import asked
from wherry_testing.chaos.plan import Ban, Control, Cut, Drain, JobPlan, Kill, LiftBan, Submit, Tree, make_plan
from wherry_testing.chaos.scenes import scale_of


@pytest.mark.parametrize("seed", range(5))
def test_a_seed_decides_the_whole_plan(seed: int) -> None:
    scale = scale_of(2000, postgres=True)
    assert make_plan(seed, scale).steps == make_plan(seed, scale).steps
    assert make_plan(seed, scale).steps != make_plan(seed + 1, scale).steps


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_has_its_tasks_and_breaks_each_kind_of_process(seed: int) -> None:
    scale = scale_of(2000, postgres=True)
    plan = make_plan(seed, scale)
    assert sum(job.task_count for job in plan.jobs) >= 2000
    victims = Counter(step.act.victim for step in plan.steps if isinstance(step.act, Kill))
    assert victims == Counter(scale.kills)
    assert set(victims) == {"worker", "queue", "site", "postgres"}
    assert sum(isinstance(step.act, Cut) for step in plan.steps) == scale.cuts


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_asked_of_a_job_before_it_was_submitted(seed: int) -> None:
    known = set()
    for step in make_plan(seed, scale_of(2000, postgres=True)).steps:
        if isinstance(step.act, Submit):
            known.add(step.act.job.number)
        if isinstance(step.act, Control):
            assert step.act.job in known


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_has_pairs_and_drains_and_each_ban_is_lifted_later(seed: int) -> None:
    plan = make_plan(seed, scale_of(2000, postgres=True))
    assert any(job.shape == "pairs" for job in plan.jobs)
    assert {step.act.party for step in plan.steps if isinstance(step.act, Drain)} == {"worker", "queue"}
    banned: dict[int, tuple[str, int]] = {}
    lifted = set()
    for step in plan.steps:
        if isinstance(step.act, Ban):
            assert (step.act.kind, step.act.place) not in banned.values()
            banned[step.act.number] = (step.act.kind, step.act.place)
        if isinstance(step.act, LiftBan):
            assert step.act.number in banned
            lifted.add(step.act.number)
    assert lifted == set(banned) != set()


def test_a_stream_of_pairs_names_all_files_of_its_plan_below_its_roots() -> None:
    plan = JobPlan(7, 0, "pairs", 0, 1, 5, count=130)
    first, *others = asked(plan, 1).pairs()
    assert others
    assert first.copy.source.path == "/j7"
    assert not any(message.HasField("copy") for message in others)
    names = [pair.source_path for message in (first, *others) for pair in message.pairs]
    assert [f"/j7/{name.decode()}" for name in names] == list(plan.copied_files())
    assert len(set(names)) == plan.file_count == 130
    assert plan.task_count == 2


def test_what_a_plan_expects_of_a_tree_is_what_listings_show() -> None:
    tree = Tree(3, 2, 5)
    directories, files = list(tree.directories("x")), list(tree.file_paths("x"))
    assert (len(directories), len(files)) == (tree.directory_count, tree.file_count) == (13, 65)
    assert all(directory_at(path) is not None for path in directories)
    shown = {f"{path}/{entry.name}" for path in directories for entry in entries_of(path)}
    assert shown == set(directories[1:]) | set(files)
