"""What is told of messages: sent, handed out, settled, dead."""

from collections.abc import Callable

import pytest

from tests.observability.conftest import Make
from tests.observability.given import LONG, ONE, SENDER, WORKER, Recorder, message
from tests.support.backends import Backend
from tta_agent_coordination import (
    FailureType,
    LeaseOutcome,
    MessageTooLargeError,
    MessageType,
    RedisMessageCoordinator,
)
from tta_agent_coordination.events import (
    DeadLettered,
    DeadLettersDropped,
    LeaseRenewed,
    LeasesRecovered,
    MessageAcked,
    MessageNacked,
    MessageReceived,
    MessageReleased,
    SendBegun,
    SendEnded,
)
from tta_agent_coordination.keys import Keys

Later = Callable[..., None]

valkey = pytest.mark.backend("valkey")


def take(coordinator: RedisMessageCoordinator, lease: float = LONG) -> str:
    received = coordinator.receive(WORKER, lease)
    assert received is not None
    return received.token


def test_a_send_tells_what_came_of_it(
    coordinator: RedisMessageCoordinator, recorder: Recorder
) -> None:
    first = message()
    coordinator.send_message(SENDER, WORKER, first)
    coordinator.send_message(SENDER, WORKER, first)
    coordinator.configure(queue_size=1)
    coordinator.send_message(SENDER, WORKER, message())

    ended = recorder.of(SendEnded)
    assert recorder.names == ["send_begun", "send_ended"] * 3
    assert [event.outcomes for event in ended] == [["stored"], ["duplicate"], ["refused"]]
    assert [event.begun for event in ended] == recorder.of(SendBegun)
    assert all(event.seconds >= 0 and event.error is None for event in ended)


@valkey
def test_a_send_that_fails_is_told_as_well(
    recorder: Recorder, coordinator: RedisMessageCoordinator
) -> None:
    coordinator.configure(max_message_bytes=100)

    with pytest.raises(MessageTooLargeError) as raised:
        coordinator.send_message(SENDER, WORKER, message(headers={"text": "x" * 200}))

    ended = recorder.one(SendEnded)
    assert (ended.outcomes, ended.error) == (["failed"], raised.value)


@valkey
def test_several_messages_are_one_send(
    coordinator: RedisMessageCoordinator, recorder: Recorder
) -> None:
    coordinator.subscribe_to_messages(ONE, [MessageType.EVENT])
    coordinator.send_many(SENDER, [message(1), message(2, to=ONE)])
    coordinator.broadcast_message(SENDER, message(3), [WORKER, ONE])
    coordinator.publish(SENDER, message(4))

    told = [
        (event.operation, [(one.recipient, one.payload["n"]) for one in event.messages])
        for event in recorder.of(SendBegun)
    ]
    assert told == [
        ("send", [(WORKER, 1), (ONE, 2)]),
        ("send", [(WORKER, 3), (ONE, 3)]),
        ("publish", [(ONE, 4)]),
    ]


@valkey
def test_a_send_of_nothing_is_not_told(
    coordinator: RedisMessageCoordinator, recorder: Recorder
) -> None:
    assert coordinator.send_many(SENDER, []) == []
    assert coordinator.publish(SENDER, message()) == []

    assert recorder.events == []


def test_headers_that_an_observer_adds_travel_along(make: Make) -> None:
    coordinator, given = make(), message(headers={"mine": "1"})

    def adds(event: object) -> None:
        if isinstance(event, SendBegun):
            event.messages[0].headers["theirs"] = "2"

    coordinator.events.add(adds)
    coordinator.send_message(SENDER, WORKER, given)
    coordinator.events.remove(adds)
    again = coordinator.send_message(SENDER, WORKER, given)

    received = coordinator.receive(WORKER, LONG)
    assert received is not None
    assert received.message.headers == {"mine": "1", "theirs": "2"}
    assert received.message.message_id == given.message_id
    assert given.headers == {"mine": "1"}, "the caller's message is not touched"
    assert again.duplicate, "other headers make no other message"


