"""Fair share as a pure choice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wherry_queue.fairness import LaneQueue, UserShare, Waiting, pick, work


def lane(number: int, user: int, tasks: int, *, link: int = 1, priority: int = 5, cost: float = 1.0) -> LaneQueue:
    return LaneQueue(number, user, link, priority, [Waiting(number * 1000 + i, cost) for i in range(tasks)])


def share(user: int, vtime: float = 0.0, weight: float = 1.0) -> UserShare:
    return UserShare(user, vtime, weight)


@pytest.mark.row("D3", missing="the real queue with a user of a million files")
def test_users_take_turns_however_many_lanes_they_have() -> None:
    lanes = [lane(1, 1, 5), lane(2, 1, 5), lane(3, 1, 5), lane(4, 2, 5)]
    users = [choice.user_id for choice in pick(lanes, [share(1), share(2)], {}, 8)]
    assert users == [1, 2] * 4


@pytest.mark.row("D3", missing="the real queue with a user of a million files")
def test_large_tasks_cost_their_user_more_turns() -> None:
    lanes = [lane(1, 1, 10, cost=work(1000, 0)), lane(2, 2, 20, cost=work(1, 0))]
    first = [choice.user_id for choice in pick(lanes, [share(1), share(2)], {}, 10)]
    assert first.count(1) == 1


def test_a_user_of_twice_the_weight_gets_twice_the_turns() -> None:
    lanes = [lane(1, 1, 40), lane(2, 2, 40)]
    users = [choice.user_id for choice in pick(lanes, [share(1, weight=2.0), share(2)], {}, 30)]
    assert users.count(1) == 20


def test_priority_orders_ones_own_lanes_and_takes_nothing_from_others() -> None:
    lanes = [lane(1, 1, 2, priority=1), lane(2, 1, 2, priority=9), lane(3, 2, 4, priority=0)]
    chosen = pick(lanes, [share(1), share(2)], {}, 8)
    assert [c.lane_id for c in chosen if c.user_id == 1] == [2, 2, 1, 1]
    assert [c.user_id for c in chosen[:4]] == [1, 2, 1, 2]


def test_a_full_link_is_passed_over_for_another() -> None:
    lanes = [lane(1, 1, 5, link=1), lane(2, 1, 5, link=2)]
    chosen = pick(lanes, [share(1)], {1: 2}, 6)
    assert [c.link_id for c in chosen] == [1, 1, 2, 2, 2, 2]


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 8)), max_size=12), st.integers(0, 40), st.integers(0, 10))
def test_nothing_is_chosen_twice_and_no_limit_is_passed(shapes: list[tuple[int, int]], want: int, room: int) -> None:
    lanes = [lane(number, user, tasks, link=number % 2) for number, (user, tasks) in enumerate(shapes)]
    chosen = pick(lanes, [share(user) for user in range(1, 6)], {0: room}, want)
    ids = [choice.task_id for choice in chosen]
    available = sum(len(one.tasks) for one in lanes if one.link_id == 1)
    limited = min(room, sum(len(one.tasks) for one in lanes if one.link_id == 0))
    assert len(ids) == len(set(ids)) == min(want, available + limited)
    assert sum(choice.link_id == 0 for choice in chosen) <= room
