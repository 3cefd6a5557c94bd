"""4.3: handlers that run out of messages fetch for themselves, and nothing is promised less."""

import threading
import time
from collections.abc import Callable
from typing import Any

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
)
from tta_agent_coordination import (
    AgentWorker,
    CoordinatorUnavailableError,
    RedisMessageCoordinator,
)
from tta_agent_coordination.coordinator.feed import Feed
from tta_agent_coordination.proxy import FaultProxy

ONE = pytest.mark.backend("fakeredis", "valkey")

Coordinator = RedisMessageCoordinator
Exchange = Callable[..., Any]


@pytest.fixture
def handlers_do(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say what happens when a handler fetches; it is given what would happen otherwise."""

    def say(act: Callable[[Exchange], Any], step: str = "finish") -> None:
        really = getattr(Feed, step)

        def instead(feed: Feed, *given: Any) -> Any:
            if threading.current_thread().name.startswith("tta-handle-"):
                return act(lambda: really(feed, *given))
            return really(feed, *given)

        monkeypatch.setattr(Feed, step, instead)

    return say


def fill(coordinator: Coordinator, count: int) -> None:
    coordinator.send_many(ASKER, [event(number) for number in range(count)])


def numbers(agent: Scripted) -> list[int]:
    return sorted(payload["number"] for payload in agent.got)


@pytest.mark.guarantee("4.3")
@ONE
def test_handlers_fetch_while_there_is_more_than_they_can_take(
    coordinator: Coordinator, serve: Serve, handlers_do: Any
) -> None:
    # given more messages than threads
    fill(coordinator, 50)
    turns: list[int] = []

    def count(finish: Exchange) -> Any:
        found, refused = finish()
        turns.append(len(found))
        return found, refused

    handlers_do(count)
    agent = Scripted()
    worker = serve(agent, coordinator, threads=3)

    # then handlers fetch, never more than there are threads, and all is done once
    eventually(lambda: is_empty(coordinator, OWN))
    assert numbers(agent) == list(range(50))
    assert turns
    assert max(turns) <= 3

    # and once nothing is left, the fetching thread waits for more
    [fetcher] = worker._crew._fetchers.values()
    eventually(lambda: fetcher._parked)
    fill(coordinator, 1)
    eventually(lambda: len(agent.got) == 51)


@pytest.mark.guarantee("4.6")
@ONE
def test_what_a_handler_fetches_is_a_poll_too(coordinator: Coordinator, handlers_do: Any) -> None:
    # given a message that a handler fetches, for the first one fills the only thread
    asked: list[float] = []
    polled: list[float] = []

    def note(begin: Exchange) -> Any:
        asked.append(time.monotonic())
        return begin()

    def act(payload: Payload) -> None:
        if payload["number"] == 1:
            age = worker.health().last_poll_age
            polled.append(time.monotonic() - age)

    handlers_do(note, "begin")
    agent = Scripted(act)
    worker = AgentWorker(agent, coordinator, threads=1)
    fill(coordinator, 2)

    # when it is handled
    with worker:
        eventually(lambda: polled)

    # then the last poll is the one that brought it
    assert polled[0] >= asked[0]


@pytest.mark.guarantee("4.3")
@ONE
def test_a_handler_that_takes_long_does_not_keep_the_others_from_fetching(
    coordinator: Coordinator, serve: Serve
) -> None:
    # given a handler that is held up, and more messages than threads
    gate = Gate()

    def act(payload: Payload) -> Payload | None:
        return gate(payload) if payload["number"] == 0 else None

    agent = Scripted(act)
    fill(coordinator, 20)
    serve(agent, coordinator, threads=2)
    gate.wait_for(1)

    # then the other thread handles the rest, and what it did is acknowledged
    eventually(lambda: coordinator.internals.held(OWN) == 1)
    assert numbers(agent) == list(range(20))
    gate.open.set()
    eventually(lambda: is_empty(coordinator, OWN))


@pytest.mark.guarantee("4.3")
@ONE
def test_what_a_handler_cannot_fetch_the_fetching_thread_does(
    coordinator: Coordinator, serve: Serve, handlers_do: Any
) -> None:
    # given handlers that never reach Redis to fetch
    def fail(_begin: Exchange) -> Any:
        raise CoordinatorUnavailableError("Redis is away")

    handlers_do(fail, "begin")
    fill(coordinator, 20)
    agent = Scripted()
    worker = serve(agent, coordinator, threads=3)

    # then everything is handled once and acknowledged all the same, and it is told of
    eventually(lambda: is_empty(coordinator, OWN), timeout=LONG)
    assert numbers(agent) == list(range(20))
    assert "Redis is away" in (worker.health().last_error or "")


@pytest.mark.guarantee("4.3")
@ONE
def test_what_a_handler_fetches_while_its_worker_stops_is_given_back(
    coordinator: Coordinator, serve: Serve, handlers_do: Any
) -> None:
    # given a handler that has just claimed messages
    claimed, go_on = threading.Event(), threading.Event()

    def hold(finish: Exchange) -> Any:
        answer = finish()
        claimed.set()
        assert go_on.wait(LONG)
        return answer

    handlers_do(hold)
    fill(coordinator, 10)
    agent = Scripted()
    worker: AgentWorker = serve(agent, coordinator, threads=2)
    assert claimed.wait(LONG)

    # when the worker stops
    stopped = in_thread(worker.stop, "stopper")
    eventually(lambda: worker._crew.desk.stopping)
    go_on.set()

    # then it waits for that, and the messages are there for others, no attempt counted
    assert stopped() is True
    assert coordinator.stats(OWN).leased == 0
    left = coordinator.receive_many(OWN, 10)
    assert len(left) + len(agent.got) == 10
    assert {one.queue_message.delivery_attempts for one in left} == {1}


@pytest.mark.guarantee("4.3")
@pytest.mark.backend("valkey")
def test_what_cannot_be_given_back_at_a_stop_is_tried_once(
    backend: Backend,
    proxy: FaultProxy,
    key_prefix: str,
    coordinators: Coordinators,
    serve: Serve,
    handlers_do: Any,
) -> None:
    # given a handler that has just claimed three messages when Redis falls silent
    far = coordinators(backend.client_through(proxy), key_prefix, call_timeout=2.0)
    claimed, go_on = threading.Event(), threading.Event()

    def hold(finish: Exchange) -> Any:
        answer = finish()
        if answer and len(answer[0]) == 3 and not claimed.is_set():
            proxy.black_hole()
            claimed.set()
            assert go_on.wait(LONG)
        return answer

    handlers_do(hold)
    fill(far, 30)
    worker: AgentWorker = serve(Scripted(), far, threads=3)
    assert claimed.wait(LONG)

    # when the worker stops
    began = time.monotonic()
    stopped = in_thread(worker.stop, "stopper")
    eventually(lambda: worker._crew.desk.stopping)
    go_on.set()

    # then that takes as long as one call that nobody answers
    assert stopped() is True
    assert time.monotonic() - began < 2.0 + SLACK
    proxy.heal()


@pytest.mark.guarantee("4.1")
@pytest.mark.parametrize("threads", [1, 4])
@ONE
def test_an_inbox_is_served_while_another_one_is_never_empty(
    coordinator: Coordinator, serve: Serve, threads: int
) -> None:
    # given an agent whose own inbox gets a new message for each that it handles
    asked = threading.Event()

    def act(payload: Payload) -> None:
        if payload["number"] >= 0 and not asked.is_set():
            fill(coordinator, 1)

    agent = Scripted(act)
    fill(coordinator, 40)
    serve(agent, coordinator, threads=threads)

    # then what comes to the inbox of its type is handled in between
    coordinator.send_many(ASKER, [event(-1, SHARED) for _ in range(5)])
    eventually(lambda: is_empty(coordinator, SHARED), timeout=LONG)
    asked.set()
    eventually(lambda: is_empty(coordinator, OWN), timeout=LONG)