def test_a_message_is_received_with_its_time_in_the_inbox(
    coordinator: RedisMessageCoordinator, recorder: Recorder, later: Later
) -> None:
    sent = coordinator.send_message(SENDER, WORKER, message())
    later(7.0)
    take(coordinator, lease=1.0)
    later(2.0)
    take(coordinator)

    first, second = recorder.of(MessageReceived)
    assert (first.inbox, first.message_id, first.attempts) == (WORKER, sent.message_id, 1)
    assert (second.message_id, second.attempts) == (sent.message_id, 2)
    assert first.inbox_seconds is not None
    assert 7.0 <= first.inbox_seconds < 17.0
    assert second.inbox_seconds is not None
    assert second.inbox_seconds >= first.inbox_seconds + 1.0


def test_settling_is_told_with_what_came_of_it(
    coordinator: RedisMessageCoordinator, recorder: Recorder
) -> None:
    sent = coordinator.send_message(SENDER, WORKER, message())
    first = take(coordinator)
    coordinator.extend(WORKER, first, LONG)
    coordinator.release(WORKER, first)
    second = take(coordinator)
    coordinator.nack(WORKER, second, FailureType.TIMEOUT, "slow", delay=0.0)
    third = take(coordinator)
    recorder.clear()
    coordinator.ack_many(WORKER, [third, first, "no token"])

    assert [(event.message_id, event.outcome) for event in recorder.of(MessageAcked)] == [
        (sent.message_id, LeaseOutcome.DONE),
        (sent.message_id, LeaseOutcome.STALE),
    ]


def test_giving_back_is_told(coordinator: RedisMessageCoordinator, recorder: Recorder) -> None:
    coordinator.send_message(SENDER, WORKER, message())
    first = take(coordinator)
    coordinator.extend(WORKER, first, LONG)
    coordinator.release(WORKER, first)
    coordinator.nack(WORKER, take(coordinator), FailureType.TIMEOUT, "slow", delay=5.0)

    assert recorder.one(LeaseRenewed).outcome is LeaseOutcome.DONE
    assert recorder.one(MessageReleased).outcome is LeaseOutcome.DONE
    nacked = recorder.one(MessageNacked)
    assert (nacked.failure, nacked.delay, nacked.error) == (FailureType.TIMEOUT, 5.0, "slow")
    assert recorder.of(DeadLettered) == []


def nack_for_ever(coordinator: RedisMessageCoordinator, _later: Later) -> None:
    coordinator.nack(WORKER, take(coordinator), FailureType.PERMANENT, "broken")


def nack_too_often(coordinator: RedisMessageCoordinator, _later: Later) -> None:
    coordinator.configure(retry_attempts=0)
    coordinator.nack(WORKER, take(coordinator), error="broken")


def expire_at_a_receive(coordinator: RedisMessageCoordinator, later: Later) -> None:
    coordinator.configure(retry_attempts=0)
    take(coordinator, lease=1.0)
    later(2.0)
    assert coordinator.receive(WORKER) is None


def expire_at_a_recovery(coordinator: RedisMessageCoordinator, later: Later) -> None:
    coordinator.configure(retry_attempts=0)
    take(coordinator, lease=1.0)
    later(2.0)
    assert coordinator.recover_pending(WORKER) == 1


def outlive_its_time(coordinator: RedisMessageCoordinator, later: Later) -> None:
    later(11.0)
    assert coordinator.receive(WORKER) is None


@pytest.mark.parametrize(
    ("die", "reason", "error"),
    [
        (nack_for_ever, "permanent", "broken"),
        (nack_too_often, "attempts_exhausted", "broken"),
        (expire_at_a_receive, "lease_expired", None),
        (expire_at_a_recovery, "lease_expired", None),
        (outlive_its_time, "expired", None),
    ],
)
def test_every_way_to_the_dead_letters_is_told_and_logged(
    coordinator: RedisMessageCoordinator,
    recorder: Recorder,
    later: Later,
    caplog: pytest.LogCaptureFixture,
    die: Callable[[RedisMessageCoordinator, Later], None],
    reason: str,
    error: str | None,
) -> None:
    sent = coordinator.send_message(SENDER, WORKER, message(ttl=10.0))

    die(coordinator, later)

    dead = recorder.one(DeadLettered)
    assert (dead.inbox, dead.message_id) == (WORKER, sent.message_id)
    assert (dead.reason, dead.error) == (reason, error)
    [line] = [record for record in caplog.records if record.event == "dead_lettered"]
    assert (line.inbox, line.message_id, line.reason) == ("worker", sent.message_id, reason)


