"""4.2: leases of messages in hand are renewed while the handler runs, up to a limit."""

import logging
import threading
import time

import pytest

from tests.support.backends import Backend
from tests.support.marks import ALL, ONE_BACKEND
from tests.support.waiting import SLACK, eventually, holds_within
from tests.workers.conftest import Coordinators
from tests.workers.given import LONG, OWN, Gate, Payload, Scripted, Serve, event, is_empty, send
from tta_agent_coordination import AgentId, RedisMessageCoordinator, current_message
from tta_agent_coordination.events import Events
from tta_agent_coordination.worker.desk import Desk, Task
from tta_agent_coordination.worker.renewer import Renewer

Coordinator = RedisMessageCoordinator


@pytest.mark.guarantee("4.2")
@pytest.mark.backend("valkey", "cluster")
def test_nobody_else_gets_what_a_handler_works_on(coordinator: Coordinator, serve: Serve) -> None:
    # given a handler that takes longer than three leases
    lost: list[bool] = []

    def work(payload: Payload) -> Payload:
        threading.Event().wait(2.0)
        lost.append(current_message().lease_lost)
        return payload

    agent = Scripted(work)
    serve(agent, coordinator, visibility_timeout=0.6)
    send(coordinator, event(1))
    eventually(lambda: agent.got)

    # then others ask in vain until it is done
    assert coordinator.receive(OWN, wait=1.8) is None
    eventually(lambda: is_empty(coordinator, OWN))
    assert (len(agent.got), lost) == (1, [False])


