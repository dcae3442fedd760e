"""Who is woken by what."""

from __future__ import annotations

from wherry_queue.hub import Hub, Waiter

AT_ONCE_S = 0.0


async def happened(waiter: Waiter) -> set[int]:
    return set(await waiter.wait(AT_ONCE_S))


async def test_a_waiter_hears_of_its_job_and_of_no_other() -> None:
    hub = Hub()
    with hub.waiting(1) as waiter:
        hub.notify([2])
        assert await happened(waiter) == set()
        hub.notify([1, 2])
        assert await happened(waiter) == {1}
        assert await happened(waiter) == set(), "once told is enough"


async def test_what_happens_between_two_waits_is_remembered() -> None:
    hub = Hub()
    with hub.waiting(1) as waiter, hub.waiting(1) as other:
        hub.notify([1])
        assert await happened(waiter) == {1}
        hub.notify([2, 1])
        for one in (waiter, other):
            assert await happened(one) == {1}


async def test_a_wait_can_be_ended_without_news() -> None:
    waiter = Waiter()
    waiter.wake()
    assert await waiter.wait(3600) == frozenset()


async def test_nothing_is_left_of_those_who_have_gone() -> None:
    hub = Hub()
    with hub.waiting(1), hub.waiting(2), hub.waiting(2):
        pass
    assert vars(hub) == vars(Hub())
