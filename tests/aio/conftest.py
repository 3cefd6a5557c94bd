"""The synchronous objects that adapters are made around; closed behind the test."""

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.support.backends import Backend
from tta_agent_coordination import RedisAgentRegistry, RedisMessageCoordinator
from tta_agent_coordination.proxy import FaultProxy

Make = Callable[..., RedisMessageCoordinator]


@pytest.fixture
def make(backend: Backend, key_prefix: str, closing: ExitStack) -> Make:
    """Make coordinators on the back end, each like a process of its own."""

    def make(**options: object) -> RedisMessageCoordinator:
        return closing.enter_context(
            RedisMessageCoordinator(backend.client(), key_prefix, **options)
        )

    return make


@pytest.fixture
def coordinator(make: Make) -> RedisMessageCoordinator:
    """A coordinator with the defaults."""
    return make()


@pytest.fixture
def far(backend: Backend, key_prefix: str, closing: ExitStack, proxy: FaultProxy) -> Make:
    """Make coordinators that reach the back end through a proxy."""

    def far(**options: object) -> RedisMessageCoordinator:
        client = backend.client_through(proxy)
        return closing.enter_context(RedisMessageCoordinator(client, key_prefix, **options))

    return far


@pytest.fixture
def registry(backend: Backend, key_prefix: str, closing: ExitStack) -> RedisAgentRegistry:
    """A registry that looks often."""
    return closing.enter_context(
        RedisAgentRegistry(
            backend.client(), key_prefix, heartbeat_ttl_s=LONG_TTL, heartbeat_interval_s=0.02
        )
    )


LONG_TTL = 60.0
