"""What passes through a breaker comes out unchanged, and what of it counts."""

import asyncio
import contextlib
import functools
import inspect
import threading
from abc import ABCMeta
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from tests.circuit.conftest import Later, Make
from tests.circuit.given import (
    CLOSED,
    HALF_OPEN,
    NAME,
    OPEN,
    PATIENCE,
    ServiceError,
    fail,
    fails,
    refused,
    succeed,
    succeeds,
    trip,
)
from tests.support.backends import Backend
from tests.support.servers import Client
from tta_agent_coordination import (
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitBreakerOpenError,
    ConfigurationError,
)
from tta_agent_coordination.circuit import Permit
from tta_agent_coordination.proxy import FaultProxy

pytestmark = [pytest.mark.guarantee("5.2"), pytest.mark.backend("valkey", "fakeredis")]

INTERRUPTIONS = (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError)


def through_call(breaker: CircuitBreaker, func: Callable[[], Any]) -> Any:
    return breaker.call(func)


def through_decorator(breaker: CircuitBreaker, func: Callable[[], Any]) -> Any:
    return breaker(func)()


def through_block(breaker: CircuitBreaker, func: Callable[[], Any]) -> Any:
    with breaker:
        return func()


WAYS = pytest.mark.parametrize("way", [through_call, through_decorator, through_block])
Way = Callable[[CircuitBreaker, Callable[[], Any]], Any]


def raiser(error: BaseException) -> Callable[[], None]:
    def raise_it() -> None:
        raise error

    return raise_it


@WAYS
def test_what_a_call_returns_comes_back(breaker: CircuitBreaker, way: Way) -> None:
    result = object()
    assert way(breaker, lambda: result) is result


@WAYS
def test_every_exception_comes_to_the_caller_unchanged_the_one_that_opens_it_too(
    breaker: CircuitBreaker, way: Way
) -> None:
    for state in (CLOSED, CLOSED, OPEN):
        error = ServiceError("down")
        with pytest.raises(ServiceError) as caught:
            way(breaker, raiser(error))
        assert caught.value is error
        assert (error.__cause__, error.__context__, error.args) == (None, None, ("down",))
        assert breaker.state is state
    refused(breaker)


@WAYS
@pytest.mark.parametrize("kind", INTERRUPTIONS)
def test_what_is_no_exception_passes_uncounted_and_ends_no_row(
    breaker: CircuitBreaker, later: Later, way: Way, kind: type[BaseException]
) -> None:
    # given a row of failures
    fails(breaker, 2)

    # when a call is interrupted
    interruption = kind()
    with pytest.raises(kind) as caught:
        way(breaker, raiser(interruption))

    # then nothing has changed
    assert caught.value is interruption
    assert breaker.get_metrics()["failures"] == 2
    fails(breaker)

    # and a probe gives its place back
    later(60.0)
    with pytest.raises(kind):
        way(breaker, raiser(kind()))
    assert breaker.state is HALF_OPEN
    metrics = breaker.get_metrics()
    assert (metrics["probes"], metrics["successes"], metrics["uncounted"]) == (0, 0, 2)


class Meta(ABCMeta):
    """A metaclass, for which pybreaker's own check of exclusions does not hold."""


class BadRequestError(Exception, metaclass=Meta):
    """Says nothing about the service."""


class WorseRequestError(BadRequestError):
    """A kind of it."""


@WAYS
@pytest.mark.parametrize(
    "excluded",
    [
        BadRequestError,
        (BadRequestError,),
        [ValueError, (KeyError, BadRequestError)],
        lambda error: "bad" in str(error),
        (ValueError, lambda error: "bad" in str(error)),
    ],
)
def test_an_excluded_exception_neither_counts_nor_ends_a_row(
    make: Make, later: Later, way: Way, excluded: Any
) -> None:
    breaker = make(CircuitBreakerConfig(3, excluded=excluded))
    fails(breaker, 2)
    for _ in range(3):
        with pytest.raises(WorseRequestError):
            way(breaker, raiser(WorseRequestError("bad")))
    metrics = breaker.get_metrics()
    assert (metrics["failures"], metrics["failed"], metrics["uncounted"]) == (2, 2, 3)
    fails(breaker)

    # and a probe gives its place back
    later(60.0)
    for _ in range(4):
        with pytest.raises(WorseRequestError):
            way(breaker, raiser(WorseRequestError("bad")))
    metrics = breaker.get_metrics()
    assert (metrics["state"], metrics["probes"], metrics["successes"]) == (HALF_OPEN, 0, 0)


