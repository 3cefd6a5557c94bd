"""4.3: a worker stops, finishes what it has begun and no more, and can be started again."""

import os
import signal
import threading
import time

import pytest

from tests.support.marks import ALL, ONE_BACKEND
from tests.support.waiting import SLACK, eventually
from tests.workers.given import (
    ASKER,
    OWN,
    Gate,
    Payload,
    Scripted,
    Serve,
    begins_nothing,
    event,
    in_thread,
    is_empty,
    send,
)
from tta_agent_coordination import (
    Agent,
    AgentId,
    AgentWorker,
    CoordinatorUnavailableError,
    RedisMessageCoordinator,
)
from tta_agent_coordination.events import Events
from tta_agent_coordination.transport.blocked import Blocked
from tta_agent_coordination.worker.desk import Desk, Task
from tta_agent_coordination.worker.renewer import Renewer

Coordinator = RedisMessageCoordinator


@pytest.mark.guarantee("4.3")
@ALL
def test_stop_waits_for_handlers_and_acknowledges_what_they_did(
    coordinator: Coordinator, serve: Serve
) -> None:
    gate = Gate()
    agent = Scripted(gate)
    worker = serve(agent, coordinator, threads=2)
    coordinator.send_many(ASKER, [event(number) for number in range(5)])
    gate.wait_for(2)

    stopped = in_thread(worker.stop, "stopper")
    eventually(lambda: worker._crew.desk.stopping)
    gate.open.set()

    assert stopped() is True
    assert (coordinator.internals.held(OWN), coordinator.stats(OWN).leased) == (3, 0)
    received = coordinator.receive_many(OWN, 10)
    assert [one.queue_message.delivery_attempts for one in received] == [1, 1, 1]
    assert agent.life == ["start", "stop"]


@pytest.mark.guarantee("4.3")
@ONE_BACKEND
def test_what_is_released_at_a_stop_has_no_attempt_counted(
    coordinator: Coordinator, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Desk, "take", begins_nothing)
    worker = serve(Scripted(), coordinator)
    send(coordinator, event(1))
    eventually(lambda: coordinator.stats(OWN).leased == 1)
    worker.stop()
    received = coordinator.receive(OWN)
    assert received is not None
    assert received.queue_message.delivery_attempts == 1


