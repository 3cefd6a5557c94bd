"""Coordinators before a proxy that fails on command."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import backoff
import pytest

from tests.support.backends import Backend
from tta_agent_coordination import RedisMessageCoordinator, policy
from tta_agent_coordination.proxy import FaultProxy

Coordinators = Callable[..., RedisMessageCoordinator]


@pytest.fixture
def coordinators() -> Iterator[Coordinators]:
    """Make coordinators that are closed with the test: as the class itself does."""
    with ExitStack() as made:

        def make(*args: Any, **options: Any) -> RedisMessageCoordinator:
            return made.enter_context(RedisMessageCoordinator(*args, **options))

        yield make


@pytest.fixture
def through_proxy(
    backend: Backend, proxy: FaultProxy, key_prefix: str, coordinators: Coordinators
) -> Coordinators:
    """Make coordinators that reach the back end through the proxy."""

    def make(**options: Any) -> RedisMessageCoordinator:
        return coordinators(backend.client_through(proxy), key_prefix, **options)

    return make


@pytest.fixture
def even_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the jitter out of retries: 20, 40, 80, 160, 320, 500, 500, … ms."""
    monkeypatch.setattr(backoff, "full_jitter", lambda bound: bound)


@pytest.fixture
def quick_reset(monkeypatch: pytest.MonkeyPatch) -> float:
    """Let a breaker try again after so many seconds."""
    monkeypatch.setattr(policy, "BREAKER_RESET", 0.2)
    return policy.BREAKER_RESET
