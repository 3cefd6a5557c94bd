"""A received message is hidden until its lease ends, and then comes back by itself."""

import pytest

from tests.contract.conftest import Later, Make
from tests.contract.given import (
    LONG,
    ONE,
    PATIENCE,
    TWO,
    WORKER,
    drain,
    due_in,
    message,
    numbers,
    send,
    server_time,
    take,
)
from tests.support.servers import Client
from tta_agent_coordination import AgentId, LeaseOutcome, RedisMessageCoordinator
from tta_agent_coordination.coordinator import directory
from tta_agent_coordination.coordinator import inbox as receiving

pytestmark = pytest.mark.guarantee("2.4")


def test_a_received_message_is_hidden_from_everybody(make: Make, later: Later) -> None:
    coordinator, other = make(), make()
    send(coordinator, 1)
    take(coordinator, lease=100)

    for consumer in (coordinator, other):
        assert consumer.receive(WORKER) is None
        assert consumer.recover_pending(WORKER) == 0
    later(90)
    assert other.receive(WORKER) is None
    assert other.recover_pending() == 0
    assert other.stats(WORKER).leased == 1


def test_it_comes_back_by_itself_at_the_next_receive(make: Make, later: Later) -> None:
    send(make(), 1)
    lost = take(make(), lease=100)
    later(100)
    again = take(make())
    assert again.message == lost.message
    assert again.token != lost.token


def test_a_lease_that_ends_is_handed_out_in_real_time_too(
    coordinator: RedisMessageCoordinator, client: Client, key_prefix: str
) -> None:
    send(coordinator, 1)
    lost = take(coordinator, lease=0.05)
    again = coordinator.receive(WORKER, LONG, wait=PATIENCE)
    assert again is not None
    assert server_time(client, key_prefix) >= lost.visibility_deadline.timestamp()


def test_the_default_lease_is_five_seconds(
    coordinator: RedisMessageCoordinator, client: Client, key_prefix: str
) -> None:
    send(coordinator, 1)
    coordinator.receive(WORKER)
    assert 4.0 < due_in(client, key_prefix, "leased") <= 5.0


@pytest.mark.parametrize("lease", [0.25, 7, 3600.0, 86_400 * 365])
def test_the_deadline_is_the_servers_time_and_the_lease(
    coordinator: RedisMessageCoordinator, client: Client, key_prefix: str, lease: float
) -> None:
    send(coordinator, 1)
    before = server_time(client, key_prefix)
    received = take(coordinator, lease=lease)
    after = server_time(client, key_prefix)
    deadline = received.visibility_deadline.timestamp()
    assert before + lease - 0.001 <= deadline <= after + lease + 0.001
    assert due_in(client, key_prefix, "leased") <= lease


def test_each_message_of_a_batch_has_its_lease(
    coordinator: RedisMessageCoordinator, later: Later
) -> None:
    send(coordinator, 0, 1, 2)
    taken = coordinator.receive_many(WORKER, 3, 10)
    coordinator.ack(WORKER, taken[0].token)
    coordinator.extend(WORKER, taken[1].token, 20)
    later(11)
    assert drain(coordinator) == [2]
    later(10)
    assert drain(coordinator, lease=100) == [1]


def test_extend_is_measured_from_now(
    coordinator: RedisMessageCoordinator, client: Client, key_prefix: str, later: Later
) -> None:
    send(coordinator, 1)
    token = take(coordinator, lease=100).token
    later(90)
    assert coordinator.extend(WORKER, token, 30) is LeaseOutcome.DONE
    assert 29 < due_in(client, key_prefix, "leased") <= 30
    later(20)
    assert coordinator.receive(WORKER) is None
    later(11)
    assert drain(coordinator) == [1]


def test_many_leases_are_extended_in_one_step(
    coordinator: RedisMessageCoordinator, later: Later
) -> None:
    send(coordinator, *range(5))
    tokens = [received.token for received in coordinator.receive_many(WORKER, 4, 10)]
    unknown = f"{'0' * 16}:nobody"

    outcomes = coordinator._inbox.extend(WORKER, [*tokens[:2], unknown, tokens[2]], LONG)

    done = LeaseOutcome.DONE
    assert outcomes == [done, done, LeaseOutcome.UNKNOWN, done]
    later(11)
    assert drain(coordinator) == [3, 4]


