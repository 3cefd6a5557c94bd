"""A claim that is made again for fewer messages: its answer, or a copy of it, got lost."""

from collections.abc import Callable

import pytest

from tests.contract.conftest import Later, Raw
from tests.contract.given import FAILED, LONG, ONE, WORKER, drain, numbers, send, take
from tests.support.servers import Client
from tta_agent_coordination import LeaseOutcome, ReceivedMessage, RedisMessageCoordinator
from tta_agent_coordination.coordinator.calls import new_call_id
from tta_agent_coordination.coordinator.records import Delivery
from tta_agent_coordination.keys import Keys

pytestmark = pytest.mark.guarantee("2.9")

Claim = Callable[[int], list[ReceivedMessage]]


@pytest.fixture
def claim(coordinator: RedisMessageCoordinator) -> Claim:
    """Make one claim, again and again, for so many messages; five were sent."""
    send(coordinator, 1, 2, 3, 4, 5)
    call, inbox = new_call_id(), coordinator._inbox

    def claim(most: int) -> list[ReceivedMessage]:
        command = inbox.claim_command(WORKER, call, most, LONG, staying=False)
        [reply] = coordinator._calls.run_command(WORKER, command)
        return [one.decode() for one in inbox.read_claim(WORKER, call, reply, LONG)[0]]

    return claim


def attempts(received: list[ReceivedMessage]) -> list[int]:
    return [one.queue_message.delivery_attempts for one in received]


def test_it_gets_the_first_ones_and_the_others_are_ready_in_their_places(
    coordinator: RedisMessageCoordinator, claim: Claim
) -> None:
    first = claim(4)
    again = claim(2)

    assert [one.token for one in again] == [one.token for one in first[:2]]
    assert coordinator.stats(WORKER).leased == 2
    rest = coordinator.receive_many(WORKER, 9, LONG)
    assert numbers(rest) == [3, 4, 5]
    assert attempts(again + rest) == [1, 1, 1, 1, 1]


def test_whenever_it_is_repeated_it_gets_the_same(
    coordinator: RedisMessageCoordinator, claim: Claim
) -> None:
    claim(4)
    assert [numbers(claim(most)) for most in (2, 2, 4, 1, 1, 4)] == [
        [1, 2], [1, 2], [1, 2], [1], [1], [1]
    ]  # fmt: skip
    assert attempts(claim(1)) == [1]
    assert numbers(coordinator.receive_many(WORKER, 9, LONG)) == [2, 3, 4, 5]


def test_what_becomes_of_the_others_does_not_make_it_forget_its_own(
    coordinator: RedisMessageCoordinator, claim: Claim, later: Later
) -> None:
    coordinator.configure(retry_attempts=1)
    claim(5)
    mine = claim(1)

    # when the others are finished, given up, withdrawn, or die of their attempts
    done, failed = coordinator.receive_many(WORKER, 2, LONG)
    coordinator.ack(WORKER, done.token)
    coordinator.nack(WORKER, failed.token, FAILED)
    withdrawn = coordinator.receive_many(WORKER, 1, LONG)[0]
    coordinator.release(WORKER, withdrawn.token)
    assert coordinator._inbox.withdraw(WORKER, withdrawn.message.message_id).place == "waiting"
    for _ in range(2):
        take(coordinator, lease=1)
        later(1.1)
    assert coordinator.receive(WORKER) is None

    # then its message is its own still
    assert [one.token for one in claim(1)] == [one.token for one in mine]
    assert coordinator.ack(WORKER, mine[0].token) is LeaseOutcome.DONE
    assert coordinator.stats(WORKER).leased == 0


def test_one_given_back_that_dies_of_its_age_or_is_withdrawn_does_not_either(
    coordinator: RedisMessageCoordinator, claim: Claim, later: Later
) -> None:
    coordinator.purge(WORKER)
    send(coordinator, 1)
    send(coordinator, 2, 3, ttl=10)
    mine = claim(3)[0]
    assert numbers(claim(1)) == [1]
    withdrawn = coordinator._inbox.peek(WORKER, "ready")[1]
    coordinator._inbox.withdraw(WORKER, withdrawn.message_id)
    later(11)
    assert coordinator.receive(WORKER) is None
    assert [letter.reason for letter in coordinator.dead_letters(WORKER)] == ["expired"]

    assert [one.token for one in claim(1)] == [mine.token]


def test_a_token_of_one_that_was_given_back_is_like_one_that_was_released(
    coordinator: RedisMessageCoordinator, claim: Claim
) -> None:
    given_back = claim(5)[1:]
    claim(1)
    one, two, three, four = (received.token for received in given_back)
    assert coordinator.ack(WORKER, one) is LeaseOutcome.STALE
    assert coordinator.nack(WORKER, two) is LeaseOutcome.STALE
    assert coordinator.extend(WORKER, three, LONG) is LeaseOutcome.STALE
    assert coordinator.release(WORKER, four) is LeaseOutcome.ALREADY_DONE
    assert drain(coordinator) == [2, 3, 4, 5]
    assert coordinator.release(WORKER, four) is LeaseOutcome.STALE


def test_one_whose_lease_has_passed_is_taken_up_or_given_back_all_the_same(
    coordinator: RedisMessageCoordinator, claim: Claim, later: Later, raw: Raw
) -> None:
    claim(3)
    later(LONG + 1)
    assert coordinator.recover_pending(WORKER) == 3

    assert (numbers(claim(1)), attempts(claim(1))) == ([1], [1])

    assert not list(raw().faults())
    rest = coordinator.receive_many(WORKER, 9, LONG)
    assert (numbers(rest), attempts(rest)) == ([2, 3, 4, 5], [1, 1, 1, 1])


def test_who_waits_is_woken_for_what_is_given_back(
    claim: Claim, client: Client, key_prefix: str
) -> None:
    claim(5)
    wake = Keys(key_prefix).inbox(WORKER)["wake"]
    client.delete(wake)

    claim(1)

    assert client.exists(wake)


def test_a_worker_gets_fewer_of_them_in_the_step_that_finishes_others(
    coordinator: RedisMessageCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(coordinator, 1, to=ONE)
    [feed] = coordinator.internals.feed([ONE])
    [(_, done)], _ = feed.exchange({}, 1, LONG)
    send(coordinator, 2, 3, 4, 5, 6, to=ONE)

    # given an exchange whose answer is lost for good
    run = feed._gate.run

    def lost(*arguments: object) -> object:
        run(*arguments)
        raise OSError("for the test")

    monkeypatch.setattr(feed._gate, "run", lost)
    with pytest.raises(OSError, match="for the test"):
        feed.exchange({ONE: [done]}, 4, LONG)
    monkeypatch.undo()
    assert coordinator.stats(ONE).leased == 4

    # when the worker asks again, then for a fourth, and then as ever
    found = [feed.exchange({ONE: [done]}, 4, LONG), feed.exchange({}, 4, LONG)]
    assert [refused for _, refused in found] == [[], []]
    assert [[number_of(one) for _, one in fetched] for fetched, _ in found] == [[2], [3, 4, 5, 6]]
    assert {one.attempts for fetched, _ in found for _, one in fetched} == {1}


def number_of(delivery: Delivery) -> int:
    return delivery.decode().message.payload["n"]
