"""What workers and requests tell."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.observability.conftest import Make, Serve
from tests.observability.given import LONG, ONE, SENDER, Acting, Recorder, message
from tests.support.backends import Backend
from tests.support.waiting import eventually
from tta_agent_coordination import (
    ConfigurationError,
    InboxFullError,
    LeaseOutcome,
    MessageType,
    RedisMessageCoordinator,
    RejectMessage,
    RemoteAgentError,
    RequestTimeoutError,
    RetryLater,
    current_message,
)
from tta_agent_coordination.events import (
    DeadLettered,
    Event,
    HandlerBegun,
    HandlerEnded,
    LeaseLost,
    LeaseRenewed,
    MessageAcked,
    MessageNacked,
    MessageReceived,
    RequestBegun,
    RequestEnded,
    SendBegun,
)
from tta_agent_coordination.proxy import FaultProxy

valkey = pytest.mark.backend("valkey")


def raising(error: BaseException) -> Callable[[Any], Any]:
    def act(_payload: Any) -> Any:
        raise error

    return act


def test_an_observer_ends_no_thread_of_a_worker(
    coordinator: RedisMessageCoordinator, make: Make, serve: Serve
) -> None:
    # given an observer that wants every thread to end
    told: set[str] = set()

    def ends(event: Event) -> None:
        told.add(event.name)
        raise SystemExit

    observed = make()
    observed.events.add(ends)
    acting = Acting(lambda payload: {"odd": payload["n"] % 2} if payload["n"] else 1 / 0)
    worker = serve(acting, observed)

    # when it is told of all that threads do
    for number in range(6):
        coordinator.send_message(SENDER, ONE, message(number % 3, to=ONE))
    every = {"message_received", "handler_begun", "handler_ended", "message_acked"}
    eventually(lambda: told >= {*every, "message_nacked"}, timeout=10.0)

    # then every thread goes on, and no handler seems to be at work
    for number in range(1, 5):
        asked = coordinator.request(SENDER, ONE, {"n": number}, timeout=10.0)
        assert asked.payload == {"odd": number % 2}
    assert worker._crew is not None
    assert all(thread.is_alive() for thread in worker._crew.threads)
    eventually(lambda: worker.health().busy_threads == 0)


def test_the_way_of_a_message_is_told_in_order(
    coordinator: RedisMessageCoordinator, recorder: Recorder, serve: Serve
) -> None:
    sent = coordinator.send_message(SENDER, ONE, message(to=ONE))

    serve(Acting(), coordinator)
    acked = recorder.wait_for(MessageAcked)[0]

    told = [name for name in recorder.names if not name.startswith("lease")]
    way = ["send_begun", "send_ended", "message_received", "handler_begun", "handler_ended"]
    assert told == [*way, "message_acked"]
    begun, ended = recorder.one(HandlerBegun), recorder.one(HandlerEnded)
    assert (begun.agent_id, begun.inbox) == (ONE, ONE)
    assert begun.received.message.message_id == sent.message_id
    assert (ended.begun, ended.outcome, ended.error) == (begun, "done", None)
    assert ended.seconds >= 0
    assert (acked.message_id, acked.outcome) == (sent.message_id, LeaseOutcome.DONE)
    assert recorder.one(MessageReceived).inbox == ONE


@valkey
def test_beginning_and_end_are_told_in_the_thread_of_the_handler(
    coordinator: RedisMessageCoordinator, recorder: Recorder, serve: Serve
) -> None:
    seen: list[str] = []

    def sees(event: Event) -> None:
        if isinstance(event, (HandlerBegun, HandlerEnded)):
            seen.append(current_message().message.message_id)

    coordinator.events.add(sees)
    sent = coordinator.send_message(SENDER, ONE, message(to=ONE))
    serve(Acting(), coordinator)
    recorder.wait_for(MessageAcked)

    threads = {
        thread
        for event, thread in zip(recorder.events, recorder.threads, strict=True)
        if isinstance(event, (HandlerBegun, HandlerEnded))
    }
    assert len(threads) == 1
    assert threads.pop().startswith("tta-handle-")
    assert seen == [sent.message_id] * 2


@valkey
@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ValueError("broken"), "failed"),
        (RejectMessage("never"), "rejected"),
        (RetryLater(60.0), "retry_later"),
    ],
)
def test_how_a_handler_ended_is_told(
    coordinator: RedisMessageCoordinator,
    recorder: Recorder,
    serve: Serve,
    error: Exception,
    outcome: str,
) -> None:
    coordinator.configure(backoff_base=60.0, backoff_max=60.0)
    coordinator.send_message(SENDER, ONE, message(to=ONE))

    serve(Acting(raising(error)), coordinator)
    [ended] = recorder.wait_for(HandlerEnded)

    assert (ended.outcome, ended.error) == (outcome, error)
    nacked = recorder.names.index("message_nacked")
    assert nacked < recorder.names.index("handler_ended"), "within its span"
    assert recorder.one(MessageNacked).delay == (60.0 if outcome == "retry_later" else None)
    assert len(recorder.of(DeadLettered)) == (outcome == "rejected")


@valkey
def test_the_answer_is_sent_while_the_handler_counts_as_running(
    coordinator: RedisMessageCoordinator, recorder: Recorder, serve: Serve
) -> None:
    serve(Acting(), coordinator)

    answer = coordinator.request(SENDER, ONE, {"n": 1}, timeout=LONG)

    assert answer.payload == {"n": 1}
    [ended] = recorder.wait_for(HandlerEnded)
    sent = [event.messages[0].message_type for event in recorder.of(SendBegun)]
    assert sent == [MessageType.REQUEST, MessageType.RESPONSE]
    answered = recorder.events.index(recorder.of(SendBegun)[1])
    assert answered < recorder.events.index(ended)


def test_a_request_that_is_answered_is_told(
    coordinator: RedisMessageCoordinator, recorder: Recorder, serve: Serve
) -> None:
    serve(Acting(), coordinator)

    coordinator.request(SENDER, ONE, {}, timeout=LONG)

    begun, ended = recorder.one(RequestBegun), recorder.one(RequestEnded)
    assert (begun.sender, begun.recipient) == (SENDER, ONE)
    assert (ended.begun, ended.outcome, ended.error) == (begun, "answered", None)
    assert {event.inbox.type for event in recorder.of(MessageReceived)} == {"worker"}


def fail(coordinator: RedisMessageCoordinator, serve: Serve) -> None:
    serve(Acting(raising(RejectMessage())), coordinator)
    coordinator.request(SENDER, ONE, {}, timeout=LONG)


def time_out(coordinator: RedisMessageCoordinator, _serve: Serve) -> None:
    coordinator.request(SENDER, ONE, {}, timeout=0.05)


def find_it_full(coordinator: RedisMessageCoordinator, _serve: Serve) -> None:
    coordinator.configure(queue_size=1)
    coordinator.send_message(SENDER, ONE, message(to=ONE))
    coordinator.request(SENDER, ONE, {}, timeout=LONG)


def lose_redis(coordinator: RedisMessageCoordinator, _serve: Serve) -> None:
    # The way to Redis is closed as soon as the request has begun.
    def closes(event: Event) -> None:
        if isinstance(event, RequestBegun):
            coordinator.close()

    coordinator.events.add(closes)
    coordinator.request(SENDER, ONE, {}, timeout=LONG)


@valkey
@pytest.mark.parametrize(
    ("ask", "error", "outcome"),
    [
        (fail, RemoteAgentError, "failed"),
        (time_out, RequestTimeoutError, "timed_out"),
        (find_it_full, InboxFullError, "refused"),
        (lose_redis, ConfigurationError, "error"),
    ],
)
def test_how_a_request_ended_is_told(
    coordinator: RedisMessageCoordinator,
    recorder: Recorder,
    serve: Serve,
    ask: Callable[[RedisMessageCoordinator, Serve], None],
    error: type[Exception],
    outcome: str,
) -> None:
    with pytest.raises(error) as raised:
        ask(coordinator, serve)

    ended = recorder.one(RequestEnded)
    assert (ended.outcome, ended.error) == (outcome, raised.value)


@valkey
def test_leases_that_are_renewed_and_lost_are_told(
    coordinator: RedisMessageCoordinator, recorder: Recorder, serve: Serve
) -> None:
    def long(_payload: Any) -> dict[str, Any]:
        recorder.wait_for(LeaseRenewed)
        recorder.wait_for(LeaseLost)
        return {}

    coordinator.send_message(SENDER, ONE, message(to=ONE))
    serve(Acting(long), coordinator, visibility_timeout=0.3, max_handler_seconds=0.5)
    recorder.wait_for(HandlerEnded)

    lost = recorder.one(LeaseLost)
    assert lost.inbox == ONE
    assert lost.why == "its handler takes longer than 0.5 s"
    assert {event.message_id for event in recorder.of(LeaseRenewed)} == {lost.message_id}


@valkey
def test_a_handler_that_begins_before_it_is_observed_is_not_told_half(
    make: Make, recorder: Recorder, serve: Serve
) -> None:
    coordinator = make()

    def begins(_payload: Any) -> dict[str, Any]:
        coordinator.events.add(recorder)
        return {}

    coordinator.send_message(SENDER, ONE, message(to=ONE))
    serve(Acting(begins), coordinator)
    recorder.wait_for(MessageAcked)

    assert recorder.of(HandlerEnded) == []


@valkey
def test_a_handler_whose_end_redis_does_not_hear_of_is_told(
    make: Make, recorder: Recorder, serve: Serve, backend: Backend, proxy: FaultProxy
) -> None:
    coordinator = make(backend.client_through(proxy), call_timeout=0.3)
    coordinator.events.add(recorder)

    def fails(_payload: Any) -> Any:
        proxy.refuse()
        raise ValueError("broken")

    coordinator.send_message(SENDER, ONE, message(to=ONE))
    serve(Acting(fails), coordinator)
    [ended] = recorder.wait_for(HandlerEnded)

    assert (ended.outcome, type(ended.error)) == ("failed", ValueError)
    assert recorder.of(MessageNacked) == []


@valkey
def test_an_observer_that_raises_loses_no_message_and_breaks_no_call(
    coordinator: RedisMessageCoordinator, recorder: Recorder, serve: Serve
) -> None:
    def broken(_event: Event) -> None:
        raise RuntimeError("for the test")

    coordinator.events.add(broken)
    serve(Acting(), coordinator)
    coordinator.send_many(SENDER, [message(n, to=ONE) for n in range(20)])
    recorder.wait_for(MessageAcked, 20)

    eventually(lambda: coordinator.internals.held(ONE) == 0)
    assert coordinator.request(SENDER, ONE, {}, timeout=LONG).payload == {}
