"""Plans of chaos runs: a seed decides everything, and there is enough of it."""

from __future__ import annotations

from collections import Counter

import pytest
from wherry_fakes.synthetic_trees import directory_at, entries_of
from wherry_testing.chaos.plan import Control, Cut, Kill, Submit, Tree, make_plan
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


def test_what_a_plan_expects_of_a_tree_is_what_listings_show() -> None:
    tree = Tree(3, 2, 5)
    directories, files = list(tree.directories("x")), list(tree.file_paths("x"))
    assert (len(directories), len(files)) == (tree.directory_count, tree.file_count) == (13, 65)
    assert all(directory_at(path) is not None for path in directories)
    shown = {f"{path}/{entry.name}" for path in directories for entry in entries_of(path)}
    assert shown == set(directories[1:]) | set(files)