def test_a_function_in_excluded_that_raises_excludes_nothing(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Exception) -> bool:
        raise RuntimeError("broken")

    breaker = make(CircuitBreakerConfig(1, excluded=broken))
    fails(breaker)
    assert breaker.state is OPEN
    assert "a function in excluded of a circuit breaker raised" in caplog.text


@pytest.mark.parametrize("excluded", ["ValueError", [1], int, b"x", None])
def test_nothing_else_can_be_excluded(excluded: Any) -> None:
    with pytest.raises(TypeError, match="excluded must be"):
        CircuitBreakerConfig(excluded=excluded)


def test_calls_run_at_the_same_time(make: Make) -> None:
    """Of pybreaker, 20 calls of 50 ms took a second: it holds its lock meanwhile (#3)."""
    breaker = make()
    everybody = threading.Barrier(20, timeout=PATIENCE)

    def call() -> None:
        breaker.call(everybody.wait)  # which ends when all twenty are in it

    threads = [threading.Thread(target=call, name=f"caller-{n}") for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not everybody.broken
    assert breaker.get_metrics()["succeeded"] == 20


def test_probes_run_at_the_same_time_too(make: Make, later: Later) -> None:
    breaker = make(CircuitBreakerConfig(3, half_open_max_calls=5, success_threshold=5))
    trip(breaker)
    later(60.0)
    everybody = threading.Barrier(5, timeout=PATIENCE)
    threads = [
        threading.Thread(target=lambda: breaker.call(everybody.wait), name=f"caller-{n}")
        for n in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert breaker.state is CLOSED


def test_a_call_gets_its_arguments(breaker: CircuitBreaker) -> None:
    assert breaker.call(dict, [("a", 1)], b=2) == {"a": 1, "b": 2}
    # also those that have names of ours
    assert breaker.call(lambda func, self: (func, self), func=1, self=2) == (1, 2)


def test_a_decorated_function_is_like_the_one_it_was(breaker: CircuitBreaker) -> None:
    class Client:
        @breaker
        def ask(self, text: str, *, times: int = 1) -> str:
            """Ask the service."""
            return text * times

    assert Client().ask("ha", times=2) == "haha"
    assert (Client.ask.__name__, Client.ask.__doc__) == ("ask", "Ask the service.")
    assert str(inspect.signature(Client.ask)) == "(self, text: str, *, times: int = 1) -> str"


def test_blocks_may_be_nested_and_in_many_threads(make: Make) -> None:
    one, other = make(CircuitBreakerConfig(100)), make(name="other")
    inside = threading.Barrier(4, timeout=PATIENCE)

    def work() -> None:
        with one as entered, other:
            assert entered is one
            inside.wait()
            with pytest.raises(ServiceError), one:
                fail()
            inside.wait()

    threads = [threading.Thread(target=work, name=f"worker-{n}") for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    metrics = one.get_metrics()
    assert (metrics["calls"], metrics["failed"], metrics["succeeded"]) == (8, 4, 4)
    assert other.get_metrics()["succeeded"] == 4


def test_blocks_of_two_breakers_may_be_left_in_any_order(make: Make) -> None:
    one, other = make(), make(name="other")
    with ExitStack() as first, ExitStack() as second:
        first.enter_context(one)
        second.enter_context(other)
        first.close()
        assert (one.get_metrics()["succeeded"], other.get_metrics()["succeeded"]) == (1, 0)
        second.close()
        assert (one.get_metrics()["succeeded"], other.get_metrics()["succeeded"]) == (1, 1)


def steps_in_threads(steps: Iterator[Any]) -> None:
    """Run each step of a generator in a thread of its own, as web frameworks do."""

    def step() -> None:
        going.append(next(steps, None) is not None)

    going = [True]
    while going[-1]:
        thread = threading.Thread(target=step, name="stepper")
        thread.start()
        thread.join()


def test_a_block_in_a_generator_may_be_left_in_another_thread_than_it_was_entered(
    breaker: CircuitBreaker,
) -> None:
    def streams() -> Iterator[int]:
        with breaker:
            yield 1
            yield 2

    # given one that is under way, and one here
    other = streams()
    assert next(other) == 1
    with breaker:
        # when the steps of a third come from many threads
        steps_in_threads(streams())
    # then each block counts once, and none is left
    list(other)
    metrics = breaker.get_metrics()
    assert (metrics["calls"], metrics["succeeded"]) == (3, 3)
    with pytest.raises(RuntimeError, match="left and not entered"):
        breaker.__exit__(None, None, None)


def test_an_error_in_a_generator_whose_steps_are_run_by_threads_is_a_failure(
    breaker: CircuitBreaker,
) -> None:
    def streams() -> Iterator[int]:
        with contextlib.suppress(ServiceError), breaker:
            yield 1
            fail()

    steps_in_threads(streams())
    assert breaker.get_metrics()["failed"] == 1


def test_a_decorator_may_be_written_as_a_call(breaker: CircuitBreaker) -> None:
    @breaker()
    def work(number: int) -> int:
        return number + 1

    assert work(1) == 2
    assert work.__name__ == "work"
    assert breaker.get_metrics()["succeeded"] == 1


def test_a_refused_block_is_not_entered(breaker: CircuitBreaker) -> None:
    trip(breaker)
    entered = False
    with (
        pytest.raises(CircuitBreakerOpenError, match="is open, and lets nothing through for 60"),
        breaker,
    ):
        entered = True
    assert not entered
    assert breaker.get_metrics()["refused"] == 1


async def coroutine() -> None:
    """Does nothing."""


async def async_generator() -> AsyncIterator[int]:
    yield 1


def generator() -> Iterator[int]:
    yield 1


class Asynchronous:
    async def __call__(self) -> None:
        """Does nothing."""


@pytest.mark.parametrize(
    ("func", "why"),
    [
        (coroutine, "is asynchronous: use tta_agent_coordination.aio.AsyncCircuitBreaker"),
        (async_generator, "generator function"),
        (functools.partial(coroutine), "is asynchronous"),
        (Asynchronous(), "is asynchronous"),
        (generator, "is a generator function"),
        ("text", "a function is needed, not 'text'"),
    ],
)
def test_what_only_begins_its_work_when_called_is_refused(
    breaker: CircuitBreaker, func: Any, why: str
) -> None:
    for use in (breaker, breaker.call):
        with pytest.raises(TypeError, match=why):
            use(func)
    assert breaker.get_metrics()["calls"] == 0


def test_the_two_halves_of_a_call_may_be_made_in_different_threads(
    breaker: CircuitBreaker, later: Later
) -> None:
    trip(breaker)
    later(60.0)
    permits: list[Permit] = []
    thread = threading.Thread(target=lambda: permits.append(breaker.admit()), name="admitter")
    thread.start()
    thread.join()
    assert permits[0].probe
    assert breaker.get_metrics()["probes"] == 1

    breaker.settle(permits[0])
    breaker.settle(permits[0])  # counts once
    breaker.settle(permits[0], ServiceError())

    metrics = breaker.get_metrics()
    assert (metrics["probes"], metrics["successes"], metrics["succeeded"]) == (0, 1, 1)
    assert breaker.state is HALF_OPEN


def test_the_metrics_count_the_calls_of_this_object(make: Make) -> None:
    breaker, other = make(), make()
    succeeds(breaker, 2)
    fails(breaker, 3)
    refused(breaker)
    refused(other)
    metrics = breaker.get_metrics()
    counts = ("calls", "succeeded", "failed", "uncounted", "refused")
    assert [metrics[name] for name in counts] == [5, 2, 3, 0, 1]
    assert [other.get_metrics()[name] for name in counts] == [0, 0, 0, 0, 1]
    assert metrics["name"] == NAME
    assert metrics["storage"] == "redis"
    assert metrics["storage_error"] is None
    assert 0.0 <= metrics["view_age"] < PATIENCE
    assert 59.0 < metrics["retry_after"] <= 60.0


def test_the_metrics_say_when_it_opened_by_the_servers_clock(
    breaker: CircuitBreaker, client: Client
) -> None:
    assert breaker.get_metrics()["opened_at"] is None
    trip(breaker)
    seconds, microseconds = client.time()
    opened_at = breaker.get_metrics()["opened_at"]
    assert opened_at is not None
    assert 0.0 <= seconds + microseconds / 1e6 - opened_at < PATIENCE
    breaker.reset()
    assert breaker.get_metrics()["opened_at"] is None


def test_a_breaker_that_was_closed_for_good_says_so(breaker: CircuitBreaker) -> None:
    permit = breaker.admit()
    breaker.close()
    breaker.close()
    breaker.settle(permit, ServiceError())  # no error of its own
    for use in (
        lambda: breaker.call(succeed),
        breaker.is_call_permitted,
        breaker.reset,
        breaker.get_metrics,
        lambda: breaker.state,
    ):
        with pytest.raises(ConfigurationError, match="was closed for good"):
            use()


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"name": "a\nb"}, ValueError, "name of a circuit breaker must be 1 to 128"),
        ({"name": ""}, ValueError, "name of a circuit breaker"),
        ({"name": "x" * 129}, ValueError, "name of a circuit breaker"),
        ({"name": 5}, TypeError, "name must be a str"),
        ({"config": {}}, TypeError, "config must be a CircuitBreakerConfig"),
        ({"key_prefix": "{"}, ValueError, "key_prefix"),
        ({"refresh": -1}, ValueError, "refresh"),
        ({"call_timeout": 0}, ValueError, "call_timeout must be more than 0"),
        ({"listeners": [1]}, TypeError, "listener must be a CircuitBreakerListener"),
        ({"redis": "redis://"}, TypeError, "redis must be"),
    ],
)
def test_wrong_arguments_are_refused(
    client: Client, given: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        CircuitBreaker(**{"redis": client, "name": NAME, **given})


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"failure_threshold": 0}, ValueError),
        ({"failure_threshold": 1.5}, TypeError),
        ({"timeout_seconds": -1}, ValueError),
        ({"timeout_seconds": float("nan")}, ValueError),
        ({"half_open_max_calls": 0}, ValueError),
        ({"success_threshold": 0}, ValueError),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(
    options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match=next(iter(options))):
        CircuitBreakerConfig(**options)


