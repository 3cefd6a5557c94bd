"""4.3: the server works on what is asked for next while handlers are at work on what they have."""

import contextlib
import logging
import threading
import time
from typing import Any, cast

import pytest

from tests.support.backends import Backend
from tests.support.servers import Client
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
    AgentId,
    CoordinationError,
    CoordinatorCircuitOpenError,
    CoordinatorUnavailableError,
    RedisMessageCoordinator,
    current_message,
)
from tta_agent_coordination.coordinator.feed import Feed
from tta_agent_coordination.proxy import Command, FaultProxy
from tta_agent_coordination.transport import scripts
from tta_agent_coordination.transport.gate import Gate as TheGate
from tta_agent_coordination.worker import crew as crew_module
from tta_agent_coordination.worker import desk as desk_module
from tta_agent_coordination.worker.desk import Desk

pytestmark = pytest.mark.guarantee("4.3")

Coordinator = RedisMessageCoordinator
ONE = pytest.mark.backend("fakeredis", "valkey")
MANY = 60


def fill(coordinator: Coordinator, count: int = MANY) -> None:
    coordinator.send_many(ASKER, [event(number) for number in range(count)])


def handled(agent: Scripted) -> list[int]:
    return sorted(payload["number"] for payload in agent.got)


def exchanges(command: Command) -> bool:
    return command.name == "EVALSHA" and command.args[0].decode() == scripts.EXCHANGE.sha


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a desk take every handler for quick, and never wake another: one does all the work."""
    monkeypatch.setattr(desk_module, "_QUICK", LONG)
    monkeypatch.setattr(desk_module, "_LOOK", LONG)


@ONE
@pytest.mark.usefixtures("quick")
def test_a_half_of_the_handlers_is_asked_for_while_the_other_half_is_at_work(
    coordinator: Coordinator, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a worker of four threads, and what it has in hand and has asked for at each step
    asked: list[int] = []
    under_way: list[int] = []
    claims: list[int] = []
    waiting: list[bool] = []
    begin = Feed.begin

    def note(feed: Feed, acks: Any, most: int, visibility: float) -> Any:
        [fetcher] = worker._crew._fetchers.values()
        asked.append(most)
        under_way.append(sum(fetch.free for fetch, *_ in fetcher._under_way))
        claims.append(len(fetcher._under_way))
        waiting.append(worker._crew.desk.has_tasks)
        return begin(feed, acks, most, visibility)

    monkeypatch.setattr(Feed, "begin", note)
    fill(coordinator)
    agent = Scripted()
    worker = serve(agent, coordinator, threads=4)

    # then it asks for two, and for two more, and never for more than are free
    eventually(lambda: is_empty(coordinator, OWN))
    assert handled(agent) == list(range(MANY))
    assert any(waiting)
    assert 2 in under_way
    assert set(claims) == {0, 1}
    assert asked.count(2) > len(asked) // 2
    assert max(map(sum, zip(asked, under_way, strict=True))) <= 4


@ONE
def test_what_is_asked_for_never_exceeds_the_free_handlers(
    coordinator: Coordinator, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given handlers of all speeds, and a count of what is leased and what may come
    held: list[int] = []
    begin = Feed.begin

    def note(feed: Feed, acks: Any, most: int, visibility: float) -> Any:
        [fetcher] = worker._crew._fetchers.values()
        desk = worker._crew.desk
        held.append(desk.busy + most + sum(fetch.free for fetch, *_ in fetcher._under_way))
        return begin(feed, acks, most, visibility)

    monkeypatch.setattr(Feed, "begin", note)
    wait = threading.Event().wait
    agent = Scripted(lambda payload: wait(0.001 * (payload["number"] % 7)) or {})
    fill(coordinator, 4 * MANY)
    worker = serve(agent, coordinator, threads=5)

    eventually(lambda: is_empty(coordinator, OWN), timeout=LONG)
    assert handled(agent) == list(range(4 * MANY))
    assert max(held) <= 5


@ONE
def test_one_that_takes_long_after_many_that_did_not_holds_nobody_up(
    coordinator: Coordinator, serve: Serve
) -> None:
    # given a handler that is held up among quick ones
    gate = Gate()
    began: list[float] = []

    def act(payload: Payload) -> Payload | None:
        if payload["number"] == MANY // 2:
            began.append(time.monotonic())
            return gate(payload)
        return None

    agent = Scripted(act)
    fill(coordinator)
    serve(agent, coordinator, threads=4)
    gate.wait_for(1)

    # then the others go on
    eventually(lambda: len(agent.got) == MANY)
    assert time.monotonic() - began[0] < SLACK
    eventually(lambda: coordinator.internals.held(OWN) == 1)
    gate.open.set()
    eventually(lambda: is_empty(coordinator, OWN))


@pytest.mark.guarantee("2.9")
@pytest.mark.backend("valkey", "redis62")
def test_what_is_asked_for_in_vain_is_asked_for_again_and_no_attempt_is_counted(
    backend: Backend,
    proxy: FaultProxy,
    key_prefix: str,
    coordinators: Coordinators,
    serve: Serve,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # given replies that get lost while handlers are at work
    caplog.set_level(logging.INFO)
    far = coordinators(backend.client_through(proxy), key_prefix)
    fill(far)
    fault = proxy.drop_reply_of(exchanges, times=5)
    attempts: list[int] = []

    def act(_payload: Payload) -> None:
        attempts.append(current_message().received.queue_message.delivery_attempts)

    agent = Scripted(act)
    serve(agent, far, threads=4)

    # then each message is handled once, in its first attempt, and that is no outage
    eventually(lambda: is_empty(far, OWN), timeout=LONG)
    assert fault.used_up
    assert handled(agent) == list(range(MANY))
    assert set(attempts) == {1}
    assert "worker_failing" not in [getattr(record, "event", None) for record in caplog.records]


@pytest.mark.guarantee("2.9")
@pytest.mark.backend("valkey", "redis62")
def test_a_server_that_forgets_its_scripts_meanwhile_is_told_them_again(
    client: Client, coordinator: Coordinator, serve: Serve
) -> None:
    def act(payload: Payload) -> None:
        if payload["number"] % 10 == 5:
            client.script_flush()

    agent = Scripted(act)
    fill(coordinator)
    worker = serve(agent, coordinator, threads=4)

    eventually(lambda: is_empty(coordinator, OWN))
    assert handled(agent) == list(range(MANY))
    assert worker.health().last_error is None


@pytest.mark.guarantee("2.9")
@pytest.mark.backend("valkey")
def test_all_that_was_asked_for_in_vain_is_taken_up_before_anything_is_waited_for(
    backend: Backend, proxy: FaultProxy, key_prefix: str, coordinators: Coordinators
) -> None:
    # given two claims that were carried out and whose answers got lost
    far = coordinators(backend.client_through(proxy), key_prefix)
    fill(far, 4)
    [feed] = far.internals.feed([OWN])
    assert feed.exchange({}, 1, LONG)[0]
    fault = proxy.drop_reply_of("EVALSHA", times=2)
    begun = [feed.begin({}, 1, LONG) for _ in range(2)]
    assert [feed.finish(*one) for one in begun] == [None, None]
    assert fault.used_up
    assert far.stats(OWN).leased == 3
    others = far.receive_many(OWN, 9, LONG)
    assert len(others) == 1

    # then two exchanges bring what they had brought
    found = [feed.exchange({}, 4, LONG)[0] for _ in range(3)]
    assert [len(one) for one in found] == [1, 1, 0]
    assert {delivery.attempts for one in found for _, delivery in one} == {1}
    assert not feed._unanswered


@pytest.mark.guarantee("2.9")
@pytest.mark.backend("valkey")
def test_a_claim_of_which_nothing_is_left_does_not_hide_the_next(
    backend: Backend, proxy: FaultProxy, key_prefix: str, coordinators: Coordinators
) -> None:
    # given two claims without an answer, of which only the one asked first had brought something
    far = coordinators(backend.client_through(proxy), key_prefix)
    fill(far, 2)
    [feed] = far.internals.feed([OWN, SHARED])
    assert feed.exchange({}, 1, LONG)[0]
    proxy.drop_reply_of("EVALSHA", times=2)
    begun = [feed.begin({}, 1, LONG) for _ in range(2)]
    assert [feed.finish(*one) for one in begun] == [None, None]

    # then one exchange finds it
    assert [len(feed.exchange({}, 4, LONG)[0]) for _ in range(2)] == [1, 0]


@ONE
def test_what_is_under_way_for_an_inbox_that_is_dropped_is_handled_and_no_more_of_it(
    coordinator: Coordinator,
) -> None:
    # given something asked for of two inboxes in one of which much is left
    other = AgentId("other")
    coordinator.send_many(ASKER, [event(number, other) for number in range(3)])
    [feed] = coordinator.internals.feed([other, OWN])
    assert len(feed.exchange({}, 1, LONG)[0]) == 1
    begun = feed.begin({}, 1, LONG)

    # when it is dropped before the answer is read
    assert feed.drop(other)
    feed._drop()
    found, _ = feed.finish(*begun) or ([], [])

    # then what came is there, and nobody thinks that there is more to fetch
    assert [inbox for inbox, _ in found] == [other]
    assert not feed.has_more
    assert feed.exchange({}, 4, LONG) == ([], [])


@pytest.mark.guarantee("2.9")
@pytest.mark.backend("valkey")
def test_a_claim_that_the_breaker_refuses_is_made_once_it_is_closed(
    backend: Backend, proxy: FaultProxy, key_prefix: str, coordinators: Coordinators
) -> None:
    # given a claim without an answer, and a breaker that opened since
    far = coordinators(backend.client_through(proxy), key_prefix, call_timeout=0.3)
    fill(far, 2)
    [feed] = far.internals.feed([OWN])
    assert feed.exchange({}, 1, LONG)[0]
    proxy.drop_reply_of("EVALSHA")
    assert feed.finish(*feed.begin({}, 1, LONG)) is None
    proxy.refuse()
    while far.internals.link.commands.state == "closed":
        with pytest.raises(CoordinatorUnavailableError):
            far.stats(OWN)

    # when it is refused
    with pytest.raises(CoordinatorCircuitOpenError):
        feed.begin({}, 1, LONG)
    proxy.heal()

    # then it brings what it had brought, as soon as there is an answer
    found: list[Any] = []

    def answered() -> bool:
        with contextlib.suppress(CoordinatorUnavailableError):
            found.extend(feed.exchange({}, 1, LONG)[0])
        return bool(found)

    eventually(answered)
    assert [delivery.attempts for _, delivery in found] == [1]


@pytest.mark.guarantee("2.9")
@pytest.mark.backend("valkey")
def test_an_error_in_place_of_an_answer_ends_the_turn_and_costs_no_message(
    coordinator: Coordinator, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given handlers of which one gets an error for an answer
    failed: list[str] = []
    attempts: list[int] = []
    finish = TheGate.finish

    def fail_once(gate: TheGate, sent: Any) -> Any:
        replies = finish(gate, sent)
        if not failed:
            failed.append(threading.current_thread().name)
            raise CoordinationError("an error that no repetition mends")
        return replies

    def act(_payload: Payload) -> None:
        attempts.append(current_message().received.queue_message.delivery_attempts)

    monkeypatch.setattr(TheGate, "finish", fail_once)
    fill(coordinator)
    agent = Scripted(act)
    worker = serve(agent, coordinator, threads=4)

    # then everything is handled once all the same, and it is told of
    eventually(lambda: is_empty(coordinator, OWN), timeout=LONG)
    assert handled(agent) == list(range(MANY))
    assert set(attempts) == {1}
    assert "no repetition mends" in (worker.health().last_error or "")


@ONE
def test_a_fetching_thread_that_does_not_end_is_not_waited_for(
    coordinator: Coordinator, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a fetching thread that hangs in its wait
    monkeypatch.setattr(crew_module, "_JOIN_TIMEOUT", 0.05)
    waits, go_on = threading.Event(), threading.Event()

    def hang(_feed: Feed) -> None:
        waits.set()
        assert go_on.wait(LONG)

    monkeypatch.setattr(Feed, "wait", hang)
    worker = serve(Scripted(), coordinator)
    assert waits.wait(LONG)

    # then its worker stops without it
    began = time.monotonic()
    worker.stop()
    assert time.monotonic() - began < SLACK
    go_on.set()


@pytest.mark.guarantee("2.9")
@pytest.mark.backend("valkey")
def test_a_lost_claim_of_an_inbox_that_was_dropped_is_not_made_again(
    backend: Backend, proxy: FaultProxy, key_prefix: str, coordinators: Coordinators
) -> None:
    # given something asked for of an inbox that somebody else serves by now
    far = coordinators(backend.client_through(proxy), key_prefix)
    other = AgentId("other")
    far.send_many(ASKER, [event(number, other) for number in range(3)])
    [feed] = far.internals.feed([other, OWN])
    assert feed.exchange({}, 1, LONG)[0]
    proxy.lose_request("EVALSHA")
    begun = feed.begin({}, 1, LONG)
    assert feed.drop(other)
    feed._drop()

    # then nothing more is taken from it
    assert feed.finish(*begun) is None
    assert feed.exchange({}, 4, LONG) == ([], [])
    assert far.stats(other).leased == 1


@pytest.mark.guarantee("2.9")
@pytest.mark.backend("valkey")
def test_an_inbox_whose_answer_got_lost_is_asked_with_the_next_step(
    backend: Backend, proxy: FaultProxy, key_prefix: str, coordinators: Coordinators
) -> None:
    # given an inbox that is never empty, and another one that has had its turn in vain
    far = coordinators(backend.client_through(proxy), key_prefix)
    fill(far)
    others = [AgentId("other", str(number)) for number in range(5)]
    [feed] = far.internals.feed([OWN, *others])
    assert feed.exchange({}, 1, LONG)[0]
    far.send_many(ASKER, [event(0, inbox) for inbox in others])
    feed._turns = -1  # its turn is now
    proxy.drop_reply_of("EVALSHA")
    asked, sent = feed.begin({}, 2, LONG)
    lost = set(asked.calls) - {OWN}
    assert lost
    assert feed.finish(asked, sent) is None

    # then what it gave is there with the next answer
    found, _ = feed.exchange({}, 2, LONG)
    assert lost <= {inbox for inbox, _ in found}


@pytest.mark.guarantee("2.9")
@pytest.mark.backend("valkey")
def test_what_an_answer_brought_that_got_lost_at_the_stop_is_given_back(
    backend: Backend,
    proxy: FaultProxy,
    key_prefix: str,
    coordinators: Coordinators,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given a worker that begins to stop while an answer gets lost
    far, near = (coordinators(one, key_prefix) for one in (backend.client_through(proxy),) * 2)
    fill(near)
    begin = Feed.begin
    stopping: list[Any] = []

    def lose(feed: Feed, *given: Any) -> Any:
        if stopping:
            return begin(feed, *given)
        proxy.drop_reply_of(exchanges)
        begun = begin(feed, *given)
        stopping.append(in_thread(worker.stop, "stopper"))
        eventually(lambda: worker._crew.desk.stopping)
        return begun

    monkeypatch.setattr(Feed, "begin", lose)
    agent = Scripted()
    worker = serve(agent, far, threads=4)
    eventually(lambda: stopping)

    # then all of it is there for others, and no attempt is counted
    assert stopping[0]() is True
    assert near.stats(OWN).leased == 0
    left = near.receive_many(OWN, MANY)
    assert len(left) + len(agent.got) == MANY
    assert {one.queue_message.delivery_attempts for one in left} == {1}


@ONE
def test_a_turn_that_finds_nothing_goes_back_to_the_thread_that_looks_everywhere(
    coordinator: Coordinator, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given many agents, of which one had many messages a moment ago, and one has a message now
    agents = [Scripted(agent_id=AgentId("greeter", str(number))) for number in range(10)]
    asked: list[int] = []
    begin = Feed.begin

    def count(feed: Feed, *given: Any) -> Any:
        asked.append(1)
        feed._due[SHARED] = 0.0  # as if something had become due there, which others have got
        return begin(feed, *given)

    monkeypatch.setattr(Feed, "begin", count)
    coordinator.send_many(ASKER, [event(number, agents[0].agent_id) for number in range(MANY)])
    serve(agents, coordinator, threads=4)
    eventually(lambda: len(agents[0].got) == MANY)
    asked.clear()
    coordinator.send_many(ASKER, [event(0, agents[7].agent_id)])

    # then it is found at once
    eventually(lambda: agents[7].got)
    assert len(asked) < 5


@ONE
def test_nobody_looks_again_and_again_while_all_handlers_are_at_work(
    coordinator: Coordinator, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given handlers that all wait for something after quick ones, and more than they can take
    monkeypatch.setattr(desk_module, "_QUICK", LONG)
    gate = Gate()

    def act(payload: Payload) -> Payload | None:
        return gate(payload) if payload["number"] >= MANY // 2 else None

    looks: list[float] = []
    look = Desk._wake_for_what_waits

    def note(desk: Desk) -> None:
        looks.append(time.monotonic())
        look(desk)

    monkeypatch.setattr(Desk, "_wake_for_what_waits", note)
    fill(coordinator)
    serve(Scripted(act), coordinator, threads=4)
    gate.wait_for(4)
    settled = time.monotonic() + 0.1
    eventually(lambda: time.monotonic() > settled)

    # then the thread that lent its turn sleeps
    looks.clear()
    eventually(lambda: time.monotonic() > settled + 0.2)
    assert len(looks) <= 1
    gate.open.set()
    eventually(lambda: is_empty(coordinator, OWN))


def test_who_had_to_be_woken_wakes_the_next_one() -> None:
    desk = Desk(4)
    desk._pace, desk._lent, desk._watched = 0.0, True, True
    desk._tasks.append(cast("Any", "one that waits"))

    desk._wake_for_what_waits()

    assert desk._pace > desk_module._QUICK
    assert not desk._watched


def test_a_few_slow_ones_among_many_quick_ones_are_remembered() -> None:
    # given a desk that handles all at once, but for one in twenty
    desk = Desk(4)
    paces: list[float] = []
    for number in range(400):
        desk._keep_pace(0.002 if number % 20 == 0 else 0.00001)
        paces.append(desk._pace)
    assert min(paces[200:]) > desk_module._QUICK

    # and that one which took very long is forgotten before long
    for _ in range(300):
        desk._keep_pace(0.00001)
    desk._keep_pace(60.0)
    for _ in range(30):
        desk._keep_pace(0.00001)
    assert desk._pace < desk_module._QUICK


@ONE
def test_handlers_that_are_not_quick_are_woken_for_each_other(monkeypatch: Any) -> None:
    # given a desk that has lent its turn, with two idle handlers, and looks at nothing by itself
    monkeypatch.setattr(desk_module, "_LOOK", LONG)
    desk = Desk(4)
    lender = threading.Thread(target=desk.lend_turn, name="lender")
    lender.start()
    taken: list[Any] = []
    handlers = [
        threading.Thread(target=lambda: taken.append(desk.take()), name=f"handler-{number}")
        for number in range(2)
    ]
    for handler in handlers:
        handler.start()

    # then one of them has the turn, and the other one is there when it comes back
    eventually(lambda: len(taken) == 1)
    assert taken[0].free == 4
    desk.give_back(4)
    desk.return_turn(lend_on=True, under_way=0)
    eventually(lambda: len(taken) == 2)
    assert taken[1].free == 4
    desk.return_turn(lend_on=False, under_way=0)
    for thread in [lender, *handlers]:
        thread.join(LONG)
