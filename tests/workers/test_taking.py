"""4.3: no message is taken that has no free thread, and what was not begun is given back."""

import statistics
import threading
import time

import pytest

from tests.support.backends import Backend
from tests.support.waiting import SLACK, eventually
from tests.workers.conftest import Coordinators
from tests.workers.given import (
    ASKER,
    LONG,
    OWN,
    SHARED,
    Gate,
    Payload,
    Scripted,
    Serve,
    event,
    in_thread,
    is_empty,
    send,
)
from tests.workers.process import begins_nothing
from tta_agent_coordination import (
    Agent,
    AgentId,
    AgentMessage,
    AgentWorker,
    ConfigurationError,
    CoordinatorUnavailableError,
    RedisMessageCoordinator,
)
from tta_agent_coordination.events import Events
from tta_agent_coordination.transport.blocked import Blocked
from tta_agent_coordination.worker.desk import Desk, Task
from tta_agent_coordination.worker.renewer import Renewer

ALL = pytest.mark.backend("fakeredis", "valkey", "redis62", "cluster")
REAL = pytest.mark.backend("valkey", "cluster")
ONE = pytest.mark.backend("valkey")

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
    eventually(lambda: coordinator.held(SHARED) == 2)
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
    assert (coordinator.held(OWN), coordinator.stats(OWN).leased) == (3, 0)
    received = coordinator.receive_many(OWN, 10)
    assert [one.queue_message.delivery_attempts for one in received] == [1, 1, 1]
    assert agent.life == ["start", "stop"]


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


