"""4.3: no message is taken that has no free thread, and what was not begun is given back."""

import statistics
import time

import pytest

from tests.support.marks import ALL, REAL
from tests.support.waiting import SLACK, eventually
from tests.workers.given import (
    ASKER,
    SHARED,
    Gate,
    Scripted,
    Serve,
    begins_nothing,
    event,
    is_empty,
    send,
)
from tta_agent_coordination import AgentId, RedisMessageCoordinator
from tta_agent_coordination.worker.desk import Desk

Coordinator = RedisMessageCoordinator


@pytest.mark.guarantee("4.3")
@ALL
def test_no_message_is_taken_without_a_free_thread(coordinator: Coordinator, serve: Serve) -> None:
    # given a worker whose two threads are busy
    gate = Gate()
    serve(Scripted(gate), coordinator, threads=2)
    coordinator.send_many(ASKER, [event(number, SHARED) for number in range(8)])
    gate.wait_for(2)

    # then it holds no more than two, and others get the rest at once
    assert coordinator.stats(SHARED).leased == 2
    agent = Scripted(agent_id=AgentId("greeter", "2"))
    begun = time.monotonic()
    serve(agent, coordinator, threads=2)
    eventually(lambda: len(agent.got) == 6)
    assert time.monotonic() - begun < 2.0
    eventually(lambda: coordinator.internals.held(SHARED) == 2)
    gate.open.set()
    eventually(lambda: is_empty(coordinator, SHARED))


@pytest.mark.guarantee("4.3")
@REAL
def test_who_waits_for_the_shared_inbox_gets_what_a_busy_worker_cannot_take(
    coordinator: Coordinator, serve: Serve
) -> None:
    # given a worker that is busy with its own inbox, and another one that waits
    gate = Gate()
    serve(Scripted(gate), coordinator, threads=1)
    agent = Scripted(agent_id=AgentId("greeter", "2"))
    serve(agent, coordinator, threads=1)
    send(coordinator, event(1))
    gate.wait_for(1)

    # then the other one gets what comes to the inbox they share, without delay
    for number in range(5):
        begun = time.monotonic()
        send(coordinator, event(number, SHARED))
        eventually(lambda number=number: len(agent.got) == number + 1)
        assert time.monotonic() - begun < SLACK
    gate.open.set()


@pytest.mark.guarantee("4.3")
@ALL
def test_another_worker_gets_what_was_not_begun_within_100_ms(
    coordinator: Coordinator, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given workers that have taken messages which none of their handlers begins
    monkeypatch.setattr(Desk, "take", begins_nothing)
    workers = [
        serve(Scripted(agent_id=AgentId("greeter", f"p{number}")), coordinator, threads=1)
        for number in range(5)
    ]
    monkeypatch.undo()
    coordinator.send_many(ASKER, [event(number, SHARED) for number in range(len(workers))])
    eventually(lambda: coordinator.stats(SHARED).leased == len(workers))

    # and another one that waits
    got_at: list[float] = []
    other = serve(Scripted(lambda _: got_at.append(time.monotonic())), coordinator)
    waits: list[float] = []
    for count, worker in enumerate(workers, start=1):
        eventually(lambda: all(one._parked for one in other._crew._fetchers.values()))

        # when one stops
        begun = time.monotonic()
        worker.stop()
        eventually(lambda count=count: len(got_at) == count)
        waits.append(got_at[-1] - begun)

    # then what it had is at work elsewhere; on a machine that has other things to do, mostly
    assert statistics.median(waits) < 0.1, waits