@pytest.mark.backend("valkey", "cluster")
def test_it_can_be_made_from_a_url(backend: Backend, key_prefix: str) -> None:
    breaker = CircuitBreaker.from_url(
        backend.url or "", NAME, CircuitBreakerConfig(1), key_prefix, call_timeout=5.0
    )
    fails(breaker)
    assert breaker.state is OPEN
    breaker.close()


def test_its_representation_shows_no_password(key_prefix: str) -> None:
    secret = redis.Redis.from_url("redis://user:secret@localhost:1/0")
    breaker = CircuitBreaker(secret, NAME, key_prefix=key_prefix)
    assert (
        repr(breaker) == f"<CircuitBreaker 'llm/eu' key='{key_prefix}:{{@circuit/llm/eu}}:circuit'>"
    )
    assert breaker.name == NAME
    breaker.close()


@pytest.mark.backend("valkey")
def test_closing_it_while_it_asks_is_no_outage_for_others(
    backend: Backend, proxy: FaultProxy, key_prefix: str
) -> None:
    # given two breakers of one circuit, one of which waits for Redis, twice
    client = backend.client_through(proxy)
    options: dict[str, Any] = {"refresh": 0.0, "call_timeout": 30.0}
    closed, other = (
        CircuitBreaker(client, NAME, key_prefix=key_prefix, **options) for _ in range(2)
    )
    permit = closed.admit()
    proxy.delay(0.2)
    two = [threading.Thread(target=closed.is_call_permitted, name=f"opener-{n}") for n in range(2)]
    for thread in two:
        thread.start()
    for thread in two:
        thread.join()
    assert proxy.connections == 2
    proxy.heal()
    raised: list[Exception] = []

    def admit() -> None:
        try:
            closed.admit()
        except ConfigurationError as error:
            raised.append(error)

    proxy.forget()
    proxy.delay(20.0)
    settler = threading.Thread(target=lambda: closed.settle(permit, ServiceError()), name="settler")
    threads = [threading.Thread(target=admit, name="admitter"), settler]
    for thread in threads:
        thread.start()
    proxy.wait_for("EVALSHA", count=2)

    # when it is closed
    closed.close()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    proxy.heal()

    # then it says so, and the other goes on with Redis
    assert "was closed for good" in str(raised[0])
    assert other.get_metrics()["storage"] == "redis"
    assert other._parts.get().decisions.known.error is None
    other.close()
