"""Real inboxes do what the model says, whatever is done to them in whatever order."""

import logging
from collections.abc import Iterator

import pytest
from hypothesis.stateful import run_state_machine_as_test

from tests.stateful.machine import CONSUMERS, OPTIONS, InboxMachine, World
from tests.stateful.profiles import chosen
from tests.support.backends import Backend
from tta_agent_coordination import RedisMessageCoordinator


@pytest.fixture
def world(backend: Backend, key_prefix: str) -> Iterator[World]:
    consumers = tuple(
        RedisMessageCoordinator(
            backend.client(), key_prefix, consumer_name=f"consumer-{number}", **OPTIONS
        )
        for number in range(CONSUMERS)
    )
    yield World(backend.client(), key_prefix, consumers)
    for consumer in consumers:
        consumer.close()


@pytest.mark.backend("fakeredis", "valkey", "redis62", "cluster")
@pytest.mark.guarantee("2.1")
@pytest.mark.guarantee("2.2")
@pytest.mark.guarantee("2.3")
@pytest.mark.guarantee("2.4")
@pytest.mark.guarantee("2.5")
@pytest.mark.guarantee("2.6")
@pytest.mark.guarantee("2.8")
@pytest.mark.guarantee("2.9")
@pytest.mark.timeout(0)  # as long as the profile says; finding the shortest failure takes minutes
def test_an_inbox_does_what_its_model_does(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, logger="tta_agent_coordination")
    machine = type("BoundInboxMachine", (InboxMachine,), {"world": world})

    run_state_machine_as_test(machine, settings=chosen())
