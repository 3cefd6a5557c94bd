"""The tree of errors."""

import builtins
import copy
import inspect
import pickle

import pytest

import tta_agent_coordination
from tta_agent_coordination import errors
from tta_agent_coordination.errors import (
    CircuitBreakerOpenError,
    ConfigurationError,
    CoordinationError,
    CoordinatorAccessError,
    CoordinatorCircuitOpenError,
    CoordinatorUnavailableError,
    MessageDecodeError,
    MessageTooLargeError,
    RemoteAgentError,
    RequestTimeoutError,
)

pytestmark = pytest.mark.guarantee("2.13")

EVERY = [getattr(errors, name) for name in errors.__all__]


def test_every_error_is_listed() -> None:
    found = {name for name, thing in vars(errors).items() if inspect.isclass(thing)}
    assert found == set(errors.__all__)


@pytest.mark.parametrize("kind", EVERY)
def test_every_error_is_of_the_tree_and_has_a_name_of_its_own(kind: type[Exception]) -> None:
    assert issubclass(kind, CoordinationError)
    assert kind.__name__.endswith("Error")
    assert not hasattr(builtins, kind.__name__)
    assert kind.__doc__
    assert kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize("kind", EVERY)
def test_every_error_goes_from_process_to_process(kind: type[Exception]) -> None:
    error = kind("what happened")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is kind
        assert str(again) == "what happened"


@pytest.mark.parametrize(
    "error",
    [
        CircuitBreakerOpenError("open", retry_after=1.5),
        CoordinatorCircuitOpenError("open", retry_after=2.5),
        MessageDecodeError("bad", raw=b"\0"),
        RemoteAgentError("failed", error_type="KeyError", attempts=4, message="'lost'"),
        RequestTimeoutError("late", error_type="KeyError", attempts=2, last_error="KeyError: 1"),
    ],
)
def test_what_an_error_carries_goes_with_it(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert vars(again) == vars(error) != {}


@pytest.mark.parametrize("kind", [CircuitBreakerOpenError, CoordinatorCircuitOpenError])
def test_a_refusal_can_be_made_of_the_seconds_to_wait(kind: type[CircuitBreakerOpenError]) -> None:
    for error in (kind(1.5), kind(retry_after=1.5)):
        again = pickle.loads(pickle.dumps(error))
        assert again.retry_after == 1.5
        assert str(again) == "the circuit breaker is open; retry in 1.5 s"


def test_errors_can_be_caught_by_what_they_are() -> None:
    assert issubclass(MessageTooLargeError, ValueError)
    assert issubclass(errors.AgentNotFoundError, LookupError)
    assert issubclass(CoordinatorAccessError, (ConfigurationError, CoordinatorUnavailableError))
    assert issubclass(CoordinatorCircuitOpenError, CircuitBreakerOpenError)
    assert issubclass(CoordinatorCircuitOpenError, CoordinatorUnavailableError)


CONTRACT = {
    "AgentNotFoundError", "CircuitBreakerOpenError", "ConfigurationError", "CoordinationError",
    "CoordinatorUnavailableError", "MessageDecodeError", "MessageTooLargeError",
    "RemoteAgentError", "RequestTimeoutError",
}  # fmt: skip


def test_the_errors_of_the_contract_are_exported() -> None:
    assert set(tta_agent_coordination.__all__) >= CONTRACT


def test_every_exported_name_is_there_and_documented() -> None:
    for name in tta_agent_coordination.__all__:
        thing = getattr(tta_agent_coordination, name)
        assert name == "__version__" or inspect.getdoc(thing), name
