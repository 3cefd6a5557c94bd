"""Attempts are counted at handing out; when none is left, the message dies."""

import os

import pytest

from tests.contract.conftest import Later, Make
from tests.contract.given import FAILED, LONG, ONE, WORKER, lapsed, numbers, send, take
from tta_agent_coordination import (
    DeadLetter,
    FailureType,
    LeaseOutcome,
    RedisMessageCoordinator,
)

pytestmark = pytest.mark.guarantee("2.6")


def the_dead(coordinator: RedisMessageCoordinator) -> DeadLetter:
    [letter] = coordinator.dead_letters(WORKER)
    assert coordinator.stats(WORKER).leased == 0
    assert coordinator.receive(WORKER) is None
    return letter


def test_the_first_delivery_is_attempt_one(coordinator: RedisMessageCoordinator) -> None:
    send(coordinator, 1)
    assert take(coordinator).queue_message.delivery_attempts == 1


def test_a_consumer_that_crashes_uses_one_up(make: Make, later: Later) -> None:
    send(make(), 1)
    attempts = []
    for _ in range(4):
        attempts.append(take(make(), lease=10).queue_message.delivery_attempts)
        later(11)
    assert attempts == [1, 2, 3, 4]


@pytest.mark.parametrize("retries", [0, 1, 3, 7])
def test_the_failure_of_the_last_delivery_makes_it_a_dead_letter(make: Make, retries: int) -> None:
    coordinator = make(retry_attempts=retries, backoff_base=0)
    send(coordinator, 1)
    for attempt in range(1, retries + 2):
        received = take(coordinator)
        assert received.queue_message.delivery_attempts == attempt
        kind = FailureType.TIMEOUT if attempt % 2 else FailureType.TRANSIENT
        assert coordinator.nack(WORKER, received.token, kind, f"error {attempt}")
    letter = the_dead(coordinator)
    assert letter.reason == "attempts_exhausted"
    assert letter.queue_message is not None
    assert letter.queue_message.delivery_attempts == retries + 1
    assert letter.queue_message.last_error == f"error {retries + 1}"


@pytest.mark.parametrize("retries", [0, 2])
@pytest.mark.parametrize("by_recovery", [True, False])
def test_the_end_of_the_last_lease_makes_it_a_dead_letter(
    make: Make, later: Later, retries: int, *, by_recovery: bool
) -> None:
    coordinator = make(retry_attempts=retries)
    send(coordinator, 1)
    for _ in range(retries + 1):
        take(coordinator, lease=10)
        later(11)
    if by_recovery:
        assert coordinator.recover_pending(WORKER) == 1
    else:
        assert coordinator.receive(WORKER) is None
    letter = the_dead(coordinator)
    assert letter.reason == "lease_expired"
    assert letter.queue_message is not None
    assert letter.queue_message.delivery_attempts == retries + 1
    assert letter.queue_message.last_error is None


def test_three_retries_are_the_default(coordinator: RedisMessageCoordinator) -> None:
    send(coordinator, 1)
    for _ in range(4):
        coordinator.nack(WORKER, take(coordinator).token, delay=0)
    assert the_dead(coordinator).reason == "attempts_exhausted"


def test_failures_and_crashes_count_alike(make: Make, later: Later) -> None:
    coordinator = make(retry_attempts=2)
    send(coordinator, 1)
    coordinator.nack(WORKER, take(coordinator).token, error="first", delay=0)
    take(coordinator, lease=10)
    later(11)
    last = take(coordinator, lease=10)
    assert last.queue_message.delivery_attempts == 3
    assert last.queue_message.last_error == "first"
    later(11)
    coordinator.recover_pending(WORKER)
    letter = the_dead(coordinator)
    assert letter.reason == "lease_expired"
    assert letter.queue_message is not None
    assert letter.queue_message.last_error == "first"


def test_a_permanent_failure_needs_no_attempts(coordinator: RedisMessageCoordinator) -> None:
    send(coordinator, 1)
    received = take(coordinator)
    assert coordinator.nack(WORKER, received.token, FAILED, "no such file") is LeaseOutcome.DONE
    letter = the_dead(coordinator)
    assert letter.reason == "permanent"
    assert letter.message_id == received.message.message_id
    assert letter.raw is None
    assert letter.queue_message is not None
    assert letter.queue_message.message == received.message
    assert letter.queue_message.enqueued_at == received.queue_message.enqueued_at
    assert letter.queue_message.delivery_attempts == 1
    assert letter.queue_message.last_error == "no such file"


@pytest.mark.parametrize("name", ["host-a:1:worker", "x", "ž" * 128, "%s:%n"])
def test_a_dead_letter_names_its_last_holder(make: Make, later: Later, name: str) -> None:
    send(make(), 1)
    take(make(consumer_name="the-first"), lease=10)
    later(11)
    last = make(consumer_name=name)
    last.nack(WORKER, take(last).token, FAILED)
    assert the_dead(last).last_holder == name