def test_bytes_that_do_not_decode_are_told_as_undecodable(
    coordinator: RedisMessageCoordinator, recorder: Recorder, backend: Backend, key_prefix: str
) -> None:
    sent = coordinator.send_message(SENDER, WORKER, message())
    stored = Keys(key_prefix).inbox(WORKER)["messages"]
    backend.client().hset(stored, sent.message_id, b"not of ours")

    assert coordinator.receive(WORKER, LONG) is None

    assert recorder.one(MessageReceived).inbox_seconds is None
    assert recorder.one(DeadLettered).reason == "undecodable"


@valkey
def test_dead_letters_that_are_dropped_are_counted(
    coordinator: RedisMessageCoordinator, recorder: Recorder, later: Later
) -> None:
    coordinator.configure(dead_letter_limit=1, retry_attempts=0)
    coordinator.send_many(SENDER, [message(n, ttl=10.0) for n in range(3)])
    later(11.0)

    coordinator.receive(WORKER)

    assert sum(event.count for event in recorder.of(DeadLettersDropped)) == 2
    assert len(recorder.of(DeadLettered)) == 3


def test_recovered_leases_are_counted(
    coordinator: RedisMessageCoordinator, recorder: Recorder, later: Later
) -> None:
    coordinator.send_many(SENDER, [message(n) for n in range(2)])
    coordinator.receive_many(WORKER, 2, 1.0)
    later(2.0)
    recorder.clear()

    coordinator.recover_pending()
    coordinator.recover_pending()

    told = recorder.one(LeasesRecovered)
    assert (told.inbox, told.count) == (WORKER, 2)


@valkey
def test_what_happens_during_a_wait_is_told_when_the_answer_has_been_read(
    coordinator: RedisMessageCoordinator, make: Make, recorder: Recorder, backend: Backend
) -> None:
    # A lease ends while another consumer waits, and its message is dead. That is found out in the
    # middle of the wait: a slow observer must not keep its answer from being read.
    coordinator.configure(retry_attempts=0)
    coordinator.send_message(SENDER, WORKER, message())
    make().receive(WORKER, 0.2)
    admin = backend.client()
    blocked: list[object] = []

    def looks(event: object) -> None:
        if isinstance(event, DeadLettered):
            blocked.append(admin.info("clients")["blocked_clients"])

    coordinator.events.add(looks)

    assert coordinator.receive(WORKER, LONG, wait=1.0) is None

    assert blocked == [0]
    assert recorder.one(DeadLettered).reason == "lease_expired"


@valkey
def test_leases_that_end_while_another_consumer_waits_are_counted(
    coordinator: RedisMessageCoordinator, make: Make, recorder: Recorder
) -> None:
    coordinator.send_message(SENDER, WORKER, message())
    make().receive(WORKER, 0.2)

    assert coordinator.receive(WORKER, LONG, wait=5.0) is not None

    assert recorder.one(LeasesRecovered).count == 1
    assert recorder.one(MessageReceived).attempts == 2


@valkey
def test_a_coordinator_that_nobody_observes_tells_nothing(make: Make, recorder: Recorder) -> None:
    coordinator = make()
    coordinator.events.add(recorder)
    coordinator.events.remove(recorder)

    coordinator.send_message(SENDER, WORKER, message())
    coordinator.ack(WORKER, take(coordinator))

    assert recorder.events == []


@valkey
def test_many_inboxes_are_counted_together(coordinator: RedisMessageCoordinator) -> None:
    coordinator.send_many(SENDER, [message(1), message(2, to=ONE), message(3, to=ONE)])

    assert set(coordinator.inboxes()) == {WORKER, ONE}
    counted = coordinator.internals.stats_of_each([ONE, WORKER])
    assert list(counted) == [ONE, WORKER]
    assert [sum(stats.ready.values()) for stats in counted.values()] == [2, 1]
    assert coordinator.internals.stats_of_each([]) == {}
