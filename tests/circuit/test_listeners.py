"""Listeners as in pybreaker, and its storage interface."""

from datetime import UTC, datetime
from typing import Any

import pybreaker
import pytest

from tests.circuit.conftest import Later, Make
from tests.circuit.given import (
    CLOSED,
    HALF_OPEN,
    NAME,
    OPEN,
    PATIENCE,
    fail,
    fails,
    refused,
    succeed,
    succeeds,
    trip,
)
from tta_agent_coordination import CircuitBreakerConfig, CircuitBreakerState
from tta_agent_coordination.circuit.listeners import CircuitStorage

pytestmark = [pytest.mark.guarantee("5.4"), pytest.mark.backend("valkey", "fakeredis")]


class Diary(pybreaker.CircuitBreakerListener):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.lines: list[Any] = []
        self.breakers: list[pybreaker.CircuitBreaker] = []

    def before_call(
        self, cb: pybreaker.CircuitBreaker, func: Any, *args: Any, **kwargs: Any
    ) -> None:
        self.breakers.append(cb)
        self.lines.append(("before", func.__name__, args, kwargs))

    def success(self, _: pybreaker.CircuitBreaker) -> None:
        self.lines.append("success")

    def failure(self, _: pybreaker.CircuitBreaker, exc: BaseException) -> None:
        self.lines.append(("failure", exc))

    def state_change(self, _: pybreaker.CircuitBreaker, old_state: Any, new_state: Any) -> None:
        self.lines.append((type(old_state), type(new_state)))


class Changes(Diary):
    """Writes down only changes of state, by name."""

    def __getattribute__(self, name: str) -> Any:
        if name in {"before_call", "success", "failure"}:
            return lambda *_args, **_kwargs: None
        return super().__getattribute__(name)

    def state_change(self, _: pybreaker.CircuitBreaker, old_state: Any, new_state: Any) -> None:
        self.lines.append((old_state.name, new_state.name))


def test_they_are_told_of_calls_and_what_comes_of_them(make: Make) -> None:
    diary = Diary()
    breaker = make(CircuitBreakerConfig(2, excluded=KeyError), listeners=[diary])
    error = ValueError("wrong")

    def work(number: int, *, key: str) -> None:
        assert (number, key) == (1, "x")
        raise error

    succeeds(breaker)
    with pytest.raises(ValueError, match="wrong"):
        breaker.call(work, 1, key="x")
    with pytest.raises(KeyError), breaker:
        raise KeyError
    with pytest.raises(KeyboardInterrupt), breaker:
        raise KeyboardInterrupt
    fails(breaker)
    refused(breaker)

    assert diary.lines[:-2] == [
        ("before", "succeed", (), {}),
        "success",
        ("before", "work", (1,), {"key": "x"}),
        ("failure", error),
        ("before", "_block", (), {}),
        ("before", "_block", (), {}),
        ("before", "fail", (), {}),
    ]
    assert diary.lines[-2][0] == "failure"
    assert diary.lines[-1] == (pybreaker.CircuitClosedState, pybreaker.CircuitOpenState)


def test_they_are_told_of_each_change_once(make: Make, later: Later) -> None:
    changes = Changes()
    breaker = make(listeners=[changes])
    trip(breaker)
    later(60.0)
    fails(breaker)
    later(60.0)
    succeeds(breaker, 2)
    succeeds(breaker)
    assert changes.lines == [
        ("closed", "open"),
        ("open", "half-open"),
        ("half-open", "open"),
        ("open", "half-open"),
        ("half-open", "closed"),
    ]


def test_they_are_told_of_a_change_that_another_process_made(make: Make) -> None:
    changes = Changes()
    breaker, other = make(listeners=[changes]), make()
    succeeds(breaker)
    trip(other)
    assert changes.lines == []
    refused(breaker)
    other.reset()
    assert breaker.state is CLOSED
    trip(other)
    breaker.reset()
    assert changes.lines == [("closed", "open"), ("open", "closed")]


def test_what_was_so_before_the_first_look_is_no_change(make: Make) -> None:
    changes = Changes()
    trip(make())
    breaker = make(listeners=[changes])
    refused(breaker)
    assert changes.lines == []


def test_they_can_be_added_and_removed(make: Make) -> None:
    one, other = Diary(), Diary()
    breaker = make(listeners=[one])
    breaker.add_listener(other)
    assert breaker.listeners == (one, other)
    succeeds(breaker)
    breaker.remove_listener(one)
    succeeds(breaker)
    assert (len(one.lines), len(other.lines)) == (2, 4)
    with pytest.raises(ValueError, match="not in list"):
        breaker.remove_listener(one)
    with pytest.raises(TypeError, match="listener must be a CircuitBreakerListener"):
        breaker.add_listener(print)


