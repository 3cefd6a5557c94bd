"""A consumer that was out of action for longer than its lease."""

import pytest

from tests.conftest import OwnServers
from tests.processes.conftest import PREFIX, MakeMember
from tests.processes.work import INBOX, LEASE, PRODUCER
from tta_agent_coordination import AgentMessage, RedisMessageCoordinator


@pytest.mark.guarantee("2.4")
@pytest.mark.guarantee("2.5")
def test_the_ack_of_a_consumer_that_slept_through_its_lease_is_stale(
    own_server: OwnServers, member: MakeMember
) -> None:
    server = own_server()
    sleeper = member("hold", server.url)
    with RedisMessageCoordinator.from_url(server.url, PREFIX) as other:
        message = AgentMessage(PRODUCER, INBOX)
        other.send_message(PRODUCER, INBOX, message)
        assert sleeper.line() == message.message_id
        sleeper.stop()

        taken_over = other.receive(INBOX, 60.0, wait=LEASE + 5.0)
        sleeper.tell()
        sleeper.go_on()

        assert sleeper.line() == "STALE"
        assert taken_over is not None
        assert taken_over.queue_message.delivery_attempts == 2
        assert other.stats(INBOX).leased == 1
        assert other.ack(INBOX, taken_over.token)
    assert sleeper.end() == (0, "")


@pytest.mark.guarantee("2.5")
def test_the_ack_of_a_consumer_that_slept_while_nobody_else_was_there_counts(
    own_server: OwnServers, member: MakeMember
) -> None:
    server = own_server()
    sleeper = member("hold", server.url)
    with RedisMessageCoordinator.from_url(server.url, PREFIX) as other:
        other.send_message(PRODUCER, INBOX, AgentMessage(PRODUCER, INBOX))
        assert sleeper.line()
        sleeper.stop()
        while not other.recover_pending(INBOX):
            assert other.stats(INBOX).leased == 1
        sleeper.tell()
        sleeper.go_on()

        assert sleeper.line() == "DONE"
        assert other.receive(INBOX) is None
    assert sleeper.end() == (0, "")
