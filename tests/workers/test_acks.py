"""4.3: what is finished is acknowledged: at once, many together, and again if need be."""

import pytest

from tests.support.backends import Backend
from tests.support.marks import ALL, ONE_BACKEND
from tests.support.waiting import eventually
from tests.workers.conftest import Coordinators
from tests.workers.given import (
    ASKER,
    LONG,
    OWN,
    SHARED,
    Gate,
    Scripted,
    Serve,
    event,
    is_empty,
    send,
)
from tta_agent_coordination import CoordinatorUnavailableError, RedisMessageCoordinator
from tta_agent_coordination.worker.desk import Desk, Task

Coordinator = RedisMessageCoordinator


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
    [feed] = coordinator.internals.feed([SHARED])
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
@ONE_BACKEND
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
@ONE_BACKEND
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
        assert coordinator.internals.held(OWN) == 1

    # then the next one that goes to Redis takes them along
    send(coordinator, event(2))
    eventually(lambda: is_empty(coordinator, OWN))


@pytest.mark.guarantee("4.3")
@pytest.mark.backend("fakeredis")
def test_one_command_acknowledges_so_many_at_most(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tta_agent_coordination.worker.desk.MOST_A_SCRIPT", 2)
    coordinator.send_many(ASKER, [event(number) for number in range(5)])
    [feed] = coordinator.internals.feed([OWN])
    found, _ = feed.exchange({}, 5, 30.0)
    tasks = [Task(feed, inbox, delivery, 0.0) for inbox, delivery in found]
    desk = Desk(5)
    desk.put_back_done(feed, tasks)
    assert [desk.take_done(feed) for _ in range(4)] == [tasks[:2], tasks[2:4], tasks[4:], []]
