"""Registries that close themselves, and a way to let time pass for agents."""

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.support.backends import Backend
from tests.support.registry_clock import let_pass
from tests.support.servers import Client
from tta_agent_coordination import RedisAgentRegistry, RedisMessageCoordinator

Make = Callable[..., RedisAgentRegistry]
Later = Callable[..., None]


@pytest.fixture
def make(client: Client, key_prefix: str, closing: ExitStack) -> Make:
    """Make registries on the back end, each like a process of its own."""

    def make(client: Client = client, **options: object) -> RedisAgentRegistry:
        return closing.enter_context(RedisAgentRegistry(client, key_prefix, **options))

    return make


@pytest.fixture
def registry(make: Make) -> RedisAgentRegistry:
    """A registry with the defaults."""
    return make()


@pytest.fixture
def coordinator(client: Client, key_prefix: str, closing: ExitStack) -> RedisMessageCoordinator:
    return closing.enter_context(RedisMessageCoordinator(client, key_prefix))


@pytest.fixture
def later(client: Client, key_prefix: str) -> Later:
    """Let seconds pass for an agent, or all, without waiting for them."""

    def later(seconds: float, agent: object = None) -> None:
        let_pass(client, key_prefix, seconds, agent=agent)

    return later


@pytest.fixture
def keys_left(backend: Backend, key_prefix: str) -> Callable[[], set[str]]:
    """The keys under the prefix now, without the prefix."""

    def keys_left() -> set[str]:
        return {key.decode()[len(key_prefix) + 1 :] for key in backend.keys(f"{key_prefix}*")}

    return keys_left
