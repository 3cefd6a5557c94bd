"""A fail-over to a replica that lags: the server takes steps back, and what then holds."""

import secrets
from collections.abc import Iterator

import pytest

from tests.faults.calls import INBOX, SENDER, message
from tests.faults.conftest import Coordinators
from tests.support.servers import LocalServer, binary_of
from tests.support.waiting import eventually
from tta_agent_coordination import LeaseOutcome, ReceivedMessage, RedisMessageCoordinator

pytestmark = pytest.mark.guarantee("2.5")

Both = tuple[RedisMessageCoordinator, RedisMessageCoordinator]


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[LocalServer, LocalServer]]:
    """Two servers."""
    binary = binary_of("valkey")
    quick = ("--repl-diskless-sync-delay", "0")
    with (
        LocalServer(binary, tcp=True, options=quick) as primary,
        LocalServer(binary, tcp=True) as replica,
    ):
        yield primary, replica


@pytest.fixture
def old_and_new(pair: tuple[LocalServer, LocalServer], coordinators: Coordinators) -> Both:
    """Coordinators of an inbox with three messages, at a primary and at its replica.

    The first step of a test at the old one ends the replication: nothing of what follows is
    known to the new one.
    """
    prefix = f"test-{secrets.token_hex(6)}"
    old, new = (coordinators(server.client(), prefix) for server in pair)
    for number in (1, 2, 3):
        old.send_message(SENDER, INBOX, message(number))
    replicate(*pair)
    return old, new


def replicate(primary: LocalServer, replica: LocalServer) -> None:
    """Let the replica have all that the primary has, and then be a primary of its own."""
    host, port = primary.address
    replica.admin.replicaof(host, port)
    eventually(lambda: replica.admin.info("replication")["master_link_status"] == "up", timeout=20)
    eventually(lambda: primary.admin.wait(1, 100) == 1, timeout=20)
    replica.admin.replicaof("NO", "ONE")


def take(coordinator: RedisMessageCoordinator) -> ReceivedMessage:
    received = coordinator.receive(INBOX, 60.0)
    assert received is not None
    return received


def test_no_two_deliveries_share_a_token_although_the_server_forgot_the_first(
    old_and_new: Both,
) -> None:
    old, new = old_and_new
    lost, again = take(old), take(new)
    assert lost.message == again.message
    assert (lost.queue_message.delivery_attempts, again.queue_message.delivery_attempts) == (1, 1)
    assert lost.token != again.token

    for settle in (new.ack, new.nack, new.release, lambda *of: new.extend(*of, 60.0)):
        assert settle(INBOX, lost.token) is LeaseOutcome.STALE
    assert new.ack(INBOX, again.token) is LeaseOutcome.DONE


def test_a_token_of_the_lost_time_is_stale_although_nobody_has_the_message(
    old_and_new: Both,
) -> None:
    old, new = old_and_new
    lost = take(old)
    assert new.ack(INBOX, lost.token) is LeaseOutcome.STALE
    assert take(new).message == lost.message


def test_a_message_that_was_finished_in_the_lost_time_comes_again(old_and_new: Both) -> None:
    old, new = old_and_new
    done = take(old)
    assert old.ack(INBOX, done.token) is LeaseOutcome.DONE
    again = take(new)
    assert again.message.message_id == done.message.message_id
    assert again.queue_message.delivery_attempts == 1


def test_what_is_sent_again_after_it_was_lost_is_stored_once_and_in_order(
    old_and_new: Both,
) -> None:
    """The counter of the order went back as well: its numbers are given out again."""
    old, new = old_and_new
    old.send_message(SENDER, INBOX, message(4))
    new.send_message(SENDER, INBOX, message(5))
    assert not new.send_message(SENDER, INBOX, message(4)).duplicate
    assert new.send_message(SENDER, INBOX, message(4)).duplicate
    numbers = [received.message.payload["number"] for received in new.receive_many(INBOX, 10)]
    assert numbers == [1, 2, 3, 5, 4]


def test_a_token_from_before_is_still_good(
    pair: tuple[LocalServer, LocalServer], old_and_new: Both
) -> None:
    old, new = old_and_new
    known = take(old)
    replicate(*pair)
    old.extend(INBOX, known.token, 1.0)  # of this the new one hears nothing
    assert new.ack(INBOX, known.token) is LeaseOutcome.DONE
