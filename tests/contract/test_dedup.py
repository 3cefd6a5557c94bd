"""Repeating a send stores nothing; repeating a settlement does nothing and says that it is done."""

from collections.abc import Callable

import pytest

from tests.contract.conftest import Later, Make
from tests.contract.given import (
    FAILED,
    LONG,
    ONE,
    SENDER,
    WORKER,
    drain,
    message,
    send,
    take,
    together,
)
from tests.support.servers import Client
from tta_agent_coordination import (
    AgentMessage,
    LeaseOutcome,
    MessageResult,
    RedisMessageCoordinator,
)
from tta_agent_coordination.coordinator import outbox
from tta_agent_coordination.keys import Keys

DONE, ALREADY_DONE = LeaseOutcome.DONE, LeaseOutcome.ALREADY_DONE

pytestmark = pytest.mark.guarantee("2.9")


def is_duplicate(coordinator: RedisMessageCoordinator, sent: AgentMessage) -> bool:
    result = coordinator.send_message(SENDER, WORKER, sent)
    assert result == MessageResult(sent.message_id, delivered=True, duplicate=result.duplicate)
    return result.duplicate


STATES: dict[str, Callable[[RedisMessageCoordinator], object]] = {
    "ready": lambda _: None,
    "leased": take,
    "delayed": lambda c: c.nack(WORKER, take(c).token, delay=100),
    "released": lambda c: c.release(WORKER, take(c).token),
}


@pytest.mark.parametrize("state", STATES)
def test_the_same_id_is_not_stored_while_the_first_is_unfinished(
    coordinator: RedisMessageCoordinator, later: Later, state: str
) -> None:
    sent = message(1)
    assert not is_duplicate(coordinator, sent)
    STATES[state](coordinator)
    later(3600)
    assert is_duplicate(coordinator, AgentMessage(ONE, ONE, {"n": 2}, message_id=sent.message_id))
    assert drain(coordinator) == [1]


def finish(coordinator: RedisMessageCoordinator, way: str) -> None:
    token = take(coordinator).token
    assert (
        coordinator.ack(WORKER, token) if way == "ack" else coordinator.nack(WORKER, token, FAILED)
    )


@pytest.mark.parametrize("way", ["ack", "death"])
@pytest.mark.parametrize(("options", "window"), [({}, 60), ({"dedup_window": 500}, 500)])
def test_the_same_id_is_not_stored_within_the_window_after_its_end(
    make: Make, later: Later, way: str, options: dict[str, float], window: float
) -> None:
    coordinator = make(**options)
    sent = message(1)
    coordinator.send_message(SENDER, WORKER, sent)
    finish(coordinator, way)
    assert is_duplicate(coordinator, sent)
    later(window - 1)
    assert is_duplicate(coordinator, sent)
    assert drain(coordinator) == []
    later(1.1)
    assert not is_duplicate(coordinator, sent)
    assert drain(coordinator) == [1]


def test_a_window_of_no_time_ends_at_once(make: Make) -> None:
    coordinator = make(dedup_window=0)
    sent = message(1)
    assert not is_duplicate(coordinator, sent)
    assert is_duplicate(coordinator, sent)
    finish(coordinator, "ack")
    assert not is_duplicate(coordinator, sent)


def test_a_mark_outlives_the_change_of_generations(
    make: Make, client: Client, key_prefix: str
) -> None:
    coordinator = make()
    names = Keys(key_prefix).inbox(WORKER)
    first, second = message(1), message(2)
    coordinator.send_message(SENDER, WORKER, first)
    finish(coordinator, "ack")
    assert 60_000 < client.pttl(names["marks"]) <= 120_000
    client.pexpire(names["marks"], 59_000)

    coordinator.send_message(SENDER, WORKER, second)
    finish(coordinator, "ack")

    assert client.exists(names["marks_old"])
    assert is_duplicate(coordinator, first)
    assert is_duplicate(coordinator, second)
    assert client.pttl(names["marks_old"]) <= 59_000
    assert 60_000 < client.pttl(names["marks"]) <= 120_000


def test_a_long_window_keeps_its_marks_for_as_long(
    make: Make, client: Client, key_prefix: str
) -> None:
    coordinator = make(dedup_window=10_000)
    send(coordinator, 1)
    finish(coordinator, "ack")
    assert client.pttl(Keys(key_prefix).inbox(WORKER)["marks"]) >= 10_000_000


def test_windows_that_grow_again_and_again_forget_nothing_early(
    coordinator: RedisMessageCoordinator,
) -> None:
    finished: list[AgentMessage] = []
    for window in (60, 130, 300, 700, 1500, 60):
        coordinator.configure(dedup_window=window)
        finished.append(message(window))
        coordinator.send_message(SENDER, WORKER, finished[-1])
        finish(coordinator, "ack")
        assert all(is_duplicate(coordinator, one) for one in finished)


def test_marks_of_windows_that_grew_go_by_their_time(
    coordinator: RedisMessageCoordinator, client: Client, key_prefix: str
) -> None:
    names = Keys(key_prefix).inbox(WORKER)
    for number, window in enumerate((60, 130, 300)):
        coordinator.configure(dedup_window=window)
        send(coordinator, number)
        finish(coordinator, "ack")
    assert 0 < client.pttl(names["marks_old"]) <= 120_000
    assert 300_000 < client.pttl(names["marks"]) <= 600_000