@pytest.mark.guarantee("4.2")
@ONE_BACKEND
def test_what_comes_when_its_lease_is_over_is_not_begun(
    coordinator: Coordinator,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # given an answer that comes when somebody else has the message already
    agent = Scripted()
    worker = serve(agent, coordinator, threads=1, visibility_timeout=0.3)
    [fetcher] = worker._crew._fetchers.values()
    eventually(lambda: fetcher._parked)
    exchange = fetcher.feed.exchange
    elsewhere: list[str] = []

    def late(*arguments):
        heard = exchange(*arguments)
        if heard[0] and not elsewhere:
            received = coordinator.receive(OWN, 60.0, wait=LONG)
            assert received is not None
            elsewhere.append(received.token)
        return heard

    monkeypatch.setattr(fetcher.feed, "exchange", late)
    tasks: list[Task] = []
    handle = worker._crew._handling.handle
    monkeypatch.setattr(
        worker._crew._handling, "handle", lambda task: tasks.append(task) or handle(task)
    )
    send(coordinator, event(1))

    # then it is put away, once and for all, and the next message is handled
    eventually(lambda: tasks and not worker.health().busy_threads)
    assert agent.got == []
    assert caplog.text.count("is lost: it was over before its handler began") == 1
    assert handle(tasks[0]) is False, "nor is it when that is known"
    assert caplog.text.count("is lost") == 1
    send(coordinator, event(2))
    eventually(lambda: [payload["number"] for payload in agent.got] == [2])
    assert coordinator.ack(OWN, elsewhere[0])


@pytest.mark.guarantee("4.2")
@pytest.mark.backend("valkey")
def test_a_lease_that_is_young_costs_no_command(coordinator: Coordinator, serve: Serve) -> None:
    gate = Gate()
    worker = serve(Scripted(gate), coordinator, visibility_timeout=60.0)
    send(coordinator, event(1))
    gate.wait_for(1)
    [task] = worker._crew.desk.in_hand()
    leased_at = task.leased_at
    worker._crew._renewer.renew()
    assert task.leased_at == leased_at
    gate.open.set()


@pytest.mark.guarantee("4.2")
@ALL
def test_a_handler_that_takes_too_long_is_told_and_its_message_goes_to_another(
    coordinator: Coordinator, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    # given a handler that does not end by itself
    told_after: list[float] = []
    gate = Gate()

    def work(payload: Payload) -> Payload:
        begun = time.monotonic()
        assert holds_within(LONG, lambda: current_message().lease_lost)
        told_after.append(time.monotonic() - begun)
        return gate(payload)

    agent = Scripted(work)
    serve(agent, coordinator, threads=1, visibility_timeout=0.4, max_handler_seconds=0.3)
    with caplog.at_level(logging.WARNING):
        send(coordinator, event(1))
        eventually(lambda: agent.got)

        # then it is told when its time is over, and somebody else is handed the message
        received = coordinator.receive(OWN, 30.0, wait=5.0)
        assert received is not None
        assert received.queue_message.delivery_attempts == 2
        assert 0.3 <= told_after[0] < 0.3 + 0.4
        assert "its handler takes longer than 0.3 s" in caplog.text

        # and that one finishes it
        gate.open.set()
        eventually(lambda: "its lease had passed on" in caplog.text)
    assert coordinator.ack(OWN, received.token)


@pytest.mark.guarantee("4.2")
@pytest.mark.backend("valkey")
def test_a_late_handler_still_counts_if_nobody_took_its_message(
    coordinator: Coordinator, serve: Serve
) -> None:
    def work(payload: Payload) -> Payload:
        assert holds_within(LONG, lambda: current_message().lease_lost)
        return payload

    agent = Scripted(work)
    serve(agent, coordinator, threads=1, visibility_timeout=5.0, max_handler_seconds=0.2)
    send(coordinator, event(1))
    eventually(lambda: len(agent.got) == 1 and is_empty(coordinator, OWN))


@pytest.mark.guarantee("4.2")
@pytest.mark.backend("valkey")
def test_a_handler_is_told_when_its_message_was_purged(
    coordinator: Coordinator, serve: Serve
) -> None:
    told = threading.Event()

    def work(payload: Payload) -> Payload:
        assert holds_within(LONG, lambda: current_message().lease_lost)
        told.set()
        return payload

    agent = Scripted(work)
    serve(agent, coordinator, visibility_timeout=0.6)
    send(coordinator, event(1))
    eventually(lambda: agent.got)
    coordinator.purge(OWN)
    assert told.wait(5.0)


@pytest.mark.guarantee("4.2")
@pytest.mark.backend("valkey")
def test_a_handler_is_told_when_redis_is_away_for_longer_than_the_lease(
    backend: Backend, proxy, key_prefix: str, coordinators: Coordinators, serve: Serve
) -> None:
    told = threading.Event()

    def work(payload: Payload) -> Payload:
        if len(agent.got) == 1:
            assert holds_within(LONG, lambda: current_message().lease_lost)
            told.set()
        return payload

    near = coordinators(backend.client(), key_prefix)
    far = coordinators(backend.client_through(proxy), key_prefix, call_timeout=0.3)
    agent = Scripted(work)
    worker = serve(agent, far, visibility_timeout=0.6)
    send(near, event(1))
    eventually(lambda: agent.got)
    proxy.refuse()
    assert told.wait(5.0)
    assert "Redis" in str(worker.health().last_error)

    # when it is back, the message is handled to its end, by whom does not matter
    proxy.heal()
    eventually(lambda: is_empty(near, OWN), timeout=10.0)


@pytest.mark.guarantee("4.2", "4.3")
@pytest.mark.backend("valkey", "cluster")
def test_what_was_not_begun_is_renewed_until_its_worker_stops(coordinator: Coordinator) -> None:
    # given a message of each of two inboxes, whose handlers have not begun
    other = AgentId("other", "1")
    tasks: list[Task] = []
    for inbox in (OWN, other):
        send(coordinator, event(1, inbox))
        [feed] = coordinator.internals.feed([inbox])
        [(_, delivery)], _ = feed.exchange({}, 1, 0.5)
        tasks.append(Task(feed, inbox, delivery, time.monotonic() - 0.2, visibility=30.0))
    desk = Desk(2)
    assert desk.reserve(0.0) == 2
    assert desk.put(tasks)
    renewer = Renewer(desk, 0.5, None, lambda _: None, Events())

    # then both are renewed, and a handler that begins after that knows
    before = [task.leased_at for task in tasks]
    renewer.renew()
    assert all(task.leased_at > begun for task, begun in zip(tasks, before, strict=True))
    assert not tasks[0].begin(*tasks[0].delivery.open()).lease_lost

    # and after a stop no call is begun
    for task in tasks:
        task.leased_at = before[0]
    renewer.stop()
    renewer.renew()
    assert [task.leased_at for task in tasks] == [before[0]] * 2
    assert coordinator.purge(OWN) == coordinator.purge(other) == 1


@pytest.mark.guarantee("4.2")
@pytest.mark.backend("valkey")
def test_a_handler_is_told_in_time_though_the_renewal_waits_for_an_answer(
    backend: Backend, proxy, key_prefix: str, coordinators: Coordinators, serve: Serve,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    # given leases that are shorter than what a call may take
    told_after: list[float] = []
    silent = threading.Event()
    gate = Gate()

    def work(payload: Payload) -> Payload:
        assert silent.wait(LONG)
        begun = time.monotonic()
        assert holds_within(LONG, lambda: current_message().lease_lost)
        told_after.append(time.monotonic() - begun)
        return gate(payload)

    agent = Scripted(work)
    far = coordinators(backend.client_through(proxy), key_prefix, call_timeout=9.0)
    worker = serve(agent, far, threads=1, visibility_timeout=0.6)
    send(far, event(1))
    eventually(lambda: agent.got)

    # when Redis falls silent
    proxy.black_hole()
    silent.set()
    gate.wait_for(1)
    assert told_after[0] < 0.6 + SLACK / 2

    # then it is told once, by whoever sees it first, and nothing is renewed any more
    [task] = worker._crew.desk.in_hand()
    proxy.heal()
    eventually(lambda: task.lease_lost)
    assert caplog.text.count(f"the lease of message {task.delivery.message_id} is lost") == 1
    taken = far.receive(OWN, 30.0, wait=5.0)
    assert taken is not None, "others get it"
    gate.open.set()
    assert far.ack(OWN, taken.token)


@pytest.mark.guarantee("4.2")
@pytest.mark.backend("valkey")
def test_the_renewer_survives_any_error(
    coordinator: Coordinator, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    worker = serve(Scripted(gate), coordinator, visibility_timeout=0.6)
    send(coordinator, event(1))
    gate.wait_for(1)
    with monkeypatch.context() as patched:
        patched.setattr(worker._crew.desk, "in_hand", lambda: 1 / 0)
        eventually(lambda: "ZeroDivisionError" in str(worker.health().last_error))
    assert coordinator.receive(OWN, wait=0.8) is None
    gate.open.set()


@pytest.mark.guarantee("4.6")
@pytest.mark.backend("valkey")
def test_the_fetcher_survives_any_error(
    coordinator: Coordinator, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = Scripted()
    worker = serve(agent, coordinator)
    with monkeypatch.context() as patched:
        patched.setattr(coordinator._inbox, "claim_command", lambda *_, **__: 1 / 0)
        send(coordinator, event(1))
        eventually(lambda: "ZeroDivisionError" in str(worker.health().last_error))
    eventually(lambda: agent.got)


@pytest.mark.guarantee("4.2")
@pytest.mark.backend("valkey", "cluster")
def test_what_is_acknowledged_while_it_is_renewed_is_not_lost(coordinator: Coordinator) -> None:
    # given two messages that somebody acknowledged, of which the handler of one has ended
    desk, [feed] = Desk(2), coordinator.internals.feed([OWN])
    for number in range(2):
        send(coordinator, event(number))
    found, _ = feed.exchange({}, 2, LONG)
    tasks = [Task(feed, OWN, delivery, time.monotonic() - LONG) for _, delivery in found]
    assert desk.reserve(0.0) == 2
    assert desk.put(tasks)
    assert feed.ack({OWN: [task.delivery for task in tasks]}) == []
    tasks[0].finished = True

    # then a renewal that comes too late takes the lease of the other for lost, and not of this one
    Renewer(desk, LONG, None, lambda _: None, Events()).renew()
    assert [task.lease_lost for task in tasks] == [False, True]
