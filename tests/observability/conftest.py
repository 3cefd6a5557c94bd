"""Observed coordinators and workers, closed behind the test."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from tests.observability.given import WORKER, Recorder
from tests.support.servers import Client
from tests.support.time_machine import let_pass
from tta_agent_coordination import AgentId, AgentWorker, RedisMessageCoordinator

Serve = Callable[..., AgentWorker]
Make = Callable[..., RedisMessageCoordinator]


@pytest.fixture
def make(client: Client, key_prefix: str, closing: ExitStack) -> Make:
    """Make coordinators that nobody observes."""

    def make(client: Client = client, **options: Any) -> RedisMessageCoordinator:
        known = {"backoff_base": 0.02, **options}
        return closing.enter_context(RedisMessageCoordinator(client, key_prefix, **known))

    return make


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def coordinator(make: Make, recorder: Recorder) -> RedisMessageCoordinator:
    """A coordinator that the recorder observes."""
    coordinator = make()
    coordinator.events.add(recorder)
    return coordinator


@pytest.fixture
def serve(closing: ExitStack) -> Serve:
    """Start workers; stopped before the coordinator is closed."""

    def serve(agents: object, coordinator: RedisMessageCoordinator, **options: Any) -> AgentWorker:
        worker = AgentWorker(agents, coordinator, **{"threads": 2, "drain_timeout": 5.0, **options})
        return closing.enter_context(worker)

    return serve


@pytest.fixture
def later(client: Client, key_prefix: str) -> Callable[..., None]:
    """Let seconds pass in an inbox, without waiting for them."""

    def later(seconds: float, agent_id: AgentId = WORKER) -> None:
        let_pass(client, key_prefix, agent_id, seconds)

    return later
