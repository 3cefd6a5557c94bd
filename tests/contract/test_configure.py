"""Options: given at the start or changed later, each coordinator's own."""

import pytest

from tests.contract.conftest import Make
from tests.contract.given import SENDER, WORKER, message, send, take
from tta_agent_coordination import MessageTooLargeError, RedisMessageCoordinator


@pytest.mark.guarantee("2.8")
def test_options_hold_from_the_next_call_on(coordinator: RedisMessageCoordinator) -> None:
    coordinator.configure(queue_size=1)
    send(coordinator, 0)
    assert not coordinator.send_message(SENDER, WORKER, message(1)).delivered
    coordinator.configure(queue_size=2)
    send(coordinator, 1)


@pytest.mark.guarantee("2.8")
def test_what_is_not_named_stays_as_it_is(coordinator: RedisMessageCoordinator) -> None:
    coordinator.configure(queue_size=1)
    coordinator.configure(retry_attempts=0)
    coordinator.configure()
    coordinator.configure(queue_size=None)
    send(coordinator, 0)
    assert not coordinator.send_message(SENDER, WORKER, message(1)).delivered
    coordinator.nack(WORKER, take(coordinator).token)
    assert coordinator.stats(WORKER).dead == 1


@pytest.mark.guarantee("2.8")
def test_options_are_the_coordinators_own(make: Make) -> None:
    small, large = make(queue_size=1), make()
    send(small, 0)
    assert not small.send_message(SENDER, WORKER, message(1)).delivered
    send(large, 1)


@pytest.mark.guarantee("2.11")
def test_the_size_of_a_message_can_be_limited(coordinator: RedisMessageCoordinator) -> None:
    coordinator.configure(max_message_bytes=64)
    with pytest.raises(MessageTooLargeError):
        coordinator.send_message(SENDER, WORKER, message(0))
    coordinator.configure(max_message_bytes=10_000)
    send(coordinator, 0)


@pytest.mark.guarantee("2.15")
def test_a_coordinator_does_not_show_secrets(make: Make) -> None:
    assert repr(make("a-prefix")) == "<RedisMessageCoordinator key_prefix='a-prefix'>"