def test_extend_can_make_a_lease_shorter(coordinator: RedisMessageCoordinator) -> None:
    send(coordinator, 1)
    token = take(coordinator, lease=100).token
    assert coordinator.extend(WORKER, token, 0) is LeaseOutcome.DONE
    assert drain(coordinator) == [1]


def test_a_lease_can_be_extended_for_ever(
    coordinator: RedisMessageCoordinator, later: Later
) -> None:
    send(coordinator, 1)
    token = take(coordinator, lease=100).token
    for _ in range(10):
        later(90)
        assert coordinator.extend(WORKER, token, 100) is LeaseOutcome.DONE
    assert coordinator.receive(WORKER) is None
    assert coordinator.ack(WORKER, token) is LeaseOutcome.DONE


def test_a_lease_of_no_time_is_over_at_once(coordinator: RedisMessageCoordinator) -> None:
    send(coordinator, 1)
    first = take(coordinator, lease=0)
    second = take(coordinator)
    assert second.queue_message.delivery_attempts == 2
    assert coordinator.ack(WORKER, first.token) is LeaseOutcome.STALE
    assert coordinator.ack(WORKER, second.token) is LeaseOutcome.DONE


def test_a_released_message_is_there_at_once(coordinator: RedisMessageCoordinator) -> None:
    send(coordinator, 1)
    assert coordinator.release(WORKER, take(coordinator).token) is LeaseOutcome.DONE
    assert drain(coordinator) == [1]


def test_an_acked_message_never_comes_back(
    coordinator: RedisMessageCoordinator, later: Later
) -> None:
    send(coordinator, 1)
    coordinator.ack(WORKER, take(coordinator, lease=10).token)
    later(11)
    assert coordinator.recover_pending(WORKER) == 0
    assert coordinator.receive(WORKER) is None


# Recovery -------------------------------------------------------------------------------------


def test_recovery_moves_the_expired_back_and_counts_them(make: Make, later: Later) -> None:
    coordinator = make()
    send(coordinator, *range(1110))  # more than one command of a script moves
    for most in (1000, 100):
        coordinator.receive_many(WORKER, most, 10)
    coordinator.receive_many(WORKER, 5, 100)
    later(11)
    assert make().recover_pending(WORKER) == 1100
    stats = coordinator.stats(WORKER)
    assert (stats.leased, sum(stats.ready.values())) == (5, 1105)
    assert coordinator.recover_pending(WORKER) == 0


def test_recovery_buries_more_than_one_step_does(make: Make, later: Later) -> None:
    coordinator = make(retry_attempts=0)
    send(coordinator, *range(2005))
    coordinator.receive_many(WORKER, 2005, 10)
    later(11)
    assert coordinator._inbox.recover_some(WORKER)[:2] == (1000, 0)
    assert coordinator.recover_pending(WORKER) == 1005  # in two steps
    assert (coordinator.stats(WORKER).dead, coordinator.stats(WORKER).leased) == (2005, 0)