def test_several_can_be_added_at_once(make: Make) -> None:
    one, other, third = Diary(), Diary(), Diary()
    breaker = make(listeners=[one])
    breaker.add_listeners(other, third)
    assert breaker.listeners == (one, other, third)

    # and if one of them is none, none is added
    with pytest.raises(TypeError, match="listener must be a CircuitBreakerListener"):
        breaker.add_listeners(Diary(), print)
    assert breaker.listeners == (one, other, third)


def test_one_that_raises_breaks_no_call(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(pybreaker.CircuitBreakerListener):
        def before_call(self, *_: Any, **__: Any) -> None:
            raise RuntimeError("before")

        def success(self, *_: Any) -> None:
            raise RuntimeError("success")

        def failure(self, *_: Any) -> None:
            raise RuntimeError("failure")

        def state_change(self, *_: Any) -> None:
            raise RuntimeError("change")

    diary = Diary()
    breaker = make(CircuitBreakerConfig(1), listeners=[Broken(), diary])
    succeeds(breaker)
    fails(breaker)
    assert breaker.state is OPEN
    assert len(diary.lines) == 5
    raised = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert raised == ["before", "success", "before", "failure", "change"]


def test_the_breaker_they_are_told_of_is_pybreakers(make: Make) -> None:
    diary = Diary()
    breaker = make(CircuitBreakerConfig(3, 30.0, success_threshold=4), listeners=[diary])
    fails(breaker, 2)
    [cb, *_] = diary.breakers
    assert (cb.name, cb.fail_max, cb.reset_timeout, cb.success_threshold) == (NAME, 3, 30.0, 4)
    assert (cb.current_state, cb.fail_counter) == ("closed", 2)
    fails(breaker)
    assert isinstance(cb.state, pybreaker.CircuitOpenState)
    # what a listener does with it, it does to the shared circuit
    cb.half_open()
    assert breaker.state is HALF_OPEN
    succeeds(breaker)
    assert cb.success_counter == 1
    cb.close()
    assert breaker.state is CLOSED
    cb.open()
    assert 29.0 < refused(breaker).retry_after <= 30.0


def test_its_storage_is_one_of_pybreakers(make: Make) -> None:
    breaker = make()
    storage: Any = CircuitStorage(NAME, breaker._parts.get().decisions)
    assert isinstance(storage, pybreaker.CircuitBreakerStorage)
    assert (storage.name, storage.state, storage.opened_at) == (NAME, "closed", None)
    trip(breaker)
    opened_at = storage.opened_at
    assert abs((datetime.now(UTC) - opened_at).total_seconds()) < PATIENCE
    # counting is left to the scripts
    storage.increment_counter()
    storage.reset_counter()
    storage.increment_success_counter()
    storage.reset_success_counter()
    storage.opened_at = datetime(2000, 1, 1, tzinfo=UTC)
    breaker.is_call_permitted()
    assert (storage.counter, storage.success_counter, storage.state) == (3, 0, "open")
    assert storage.opened_at == opened_at


def test_its_states_are_pybreakers() -> None:
    assert [state.value for state in CircuitBreakerState] == [
        pybreaker.STATE_CLOSED,
        pybreaker.STATE_OPEN,
        pybreaker.STATE_HALF_OPEN,
    ]


def test_a_breaker_of_pybreaker_itself_can_stand_on_the_storage(make: Make) -> None:
    """What opens one is seen by the other."""
    breaker = make()
    storage = CircuitStorage(NAME, breaker._parts.get().decisions)
    theirs = pybreaker.CircuitBreaker(state_storage=storage, fail_max=3)
    assert theirs.call(succeed) == "done"
    theirs.open()
    refused(breaker)
    breaker.reset()
    with pytest.raises(Exception, match="it is down"):
        theirs.call(fail)


def test_the_storage_shows_pybreaker_what_is_known_and_lets_it_count_nothing(
    make: Make, later: Later
) -> None:
    breaker = make()
    storage = CircuitStorage("any", breaker._parts.get().decisions)
    assert (storage.state, storage.counter, storage.opened_at) == ("closed", 0, None)
    fails(breaker, 2)
    assert (storage.state, storage.counter, storage.success_counter) == ("closed", 2, 0)
    trip_at = breaker.get_metrics()["opened_at"]
    assert trip_at is None
    fails(breaker)
    opened_at = breaker.get_metrics()["opened_at"]
    assert opened_at is not None
    assert storage.state == "open"
    assert storage.opened_at == datetime.fromtimestamp(opened_at, UTC)
    later(60.0)
    succeeds(breaker)
    assert (storage.state, storage.success_counter) == ("half-open", 1)


def test_of_a_new_breaker_no_call_is_counted(make: Make) -> None:
    metrics = make().get_metrics()
    counts = {name: metrics[name] for name in COUNTS}
    assert counts == dict.fromkeys(COUNTS, 0)


COUNTS = ("calls", "succeeded", "failed", "uncounted", "refused", "failures", "successes", "probes")
