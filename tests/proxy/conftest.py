"""Clients of a proxy."""

import socket
from collections.abc import Callable, Iterator

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.backends import Backend
from tta_agent_coordination.proxy import FaultProxy

Connect = Callable[..., redis.Redis]


@pytest.fixture
def connect(backend: Backend, proxy: FaultProxy) -> Connect:
    """Make a client of the proxy that sends every command once."""

    def connect(**options: object) -> redis.Redis:
        options.setdefault("retry", Retry(NoBackoff(), 0))
        return backend.client_through(proxy, **options)

    return connect


@pytest.fixture
def wire(proxy: FaultProxy) -> Iterator[socket.socket]:
    """A bare connection to the proxy."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as wire:
        yield wire