@pytest.mark.guarantee("4.3")
@ONE_BACKEND
def test_what_is_claimed_while_it_stops_is_released(
    coordinator: Coordinator, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a worker that begins to stop while a claim is under way
    worker = serve(Scripted(), coordinator)
    [fetcher] = worker._crew._fetchers.values()
    eventually(lambda: fetcher._parked)
    exchange = fetcher.feed.exchange
    stopped = threading.Event()

    def late(*arguments):
        found = exchange(*arguments)
        if found[0]:
            in_thread(worker._crew.desk.stop, "stopper")()
            stopped.set()
        return found

    monkeypatch.setattr(fetcher.feed, "exchange", late)
    send(coordinator, event(1))
    assert stopped.wait(5.0)
    assert worker.stop()
    received = coordinator.receive(OWN)
    assert received is not None
    assert received.queue_message.delivery_attempts == 1


@pytest.mark.guarantee("4.3")
@ALL
def test_stop_without_drain_leaves_handlers_alone(
    coordinator: Coordinator, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    worker = serve(Scripted(gate), coordinator, visibility_timeout=5.0)
    send(coordinator, event(1))
    gate.wait_for(1)
    [task] = worker._crew.desk.in_hand()

    begun = time.monotonic()
    assert worker.stop(drain=False) is False
    assert time.monotonic() - begun < 4.0
    assert task.lease_lost
    assert task.current.lease_lost
    assert "1 handler left at work" in caplog.text

    # and one that ends after all is acknowledged, for nobody else has the message yet
    gate.open.set()
    eventually(lambda: is_empty(coordinator, OWN))


@pytest.mark.guarantee("4.3")
@ONE_BACKEND
def test_the_drain_timeout_bounds_a_stop(coordinator: Coordinator, serve: Serve) -> None:
    gate = Gate()
    worker = serve(Scripted(gate), coordinator, drain_timeout=0.2)
    send(coordinator, event(1))
    gate.wait_for(1)
    begun = time.monotonic()
    assert worker.stop() is False
    assert 0.2 <= time.monotonic() - begun < 3.0
    # and a call that finds it stopped says the same, as long as that handler runs
    assert worker.stop() is False
    assert worker.stop(drain=False) is False
    gate.open.set()
    eventually(worker.stop)


@pytest.mark.guarantee("4.3")
@ONE_BACKEND
def test_a_worker_that_was_started_again_does_not_forget_who_still_runs(
    coordinator: Coordinator, serve: Serve
) -> None:
    gate = Gate()
    worker = serve(Scripted(gate), coordinator, drain_timeout=0.0)
    send(coordinator, event(1))
    gate.wait_for(1)
    assert worker.stop() is False
    worker.start()
    assert worker.stop() is False
    gate.open.set()
    eventually(worker.stop)


@pytest.mark.guarantee("4.3")
@ONE_BACKEND
def test_a_stop_without_drain_ends_one_that_drains(coordinator: Coordinator, serve: Serve) -> None:
    gate = Gate()
    worker = serve(Scripted(gate), coordinator, drain_timeout=60.0)
    send(coordinator, event(1))
    gate.wait_for(1)
    draining = in_thread(worker.stop, "drains")
    eventually(lambda: worker._crew.desk.stopping)
    assert worker.stop(drain=False) is False
    assert draining() is False
    gate.open.set()
    eventually(worker.stop)


@pytest.mark.guarantee("4.3")
@ONE_BACKEND
def test_a_signal_finds_a_worker_that_has_stopped_by_itself(coordinator: Coordinator) -> None:
    # given a worker that a handler stops, and a signal that comes at the end of that
    class Ending(Scripted):
        def stop(self) -> None:
            super().stop()
            os.kill(os.getpid(), signal.SIGTERM)

    agent = Ending(lambda _: {"stopped": worker.stop()})
    worker = AgentWorker(agent, coordinator, threads=1)
    send(coordinator, event(1))

    # then `run` returns
    worker.run()
    assert agent.life == ["start", "stop"]
    assert is_empty(coordinator, OWN)


@pytest.mark.guarantee("4.3")
@ONE_BACKEND
def test_leases_are_renewed_while_it_drains(coordinator: Coordinator, serve: Serve) -> None:
    gate = Gate()
    worker = serve(Scripted(gate), coordinator, visibility_timeout=0.4)
    send(coordinator, event(1))
    gate.wait_for(1)
    stopped = in_thread(worker.stop, "stopper")
    assert coordinator.receive(OWN, wait=1.0) is None
    gate.open.set()
    assert stopped() is True
    assert is_empty(coordinator, OWN)


@pytest.mark.guarantee("4.3")
@ALL
def test_stop_can_be_repeated_from_any_thread(coordinator: Coordinator, serve: Serve) -> None:
    agent = Scripted()
    worker = serve(agent, coordinator)
    assert AgentWorker(Scripted(), coordinator).stop() is True
    results = [in_thread(worker.stop, f"stopper-{number}") for number in range(4)]
    assert [result() for result in results] == [True] * 4
    assert worker.stop() is True
    assert agent.life == ["start", "stop"]


@pytest.mark.guarantee("4.3")
@ALL
def test_a_handler_may_stop_its_worker(coordinator: Coordinator, serve: Serve) -> None:
    answers: list[bool] = []

    def stop(payload: Payload) -> Payload:
        answers.append(worker.stop())
        return payload

    agent = Scripted(stop)
    worker = serve(agent, coordinator)
    send(coordinator, event(1))
    eventually(lambda: agent.life == ["start", "stop"])
    assert answers == [False]
    assert is_empty(coordinator, OWN)
    assert not worker.health().running


@pytest.mark.guarantee("4.3")
@ALL
def test_a_worker_can_be_started_again(coordinator: Coordinator, serve: Serve) -> None:
    agent = Scripted()
    worker = serve(agent, coordinator)
    worker.start()  # it does: nothing more happens
    for number in range(3):
        send(coordinator, event(number))
        eventually(lambda number=number: len(agent.got) == number + 1)
        assert worker.stop()
        worker.start()
    assert agent.life == ["start", "stop"] * 3 + ["start"]


@pytest.mark.guarantee("4.3")
@ONE_BACKEND
def test_a_worker_is_a_context_manager(coordinator: Coordinator) -> None:
    agent = Scripted()
    with AgentWorker(agent, coordinator, threads=1) as worker:
        send(coordinator, event(1))
        eventually(lambda: agent.got)
        assert worker.health().running
    assert not worker.health().running
    assert is_empty(coordinator, OWN)


@pytest.mark.guarantee("4.3")
@ONE_BACKEND
def test_an_agent_that_does_not_start_leaves_nothing_behind(coordinator: Coordinator) -> None:
    class Broken(Scripted):
        def start(self) -> None:
            raise OSError("no model")

    fine = Scripted()
    worker = AgentWorker([fine, Broken(agent_id=AgentId("broken"))], coordinator)
    with pytest.raises(OSError, match="no model"):
        worker.start()
    assert fine.life == ["start", "stop"]
    assert not worker.health().running


@pytest.mark.guarantee("4.3")
@ONE_BACKEND
def test_what_the_stop_of_an_agent_raises_is_logged(
    coordinator: Coordinator, caplog: pytest.LogCaptureFixture
) -> None:
    class Stubborn(Scripted):
        agent_id = OWN

        def __init__(self, error: Exception) -> None:
            super().__init__()
            self.error = error

        def stop(self) -> None:
            raise self.error

    for error in (OSError("no"), CoordinatorUnavailableError("gone")):
        worker = AgentWorker(Stubborn(error), coordinator, threads=1)
        worker.start()
        assert worker.stop() is True
    assert caplog.text.count("stop of agent greeter:1 failed") == 2


class Leaving(Scripted):
    """Wants to end the process when it is stopped."""

    def stop(self) -> None:
        super().stop()
        raise SystemExit


@pytest.mark.guarantee("4.3")
@ONE_BACKEND
def test_an_agent_that_ends_its_thread_keeps_no_other_from_being_stopped(
    coordinator: Coordinator, caplog: pytest.LogCaptureFixture
) -> None:
    agents = [Leaving(), Scripted(agent_id=AgentId("other", "1"))]
    worker = AgentWorker(agents, coordinator, threads=1)

    # in a thread it goes no further
    worker.start()
    assert in_thread(worker.stop, "stopper")() is True
    assert [agent.life for agent in agents] == [["start", "stop"]] * 2
    assert "stop of agent greeter:1 failed" in caplog.text

    # in the main one it reaches the caller, when all are stopped
    worker.start()
    with pytest.raises(SystemExit):
        worker.stop()
    assert [agent.life for agent in agents] == [["start", "stop"] * 2] * 2
    assert not worker.health().running
    assert worker.stop() is True


@pytest.mark.guarantee("4.3")
@ONE_BACKEND
def test_an_asynchronous_hook_may_call_the_stop_that_calls_it(coordinator: Coordinator) -> None:
    answers: list[bool] = []

    class Stopping(Agent):
        agent_id = OWN

        async def process(self, payload: Payload) -> Payload:
            return payload

        async def stop(self) -> None:
            answers.append(worker.stop())

    worker = AgentWorker(Stopping(), coordinator, threads=1)
    worker.start()
    assert in_thread(worker.stop, "stopper")() is True
    assert answers == [False]


@pytest.mark.guarantee("4.3")
@ONE_BACKEND
def test_only_handlers_that_run_are_told_that_a_worker_does_not_wait_for_them(
    coordinator: Coordinator,
) -> None:
    coordinator.send_many(ASKER, [event(number) for number in range(2)])
    [feed] = coordinator.internals.feed([OWN])
    found, _ = feed.exchange({}, 2, 30.0)
    tasks = [Task(feed, inbox, delivery, 0.0) for inbox, delivery in found]
    desk = Desk(2)
    assert desk.reserve(0.0) == 2
    assert desk.put(tasks)
    tasks[0].finished = True
    Renewer(desk, 30.0, None, lambda _: None, Events()).give_up()
    assert [task.lease_lost for task in tasks] == [False, True]
    # what began later is told as well
    current = [task.begin(*task.delivery.open()) for task in tasks]
    assert [one.lease_lost for one in current] == [False, True]
    assert desk.stop() == tasks
    assert (desk.stop(), desk.free, desk.busy) == ([], 2, 0)


@pytest.mark.guarantee("4.3")
@ONE_BACKEND
def test_a_feed_that_was_cut_off_waits_no_more(coordinator: Coordinator) -> None:
    [feed] = coordinator.internals.feed([OWN])
    feed.cut_off()
    begun = time.monotonic()
    feed.wait()
    assert time.monotonic() - begun < SLACK
    feed.leave()
    Blocked().cut_off()  # nor does one that could not be sent
