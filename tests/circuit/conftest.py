"""Breakers that close themselves, and a way to let time pass for them."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from tests.circuit.given import CONFIG, NAME
from tests.support.backends import Backend
from tests.support.circuit_clock import let_pass
from tests.support.servers import Client
from tta_agent_coordination import CircuitBreaker, CircuitBreakerConfig
from tta_agent_coordination.proxy import FaultProxy
from tta_agent_coordination.threads import PerProcess

Make = Callable[..., CircuitBreaker]
Later = Callable[[float], None]

SLOW_MACHINE = 5.0
"""Seconds that asking Redis may take where a test is not about that."""


@pytest.fixture
def make(client: Client, key_prefix: str, closing: ExitStack) -> Make:
    """Make breakers on the back end. They know nothing of each other but through Redis.

    With ``refresh=0`` they ask each time, so that a test can move the clock of the circuit.
    """

    def make(
        config: CircuitBreakerConfig = CONFIG,
        *,
        client: Client = client,
        name: str = NAME,
        **options: Any,
    ) -> CircuitBreaker:
        options = {"refresh": 0.0, "call_timeout": SLOW_MACHINE, **options}
        breaker = CircuitBreaker(client, name, config, key_prefix, **options)
        closing.callback(breaker.close)
        as_if_in_another_process(breaker)
        return breaker

    return make


def as_if_in_another_process(breaker: CircuitBreaker) -> None:
    """Let a breaker share nothing with others of its name in this process."""
    breaker._place = object()
    breaker._parts = PerProcess(breaker._make)


@pytest.fixture
def breaker(make: Make) -> CircuitBreaker:
    """A breaker that opens at the third failure."""
    return make()


@pytest.fixture
def through_proxy(backend: Backend, proxy: FaultProxy, make: Make) -> Make:
    """Make breakers that reach the back end through the proxy."""

    def through_proxy(config: CircuitBreakerConfig = CONFIG, **options: Any) -> CircuitBreaker:
        return make(config, client=backend.client_through(proxy), **options)

    return through_proxy


@pytest.fixture
def later(client: Client, key_prefix: str) -> Later:
    """Let seconds pass for the circuit, without waiting for them."""
    return lambda seconds: let_pass(client, key_prefix, NAME, seconds)
