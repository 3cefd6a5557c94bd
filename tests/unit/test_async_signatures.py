"""The adapters for asyncio have the methods of what they adapt, and the same signatures."""

import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from tta_agent_coordination import (
    AgentRegistry,
    CircuitBreaker,
    MessageCoordinator,
    RedisAgentRegistry,
    RedisMessageCoordinator,
)
from tta_agent_coordination.aio import (
    AsyncAgentRegistry,
    AsyncCircuitBreaker,
    AsyncMessageCoordinator,
)

pytestmark = pytest.mark.guarantee("6.1")

ADAPTERS: dict[type, type] = {
    MessageCoordinator: AsyncMessageCoordinator,
    AgentRegistry: AsyncAgentRegistry,
    CircuitBreaker: AsyncCircuitBreaker,
}
AT_ONCE = {"add_listener", "add_listeners", "remove_listener"}
"""Those that ask nobody, and have nothing to await."""
AS_ITERATED = {"watch": ("Iterator", "AsyncIterator")}
GENERIC = {"call"}
"""Those whose annotations tell coroutine functions from others."""


def methods(kind: type) -> Iterator[tuple[str, Any]]:
    for name in vars(kind):
        value = inspect.getattr_static(kind, name)
        if not name.startswith("_") and inspect.isfunction(value):
            yield name, value


CASES = [
    (adapter, name, method) for kind, adapter in ADAPTERS.items() for name, method in methods(kind)
]


@pytest.mark.parametrize(
    ("adapter", "name", "method"), CASES, ids=lambda value: getattr(value, "__qualname__", None)
)
def test_a_method_has_the_signature_of_the_synchronous_one(
    adapter: type, name: str, method: Any
) -> None:
    own = inspect.getattr_static(adapter, name)
    expected, found = inspect.signature(method), inspect.signature(own)
    if name in GENERIC:
        assert [str(each).split(":")[0] for each in found.parameters.values()] == [
            str(each).split(":")[0] for each in expected.parameters.values()
        ]
        return
    assert list(found.parameters.values()) == list(expected.parameters.values())
    old, new = AS_ITERATED.get(name, ("", ""))
    answer = str(expected.return_annotation)
    assert str(found.return_annotation) == (answer.replace(old, new) if old else answer)


@pytest.mark.parametrize(("adapter", "name"), [case[:2] for case in CASES], ids=str)
def test_a_method_is_awaitable(adapter: type, name: str) -> None:
    own = inspect.getattr_static(adapter, name)
    if name in AS_ITERATED:
        assert inspect.isasyncgenfunction(own)
    else:
        assert inspect.iscoroutinefunction(own) is (name not in AT_ONCE)


@pytest.mark.parametrize(("kind", "adapter"), ADAPTERS.items())
def test_an_adapter_has_no_method_of_its_own_but_to_make_and_close_it(
    kind: type, adapter: type
) -> None:
    known = {name for name, _ in methods(kind)}
    assert {name for name, _ in methods(adapter)} - known <= {"close", "check"}


def test_the_doctor_can_be_awaited_as_well() -> None:
    expected = inspect.signature(RedisMessageCoordinator.check)
    assert inspect.signature(AsyncMessageCoordinator.check) == expected
    assert inspect.iscoroutinefunction(AsyncMessageCoordinator.check)


@pytest.mark.parametrize("name", ["name", "config", "listeners", "state"])
def test_a_breaker_has_the_properties_of_the_synchronous_one(name: str) -> None:
    assert isinstance(inspect.getattr_static(AsyncCircuitBreaker, name), property)


@pytest.mark.parametrize(
    ("kind", "adapter"),
    [
        (RedisMessageCoordinator, AsyncMessageCoordinator),
        (RedisAgentRegistry, AsyncAgentRegistry),
        (CircuitBreaker, AsyncCircuitBreaker),
    ],
)
def test_from_url_takes_what_the_synchronous_one_takes(kind: Any, adapter: Any) -> None:
    expected = dict(inspect.signature(kind.from_url).parameters)
    found = dict(inspect.signature(adapter.from_url).parameters)
    assert found.pop("max_workers").kind is inspect.Parameter.KEYWORD_ONLY
    assert found == expected