def test_a_holder_without_a_name_is_host_and_process(coordinator: RedisMessageCoordinator) -> None:
    send(coordinator, 1)
    coordinator.nack(WORKER, take(coordinator).token, FAILED)
    holder = the_dead(coordinator).last_holder
    assert holder is not None
    assert holder.endswith(f":{os.getpid()}")


def test_a_release_is_not_counted(coordinator: RedisMessageCoordinator) -> None:
    coordinator.configure(retry_attempts=0)
    send(coordinator, 1)
    for _ in range(5):
        received = take(coordinator)
        assert received.queue_message.delivery_attempts == 1
        assert coordinator.release(WORKER, received.token) is LeaseOutcome.DONE
    assert coordinator.dead_letters(WORKER) == []


def test_a_late_release_is_not_counted_either(
    coordinator: RedisMessageCoordinator, later: Later
) -> None:
    token = lapsed(coordinator, later)
    coordinator.recover_pending(WORKER)
    coordinator.release(WORKER, token)
    assert take(coordinator).queue_message.delivery_attempts == 1


def test_extending_and_looking_count_nothing(coordinator: RedisMessageCoordinator) -> None:
    send(coordinator, 1)
    received = take(coordinator)
    for _ in range(3):
        coordinator.extend(WORKER, received.token, LONG)
        coordinator.stats(WORKER)
        coordinator.recover_pending(WORKER)
        assert coordinator.receive(WORKER) is None
    coordinator.nack(WORKER, received.token, delay=0)
    assert take(coordinator).queue_message.delivery_attempts == 2


def test_the_last_error_is_handed_out_with_the_next_delivery(
    coordinator: RedisMessageCoordinator,
) -> None:
    send(coordinator, 1)
    coordinator.nack(WORKER, take(coordinator).token, error="first", delay=0)
    received = take(coordinator)
    assert received.queue_message.last_error == "first"
    coordinator.nack(WORKER, received.token, delay=0)
    received = take(coordinator)
    assert received.queue_message.last_error == "first", (
        "a failure that says nothing unsays nothing"
    )
    coordinator.nack(WORKER, received.token, error="", delay=0)
    assert take(coordinator).queue_message.last_error == ""


ERRORS = ["-", "+", "+ +", " leading and trailing ", "1 2 3 4", "line\nbreak\r\n\ttab", "\0nul\0",
          "'\"\\%s%n{}[]", "žluťoučký 😀", "x" * 4096, "\x1b[31mred", "0 0 0 - - l -"]  # fmt: skip


def test_an_error_is_kept_as_it_is(coordinator: RedisMessageCoordinator) -> None:
    for error in ERRORS:
        send(coordinator, 1, 2)
        coordinator.nack(WORKER, take(coordinator).token, error=error, delay=0)
        received = take(coordinator)
        assert received.queue_message.last_error == error
        assert received.message.payload == {"n": 1}
        coordinator.nack(WORKER, received.token, FAILED)
        [letter] = coordinator.dead_letters(WORKER)
        assert letter.queue_message is not None
        assert letter.queue_message.last_error == error
        assert letter.queue_message.message == received.message
        coordinator.purge(WORKER)
        coordinator.purge_dead_letters(WORKER)


def test_an_error_that_is_no_utf8_is_kept_readable(coordinator: RedisMessageCoordinator) -> None:
    send(coordinator, 1)
    coordinator.nack(WORKER, take(coordinator).token, error="half \ud800 a pair", delay=0)
    assert take(coordinator).queue_message.last_error == "half \\ud800 a pair"


def test_a_long_error_is_cut(coordinator: RedisMessageCoordinator) -> None:
    send(coordinator, 1)
    coordinator.nack(WORKER, take(coordinator).token, error="é" * 1_000_000, delay=0)
    assert take(coordinator).queue_message.last_error == "é" * 4096


def test_a_lower_limit_holds_at_the_next_handing_out(make: Make) -> None:
    patient, strict = make(retry_attempts=9), make(retry_attempts=1)
    send(patient, 1, 2)
    for _ in range(3):
        coordinator = patient
        coordinator.nack(WORKER, take(coordinator).token, error="again", delay=0)
    assert numbers([take(strict)]) == [2]
    [letter] = strict.dead_letters(WORKER)
    assert letter.reason == "attempts_exhausted"
    assert letter.queue_message is not None
    assert letter.queue_message.delivery_attempts == 3


def test_attempts_in_one_inbox_are_nothing_to_another(
    coordinator: RedisMessageCoordinator,
) -> None:
    [sent] = send(coordinator, 1)
    coordinator.nack(WORKER, take(coordinator).token, delay=0)
    message = take(coordinator).message
    assert message.message_id == sent.message_id
    coordinator.send_message(WORKER, ONE, message)
    assert take(coordinator, ONE).queue_message.delivery_attempts == 1