def test_the_same_id_to_another_inbox_is_another_message(
    coordinator: RedisMessageCoordinator,
) -> None:
    sent = message(1)
    for inbox in (WORKER, ONE):
        result = coordinator.send_message(SENDER, inbox, sent)
        assert not result.duplicate
        coordinator.ack(inbox, take(coordinator, inbox).token)
        assert coordinator.send_message(SENDER, inbox, sent).duplicate


def test_the_same_id_twice_in_one_call_is_stored_once(
    coordinator: RedisMessageCoordinator,
) -> None:
    sent, other = message(1), message(2)
    results = coordinator.send_many(SENDER, [sent, other, sent, sent])
    assert [result.duplicate for result in results] == [False, False, True, True]
    assert all(result.delivered for result in results)
    assert drain(coordinator) == [1, 2]


def test_the_same_id_far_apart_in_one_call_is_stored_once(
    coordinator: RedisMessageCoordinator,
) -> None:
    messages = [message(n) for n in range(250)]
    results = coordinator.send_many(SENDER, [*messages, messages[0]])
    assert [result.duplicate for result in results] == [False] * 250 + [True]
    assert len(drain(coordinator)) == 250


def test_of_eight_who_send_the_same_at_once_one_is_first(make: Make) -> None:
    senders = [make() for _ in range(2)]
    sent = message(1)
    results = together(8, lambda n: senders[n % 2].send_message(SENDER, WORKER, sent))
    assert sorted(result.duplicate for result in results) == [False] + [True] * 7
    assert drain(senders[0]) == [1]


def test_a_purged_message_may_be_sent_again(coordinator: RedisMessageCoordinator) -> None:
    sent = message(1)
    coordinator.send_message(SENDER, WORKER, sent)
    coordinator.purge(WORKER)
    assert not is_duplicate(coordinator, sent)
    assert drain(coordinator) == [1]


def test_a_refused_message_may_be_sent_again(make: Make) -> None:
    coordinator = make(queue_size=1)
    send(coordinator, 0)
    sent = message(1)
    assert not coordinator.send_message(SENDER, WORKER, sent).delivered
    coordinator.purge(WORKER)
    assert not is_duplicate(coordinator, sent)


def test_a_replayed_message_is_unfinished_again(coordinator: RedisMessageCoordinator) -> None:
    sent = message(1)
    coordinator.send_message(SENDER, WORKER, sent)
    finish(coordinator, "death")
    assert coordinator.replay_dead_letters(WORKER) == 1
    assert is_duplicate(coordinator, sent)
    finish(coordinator, "ack")
    assert is_duplicate(coordinator, sent)


REPEATS: dict[str, Callable[[RedisMessageCoordinator, str], LeaseOutcome]] = {
    "ack": lambda c, token: c.ack(WORKER, token),
    "ack_many": lambda c, token: c.ack_many(WORKER, [token, token])[1],
    "nack": lambda c, token: c.nack(WORKER, token, error="failed", delay=100),
    "nack for ever": lambda c, token: c.nack(WORKER, token, FAILED, "failed"),
    "nack at once": lambda c, token: c.nack(WORKER, token, delay=0),
    "extend": lambda c, token: c.extend(WORKER, token, LONG),
    "release": lambda c, token: c.release(WORKER, token),
}


@pytest.mark.parametrize("way", REPEATS)
def test_repeating_a_settlement_is_done_or_already_done(
    coordinator: RedisMessageCoordinator, way: str
) -> None:
    send(coordinator, 1, 2)
    token = take(coordinator).token
    first = REPEATS[way](coordinator, token)
    assert first is (ALREADY_DONE if way == "ack_many" else DONE)
    stats = coordinator.stats(WORKER)
    for _ in range(3):
        assert REPEATS[way](coordinator, token) is (DONE if way == "extend" else ALREADY_DONE)
    again = coordinator.stats(WORKER)
    assert (stats.ready, stats.delayed, stats.leased, stats.dead) == (
        again.ready, again.delayed, again.leased, again.dead,
    )  # fmt: skip


def test_a_nack_repeated_does_not_count_twice(make: Make) -> None:
    coordinator = make(retry_attempts=1, backoff_base=0)
    send(coordinator, 1)
    token = take(coordinator).token
    for _ in range(5):
        coordinator.nack(WORKER, token)
    assert take(coordinator).queue_message.delivery_attempts == 2


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("many", [False, True])
def test_a_copy_of_a_send_is_answered_as_the_first(
    coordinator: RedisMessageCoordinator,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    many: bool,
) -> None:
    """The reply to the first was lost, say, and meanwhile somebody took the message."""
    monkeypatch.setattr(outbox, "new_call_id", lambda: "5" * 16)
    messages = [message(1), message(2)][: 1 + many]

    first = coordinator.send_many(SENDER, messages)
    STATES[state](coordinator)

    assert coordinator.send_many(SENDER, messages) == first
    assert not any(each.duplicate for each in first)
    monkeypatch.undo()
    assert all(each.duplicate for each in coordinator.send_many(SENDER, messages))
