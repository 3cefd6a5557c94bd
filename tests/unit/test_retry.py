"""`retry`: what is tried again, how often, after which pauses, and what comes out in the end."""

import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

import backoff
import fakeredis
import pytest

from tests.support.waiting import eventually
from tta_agent_coordination import (
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitBreakerOpenError,
    ConfigurationError,
    CoordinatorUnavailableError,
    FailedAttempt,
    Retry,
    policy,
    retry,
)
from tta_agent_coordination.errors import CoordinatorAccessError, CoordinatorCircuitOpenError
from tta_agent_coordination.retrying import is_transient
from tta_agent_coordination.transport import gate
from tta_agent_coordination.waits import pauses


class Clock:
    """Time that passes only while somebody sleeps, or when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", lambda: clock.now)
    monkeypatch.setattr("time.sleep", clock.sleep)
    monkeypatch.setattr(backoff, "full_jitter", lambda bound: bound)
    return clock


class Service:
    """Raises what it is told, one at each call, and then returns."""

    def __init__(self, *errors: BaseException, takes: float = 0.0, clock: Any = None) -> None:
        self.errors = list(errors)
        self.calls = 0
        self._takes, self._clock = takes, clock

    def __call__(self, result: str = "done") -> str:
        self.calls += 1
        if self._clock is not None:
            self._clock.now += self._takes
        if self.errors:
            raise self.errors.pop(0)
        return result


def lost(times: int) -> list[ConnectionError]:
    return [ConnectionError(f"lost {n}") for n in range(1, times + 1)]


# What is tried again ----------------------------------------------------------------------------


@pytest.mark.usefixtures("clock")
def test_what_passes_is_tried_again_until_it_succeeds() -> None:
    service = Service(*lost(3))
    assert retry().call(service, result="here") == "here"
    assert service.calls == 4


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (CoordinatorUnavailableError(), True),
        (CoordinatorCircuitOpenError("open"), True),
        (CoordinatorAccessError("wrong password"), False),
        (CircuitBreakerOpenError("open"), False),
        (ValueError(), False),
        (FileNotFoundError(), False),
    ],
)
@pytest.mark.usefixtures("clock")
def test_by_default_only_what_says_that_it_passes_is_tried_again(
    error: Exception, passes: bool
) -> None:
    assert is_transient(error) is passes
    service = Service(error)
    if passes:
        assert retry().call(service) == "done"
    else:
        with pytest.raises(type(error)) as caught:
            retry().call(service)
        assert caught.value is error
        assert service.calls == 1


@pytest.mark.parametrize(
    "on", [ValueError, (KeyError, ValueError), [ValueError], lambda error: "again" in str(error)]
)
@pytest.mark.usefixtures("clock")
def test_the_user_may_say_what_is_tried_again(on: Any) -> None:
    service = Service(ValueError("again"), ConnectionError("lost"))
    with pytest.raises(ConnectionError):
        retry(on=on).call(service)
    assert service.calls == 2


@pytest.mark.parametrize("on", [Exception, lambda _: True])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.usefixtures("clock")
def test_what_is_no_exception_passes_at_once(kind: type[BaseException], on: Any) -> None:
    interruption = kind()
    service = Service(interruption)
    with pytest.raises(kind) as caught:
        retry(on=on).call(service)
    assert caught.value is interruption
    assert service.calls == 1
    assert not hasattr(interruption, "__notes__")


# How often, and when ----------------------------------------------------------------------------


def test_pauses_double_up_to_the_longest(clock: Clock) -> None:
    with pytest.raises(ConnectionError):
        retry(attempts=7, first_wait=0.5, longest_wait=4.0).call(Service(*lost(9)))
    assert clock.slept == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]


def test_pauses_have_full_jitter() -> None:
    drawn = [next(pauses(10.0, 10.0)) for _ in range(200)]
    assert 0.0 <= min(drawn) < 2.0
    assert 8.0 < max(drawn) <= 10.0
    assert len(set(drawn)) > 100


def test_the_gate_to_redis_waits_in_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "full_jitter", lambda bound: bound)
    waits = gate._pauses()
    first = [round(next(waits), 6) for _ in range(7)]
    assert first == [0.02, 0.04, 0.08, 0.16, 0.32, policy.RETRY_LONGEST_WAIT, 0.5]


def test_it_ends_with_the_attempts(clock: Clock) -> None:
    service = Service(*lost(9))
    with pytest.raises(ConnectionError, match="lost 3"):
        retry(attempts=3).call(service)
    assert (service.calls, clock.slept) == (3, [0.1, 0.2])


def test_one_attempt_is_no_retry(clock: Clock) -> None:
    with pytest.raises(ConnectionError) as caught:
        retry(attempts=1).call(Service(*lost(1)))
    assert clock.slept == []
    assert not hasattr(caught.value, "__notes__")


def test_no_attempt_begins_after_the_deadline(clock: Clock) -> None:
    service = Service(*lost(99), takes=1.0, clock=clock)
    with pytest.raises(ConnectionError):
        retry(attempts=None, deadline=4.0, first_wait=0.5).call(service)
    # at 0, 1.5 and 3.5; the pause before a fourth would end past the deadline: it is not waited
    assert (service.calls, clock.slept) == (3, [0.5, 1.0])


def test_an_attempt_that_would_begin_at_the_deadline_is_not_made(clock: Clock) -> None:
    service = Service(*lost(9), takes=1.0, clock=clock)
    with pytest.raises(ConnectionError):
        retry(deadline=1.5, first_wait=0.5).call(service)
    assert (service.calls, clock.slept) == (1, [])


def test_each_call_has_its_own_deadline_and_pauses(clock: Clock) -> None:
    policy = retry(attempts=2, deadline=5.0)
    for _ in range(3):
        clock.now += 100.0
        assert policy.call(Service(*lost(1))) == "done"
    assert clock.slept == [0.1] * 3


def test_without_a_deadline_only_the_attempts_count(clock: Clock) -> None:
    service = Service(*lost(3), takes=10_000.0, clock=clock)
    assert retry(deadline=None).call(service) == "done"


def test_the_defaults_are_bounded(clock: Clock) -> None:
    service = Service(*lost(99))
    with pytest.raises(ConnectionError):
        retry().call(service)
    assert (service.calls, clock.slept) == (5, [0.1, 0.2, 0.4, 0.8])
    slow = Service(*lost(99), takes=15.0, clock=clock)
    with pytest.raises(ConnectionError):
        retry().call(slow)
    assert slow.calls == 2


# Stopping ---------------------------------------------------------------------------------------


def test_a_pause_ends_when_it_is_told_to_stop() -> None:
    stop = threading.Event()
    service = Service(*lost(2))
    raised: list[Exception] = []

    def work() -> None:
        try:
            retry(first_wait=3600.0, longest_wait=3600.0, deadline=None, stop=stop).call(service)
        except ConnectionError as error:
            raised.append(error)

    thread = threading.Thread(target=work, name="worker")
    thread.start()
    eventually(lambda: service.calls)
    stop.set()
    thread.join(5.0)
    assert [str(error) for error in raised] == ["lost 1"]
    assert service.calls == 1


def test_the_first_attempt_is_made_though_it_was_told_to_stop_before() -> None:
    stop = threading.Event()
    stop.set()
    assert retry(stop=stop).call(Service()) == "done"
    service = Service(*lost(2))
    with pytest.raises(ConnectionError, match="lost 1"):
        retry(stop=stop, attempts=None, deadline=None).call(service)
    assert service.calls == 1


def test_it_goes_on_while_it_is_not_told_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "full_jitter", lambda _bound: 0.001)
    assert retry(stop=threading.Event()).call(Service(*lost(3))) == "done"


# What comes out ---------------------------------------------------------------------------------


def test_the_last_error_comes_out_unchanged_with_a_note(clock: Clock) -> None:
    errors = lost(3)
    last = errors[-1]
    with pytest.raises(ConnectionError) as caught:
        retry(attempts=3).call(Service(*errors, takes=1.0, clock=clock))
    assert caught.value is last
    assert last.__notes__ == ["given up after 3 attempts in 3.3 s"]
    assert last.__context__ is None


@pytest.mark.usefixtures("clock")
def test_an_error_that_is_not_tried_again_has_a_note_if_others_were() -> None:
    last = ValueError("wrong")
    with pytest.raises(ValueError, match="wrong"):
        retry().call(Service(ConnectionError(), last))
    assert last.__notes__ == ["given up after 2 attempts in 0.1 s"]


def test_a_hook_is_told_before_each_pause(clock: Clock) -> None:
    told: list[FailedAttempt] = []
    errors = lost(9)
    with pytest.raises(ConnectionError):
        retry(attempts=3, on_retry=told.append).call(Service(*errors, takes=1.0, clock=clock))
    assert told == [
        FailedAttempt(1, errors[0], wait=0.1, elapsed=1.0),
        FailedAttempt(2, errors[1], wait=0.2, elapsed=pytest.approx(2.1)),
    ]


@pytest.mark.usefixtures("clock")
def test_a_hook_that_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: FailedAttempt) -> None:
        raise RuntimeError("broken")

    assert retry(on_retry=broken).call(Service(*lost(1))) == "done"
    assert "a hook for retries raised" in caplog.text


# Use --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("clock")
def test_it_is_a_decorator_with_options_or_without() -> None:
    plain, chosen = Service(*lost(1)), Service(ValueError())

    @retry
    def one(result: str) -> str:
        """Ask."""
        return plain(result)

    @retry(on=ValueError)
    def two(func: str, *, self: str) -> str:
        return chosen(func + self)

    assert (one("a"), two(func="b", self="c")) == ("a", "bc")
    assert (one.__name__, one.__doc__) == ("one", "Ask.")
    assert str(inspect.signature(one)) == "(result: str) -> str"
    assert isinstance(retry(), Retry)


async def coroutine() -> None:
    """Does nothing."""


def generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize("func", [coroutine, functools.partial(coroutine), generator, 5])
def test_what_only_begins_its_work_when_called_is_refused(func: Any) -> None:
    for use in (retry, retry(), retry().call):
        with pytest.raises(TypeError):
            use(func)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"on": KeyboardInterrupt}, TypeError, "on must be subclasses of Exception"),
        ({"on": "ValueError"}, TypeError, "not 'ValueError'"),
        ({"on": (ValueError, 5)}, TypeError, "not 5"),
        ({"on": 5}, TypeError, "on must be"),
        ({"attempts": 0}, ValueError, "attempts must be at least 1"),
        ({"attempts": 1.5}, TypeError, "attempts"),
        ({"deadline": 0}, ValueError, "deadline must be more than 0"),
        ({"deadline": float("inf")}, ValueError, "deadline"),
        ({"first_wait": 0}, ValueError, "first_wait must be more than 0"),
        ({"first_wait": -1}, ValueError, "first_wait"),
        ({"longest_wait": "1"}, TypeError, "longest_wait"),
        ({"first_wait": 2, "longest_wait": 1}, ConfigurationError, r"\(1 s\).*first_wait \(2 s\)"),
        ({"attempts": None, "deadline": None}, ConfigurationError, "nothing would end it"),
    ],
)
def test_wrong_options_are_refused(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        retry(**options)


# With a circuit breaker -------------------------------------------------------------------------


@pytest.fixture
def breaker() -> Iterator[CircuitBreaker]:
    breaker = CircuitBreaker(
        fakeredis.FakeRedis(), "service", CircuitBreakerConfig(3), call_timeout=5.0
    )
    yield breaker
    breaker.close()


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "full_jitter", lambda _bound: 0.0)


@pytest.mark.usefixtures("no_pauses")
def test_around_a_breaker_each_attempt_counts_and_an_open_one_ends_it(
    breaker: CircuitBreaker,
) -> None:
    service = Service(*lost(99))
    guarded: Callable[[], str] = retry(breaker(service.__call__))
    with pytest.raises(CircuitBreakerOpenError) as caught:
        guarded()
    assert service.calls == 3
    assert caught.value.__notes__[0].startswith("given up after 4 attempts")


@pytest.mark.usefixtures("no_pauses")
def test_inside_a_breaker_all_attempts_together_count_as_one_failure(
    breaker: CircuitBreaker,
) -> None:
    service = Service(*lost(99))
    guarded = breaker(retry(service.__call__))
    for _ in range(3):
        with pytest.raises(ConnectionError):
            guarded()
    with pytest.raises(CircuitBreakerOpenError):
        guarded()
    assert service.calls == 15


def test_it_can_wait_until_an_open_breaker_may_let_it_through(clock: Clock) -> None:
    service = Service(CircuitBreakerOpenError("open", retry_after=7.0))
    assert retry(on=CircuitBreakerOpenError).call(service) == "done"
    assert clock.slept == [7.1]


def test_it_does_not_wait_for_a_breaker_that_stays_open_past_the_deadline(clock: Clock) -> None:
    service = Service(CircuitBreakerOpenError("open", retry_after=30.0))
    with pytest.raises(CircuitBreakerOpenError):
        retry(on=Exception).call(service)
    assert (service.calls, clock.slept) == (1, [])