def test_a_recovery_that_is_repeated_counts_what_the_first_moved(
    coordinator: RedisMessageCoordinator, later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply to the first was lost, say."""
    send(coordinator, 1, 2)
    take(coordinator, lease=10)
    later(11)
    monkeypatch.setattr(receiving, "new_call_id", lambda: "5" * 16)
    for _ in range(2):
        assert coordinator._inbox.recover_some(WORKER) == (1, -1, 2)


def test_recovery_counts_leases_and_not_delays(
    coordinator: RedisMessageCoordinator, later: Later
) -> None:
    send(coordinator, 0, 1)
    coordinator.nack(WORKER, take(coordinator, lease=10).token, delay=5)
    take(coordinator, lease=10)
    later(11)
    assert coordinator.recover_pending(WORKER) == 1
    assert drain(coordinator) == [0, 1]


def test_recovery_of_all_inboxes_finds_those_nobody_reads(make: Make, later: Later) -> None:
    coordinator = make()
    for inbox in (WORKER, ONE, TWO):
        send(coordinator, 0, 1, to=inbox)
        coordinator.receive_many(inbox, 2, 10)
    for inbox in (WORKER, TWO):
        later(11, inbox)

    assert make().recover_pending() == 4

    assert [drain(coordinator, inbox) for inbox in (WORKER, ONE, TWO)] == [[0, 1], [], [0, 1]]
    assert coordinator.recover_pending(None) == 0


@pytest.mark.parametrize("way", ["send_message", "send_many", "broadcast", "publish", "replay"])
def test_every_way_of_sending_is_found_by_recovery(make: Make, later: Later, way: str) -> None:
    coordinator = make()
    if way == "replay":
        send(coordinator, 1, to=ONE)
        taken = take(coordinator, ONE)
        coordinator.nack(ONE, taken.token, "permanent")
        assert coordinator.replay_dead_letters(ONE, to=WORKER) == 1
    else:
        SENDINGS[way](coordinator)
    take(make(), lease=10)
    later(11)
    assert make().recover_pending() == 1


def _publish(coordinator: RedisMessageCoordinator) -> object:
    coordinator.subscribe_to_messages(WORKER, ["event"])
    return coordinator.publish(ONE, message())


SENDINGS = {
    "send_message": lambda c: c.send_message(ONE, WORKER, message()),
    "send_many": lambda c: c.send_many(ONE, [message()]),
    "broadcast": lambda c: c.broadcast_message(ONE, message(), [WORKER]),
    "publish": _publish,
}


def test_an_entry_that_is_no_agent_does_not_stop_recovery(
    coordinator: RedisMessageCoordinator, client: Client, key_prefix: str, later: Later
) -> None:
    send(coordinator, 1)
    take(coordinator, lease=10)
    later(11)
    client.zadd(f"{key_prefix}:inboxes", {b"\xff": 0, "a b": 0, "": 0, "a:b:c": 1e300})
    assert coordinator.recover_pending() == 1


def test_an_inbox_unused_for_long_is_struck_off_the_list(
    make: Make, client: Client, key_prefix: str
) -> None:
    index = f"{key_prefix}:inboxes"
    coordinator = make()
    send(coordinator, 1)
    send(coordinator, 1, to=ONE)
    coordinator.ack(ONE, take(coordinator, ONE).token)
    coordinator.recover_pending()
    assert client.zcard(index) == 2, "in use a moment ago"

    long_ago = (server_time(client, key_prefix) - 601) * 1_000_000
    client.zadd(index, {str(WORKER): long_ago, str(ONE): long_ago})
    coordinator.recover_pending()

    assert client.zrange(index, 0, -1) == [str(WORKER).encode()], "it still holds a message"
    send(make(), 2, to=ONE)
    assert client.zcard(index) == 2


def test_the_list_of_inboxes_lives_on_while_it_is_looked_through(
    coordinator: RedisMessageCoordinator, client: Client, key_prefix: str
) -> None:
    index = f"{key_prefix}:inboxes"
    send(coordinator, 1)
    coordinator.ack(WORKER, take(coordinator).token)
    client.pexpire(index, 60_000)

    coordinator.recover_pending()

    assert client.pttl(index) > 60_000


def test_a_sender_to_ever_new_inboxes_forgets_some_and_notes_them_again(
    make: Make, monkeypatch: pytest.MonkeyPatch, client: Client, key_prefix: str
) -> None:
    monkeypatch.setattr(directory, "_MOST_REMEMBERED", 3)
    coordinator = make()
    inboxes = [AgentId("worker", str(number)) for number in range(10)]
    for inbox in [*inboxes, *inboxes]:
        send(coordinator, 0, to=inbox)
    assert len(coordinator._directory._noted) <= 4
    assert client.zcard(f"{key_prefix}:inboxes") == 10


def test_expired_messages_of_several_consumers_are_shared_again(make: Make, later: Later) -> None:
    dead, alive = make(), make()
    send(dead, *range(10))
    kept = alive.receive_many(WORKER, 5, 100)
    dead.receive_many(WORKER, 5, 10)
    later(11)
    assert drain(alive) == [5, 6, 7, 8, 9]
    assert numbers(kept) == [0, 1, 2, 3, 4]
    assert all(alive.ack_many(WORKER, [each.token for each in kept]))
