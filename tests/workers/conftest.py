"""Coordinators and workers, which are stopped and closed behind the test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.backends import Backend
from tests.workers.given import Serve
from tta_agent_coordination import AgentWorker, RedisMessageCoordinator

Coordinators = Callable[..., RedisMessageCoordinator]


@pytest.fixture
def coordinators() -> Iterator[Coordinators]:
    """Make coordinators with short back-offs."""
    with ExitStack() as made:

        def make(client: object, prefix: str = "workers", **options: Any):
            known = {"backoff_base": 0.02, **options}
            return made.enter_context(RedisMessageCoordinator(client, prefix, **known))

        yield make


@pytest.fixture
def coordinator(
    backend: Backend, key_prefix: str, coordinators: Coordinators
) -> RedisMessageCoordinator:
    """One coordinator on the back end."""
    return coordinators(backend.client(), key_prefix)


@pytest.fixture
def serve(coordinators: Coordinators) -> Iterator[Serve]:
    """Start workers: ``serve(agents, coordinator, threads=2)``; stopped before it is closed."""
    del coordinators
    started: list[AgentWorker] = []

    def start(agents: object, coordinator: RedisMessageCoordinator, **options: Any):
        worker = AgentWorker(agents, coordinator, **{"threads": 2, "drain_timeout": 5.0, **options})
        started.append(worker)
        worker.start()
        return worker

    yield start
    for worker in started:
        worker.stop()