@pytest.mark.guarantee("4.3")
@ONE
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
@ONE
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
@ONE
def test_more_than_there_is_room_for_is_released(
    coordinator: Coordinator, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a claim that brings more than was asked for, as one repeated on a cluster may
    gate = Gate()
    worker = serve(Scripted(gate), coordinator, threads=2)
    [fetcher] = worker._crew._fetchers.values()
    eventually(lambda: fetcher._parked)
    exchange = fetcher.feed.exchange
    monkeypatch.setattr(fetcher.feed, "exchange", lambda acks, _, lease: exchange(acks, 5, lease))
    coordinator.send_many(ASKER, [event(number) for number in range(5)])
    gate.wait_for(2)
    eventually(lambda: coordinator.stats(OWN).leased == 2)
    assert worker.health().busy_threads == 2
    gate.open.set()
    monkeypatch.undo()


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
    assert "1 handlers run on" in caplog.text

    # and one that ends after all is acknowledged, for nobody else has the message yet
    gate.open.set()
    eventually(lambda: is_empty(coordinator, OWN))


@pytest.mark.guarantee("4.3")
@ONE
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
@ONE
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
@ONE
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
@ONE
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
@ONE
def test_a_worker_is_a_context_manager(coordinator: Coordinator) -> None:
    agent = Scripted()
    with AgentWorker(agent, coordinator, threads=1) as worker:
        send(coordinator, event(1))
        eventually(lambda: agent.got)
        assert worker.health().running
    assert not worker.health().running
    assert is_empty(coordinator, OWN)


@pytest.mark.guarantee("4.3")
@ONE
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
@ONE
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


@pytest.mark.guarantee("4.3")
@pytest.mark.backend("fakeredis")
def test_wrong_arguments_are_refused(coordinator: Coordinator) -> None:
    agent = Scripted()
    with pytest.raises(ValueError, match="at least one agent"):
        AgentWorker([], coordinator)
    with pytest.raises(TypeError, match="each agent"):
        AgentWorker([object()], coordinator)
    with pytest.raises(TypeError, match="an agent or several, not 5"):
        AgentWorker(5, coordinator)
    with pytest.raises(TypeError, match="make one, Scripted"):
        AgentWorker(Scripted, coordinator)
    with pytest.raises(ValueError, match="2 agents of a worker have the id greeter:1"):
        AgentWorker([agent, Scripted()], coordinator)
    with pytest.raises(TypeError, match="coordinator"):
        AgentWorker(agent, object())
    for wrong in (
        {"threads": 0},
        {"visibility_timeout": 0.0},
        {"visibility_timeout": -1.0},
        {"max_handler_seconds": -1.0},
        {"drain_timeout": float("inf")},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            AgentWorker(agent, coordinator, **wrong)


class Eventful(Agent):
    """Writes no ``process``, for nobody asks it anything."""

    def on_event(self, message: AgentMessage) -> None:
        del message


@pytest.mark.guarantee("4.1")
@pytest.mark.backend("fakeredis")
def test_an_agent_that_handles_nothing_is_refused(coordinator: Coordinator) -> None:
    bare = Agent(OWN)
    with pytest.raises(TypeError, match="greeter:1 handles nothing: write its process"):
        AgentWorker(bare, coordinator)

    AgentWorker(Eventful(OWN), coordinator)
    bare.on(topic="news")(lambda _: None)
    AgentWorker(bare, coordinator)
    assigned = Agent(OWN)
    assigned.process = lambda payload: payload
    AgentWorker(assigned, coordinator)


@pytest.mark.guarantee("4.3")
@ONE
def test_run_is_for_the_main_thread(coordinator: Coordinator) -> None:
    worker = AgentWorker(Scripted(), coordinator)
    with pytest.raises(ConfigurationError, match="main thread"):
        in_thread(worker.run, "not-main")()


@pytest.mark.guarantee("4.3")
@ALL
def test_many_finished_messages_are_acknowledged(coordinator: Coordinator, serve: Serve) -> None:
    coordinator.send_many(ASKER, [event(number) for number in range(300)])
    agent = Scripted()
    serve(agent, coordinator, threads=8)
    eventually(lambda: is_empty(coordinator, OWN), timeout=20.0)
    assert sorted(payload["number"] for payload in agent.got) == list(range(300))


@pytest.mark.guarantee("4.3")
@ALL
def test_what_is_finished_is_acknowledged_at_once(coordinator: Coordinator, serve: Serve) -> None:
    # given a fetcher that waits while handlers are at work
    gate = Gate()
    serve(Scripted(gate), coordinator, threads=6)
    coordinator.send_many(ASKER, [event(number) for number in range(5)])
    gate.wait_for(5)

    # then what they do is acknowledged without waiting for its next look
    gate.open.set()
    eventually(lambda: is_empty(coordinator, OWN), timeout=2.0)


@pytest.mark.guarantee("4.3")
@pytest.mark.backend("cluster")
def test_acks_do_not_wait_for_a_free_thread_when_others_take_them_all(
    coordinator: Coordinator, serve: Serve
) -> None:
    # given two inboxes on two servers, of which one keeps the only thread busy
    send(coordinator, event(9, SHARED))
    [feed] = coordinator.feed([SHARED])
    [(_, leased)], _ = feed.exchange({}, 1, 30.0)
    gate = Gate()
    worker = serve(Scripted(gate), coordinator, threads=1)
    feeds = {fetcher.feed.agent_ids[0]: fetcher for fetcher in worker._crew._fetchers.values()}
    send(coordinator, event(1))
    gate.wait_for(1)

    # when something of the other inbox is done, and its fetcher looks for a free thread
    desk, fetcher = worker._crew.desk, feeds[SHARED]
    desk.put_back_done(fetcher.feed, [Task(fetcher.feed, SHARED, leased, 0.0)])
    fetcher.wake()

    # then it is acknowledged all the same
    eventually(lambda: is_empty(coordinator, SHARED))
    gate.open.set()


@pytest.mark.guarantee("4.3")
@ONE
def test_an_ack_without_a_reply_is_repeated(
    backend: Backend, proxy, key_prefix: str, coordinators: Coordinators, serve: Serve
) -> None:
    near = coordinators(backend.client(), key_prefix)
    far = coordinators(backend.client_through(proxy), key_prefix, call_timeout=0.5)
    gate = Gate()
    agent = Scripted(gate)
    worker = serve(agent, far, threads=3)
    near.send_many(ASKER, [event(number) for number in range(2)])
    gate.wait_for(2)
    proxy.refuse()
    gate.open.set()
    eventually(lambda: worker.health().busy_threads == 0)
    assert near.stats(OWN).leased == 2
    proxy.heal()
    eventually(lambda: is_empty(near, OWN), timeout=LONG)
    assert len(agent.got) == 2


@pytest.mark.guarantee("4.3")
@ONE
def test_an_ack_that_fails_while_the_fetcher_waits_is_made_later(
    coordinator: Coordinator, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a fetcher that waits, and handlers whose acks fail
    gate = Gate()
    worker = serve(Scripted(gate), coordinator, threads=2)
    [fetcher] = worker._crew._fetchers.values()
    send(coordinator, event(1))
    gate.wait_for(1)
    eventually(lambda: fetcher._parked)

    def fail(_acks: object) -> None:
        raise CoordinatorUnavailableError("Redis is away")

    with monkeypatch.context() as patched:
        patched.setattr(fetcher.feed, "ack", fail)
        gate.open.set()
        eventually(lambda: worker.health().last_error)
        assert coordinator.held(OWN) == 1

    # then the next one that goes to Redis takes them along
    send(coordinator, event(2))
    eventually(lambda: is_empty(coordinator, OWN))


@pytest.mark.guarantee("4.3")
@ONE
def test_a_feed_that_was_cut_off_waits_no_more(coordinator: Coordinator) -> None:
    [feed] = coordinator.feed([OWN])
    feed.cut_off()
    begun = time.monotonic()
    feed.wait()
    assert time.monotonic() - begun < SLACK
    feed.leave()
    Blocked().cut_off()  # nor does one that could not be sent


@pytest.mark.guarantee("4.3")
@pytest.mark.backend("fakeredis")
def test_one_command_acknowledges_so_many_at_most(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tta_agent_coordination.worker.desk.MOST_A_SCRIPT", 2)
    coordinator.send_many(ASKER, [event(number) for number in range(5)])
    [feed] = coordinator.feed([OWN])
    found, _ = feed.exchange({}, 5, 30.0)
    tasks = [Task(feed, inbox, delivery, 0.0) for inbox, delivery in found]
    desk = Desk(5)
    desk.put_back_done(feed, tasks)
    assert [desk.take_done(feed) for _ in range(4)] == [tasks[:2], tasks[2:4], tasks[4:], []]


@pytest.mark.guarantee("4.3")
@ONE
def test_only_handlers_that_run_are_told_that_a_worker_does_not_wait_for_them(
    coordinator: Coordinator,
) -> None:
    coordinator.send_many(ASKER, [event(number) for number in range(2)])
    [feed] = coordinator.feed([OWN])
    found, _ = feed.exchange({}, 2, 30.0)
    tasks = [Task(feed, inbox, delivery, 0.0) for inbox, delivery in found]
    desk = Desk(2)
    assert desk.reserve(0.0) == 2
    assert desk.put(tasks)
    tasks[0].finished = True
    Renewer(desk, 30.0, None, lambda _: None, Events()).give_up()
    assert [task.lease_lost for task in tasks] == [False, True]
    # what began later is told as well
    current = [task.begin(task.delivery.decode()) for task in tasks]
    assert [one.lease_lost for one in current] == [False, True]
    assert desk.stop() == tasks
    assert (desk.stop(), desk.free, desk.busy) == ([], 2, 0)
