"""Coordinators that close themselves, and looks behind them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.contract.given import WORKER
from tests.support.backends import Backend
from tests.support.raw_inbox import RawInbox, look
from tests.support.servers import Client
from tests.support.time_machine import let_pass
from tta_agent_coordination import AgentId, RedisMessageCoordinator

Make = Callable[..., RedisMessageCoordinator]
Later = Callable[..., None]
Raw = Callable[..., RawInbox]


@pytest.fixture
def make(client: Client, key_prefix: str) -> Iterator[Make]:
    """Make coordinators on the back end, each like a process of its own."""
    with ExitStack() as opened:

        def make(key_prefix: str = key_prefix, **options: object) -> RedisMessageCoordinator:
            return opened.enter_context(RedisMessageCoordinator(client, key_prefix, **options))

        yield make


@pytest.fixture
def coordinator(make: Make) -> RedisMessageCoordinator:
    """A coordinator with the defaults."""
    return make()


@pytest.fixture
def later(client: Client, key_prefix: str) -> Later:
    """Let seconds pass in an inbox, without waiting for them."""

    def later(seconds: float, agent_id: AgentId = WORKER) -> None:
        let_pass(client, key_prefix, agent_id, seconds)

    return later


@pytest.fixture
def raw(client: Client, key_prefix: str) -> Raw:
    """Look at the bare keys of an inbox."""

    def raw(agent_id: AgentId = WORKER) -> RawInbox:
        return look(client, key_prefix, agent_id)

    return raw


@pytest.fixture
def keys_left(backend: Backend, key_prefix: str) -> Callable[[], set[str]]:
    """The keys under the prefix now, without the prefix."""

    def keys_left() -> set[str]:
        return {key.decode()[len(key_prefix) + 1 :] for key in backend.keys(f"{key_prefix}*")}

    return keys_left
