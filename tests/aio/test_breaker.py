"""6.5: a circuit breaker for calls of asyncio programs."""

import asyncio
import functools
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pybreaker
import pytest

from tests.aio.given import LONG, PATIENCE, busy, run, under_way, until
from tests.support.backends import Backend
from tests.support.marks import ONE_BACKEND
from tta_agent_coordination import (
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitBreakerOpenError,
    CircuitBreakerState,
    ConfigurationError,
)
from tta_agent_coordination.aio import AsyncCircuitBreaker, pool

ALL = pytest.mark.backend("fakeredis", "valkey", "cluster")

pytestmark = pytest.mark.guarantee("6.5")

CONFIG = CircuitBreakerConfig(failure_threshold=2, timeout_seconds=60.0, excluded=(KeyError,))
Make = Callable[..., CircuitBreaker]


@pytest.fixture
def make(backend: Backend, key_prefix: str, closing: ExitStack) -> Make:
    """Make breakers of one name, each like a process of its own."""

    def make(config: CircuitBreakerConfig = CONFIG, **options: Any) -> CircuitBreaker:
        breaker = CircuitBreaker(backend.client(), "llm", config, key_prefix, **options)
        closing.callback(breaker.close)
        return breaker

    return make


async def answer(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def fail(error: BaseException) -> int:
    await asyncio.sleep(0)
    raise error


def guarded(breaker: CircuitBreaker, test: Callable[[AsyncCircuitBreaker], Any]) -> None:
    """Run a test with an adapter, which is closed behind it."""

    async def main() -> None:
        adapter = AsyncCircuitBreaker(breaker, max_workers=4)
        try:
            await test(adapter)
        finally:
            await adapter.close()

    run(main())


@ALL
def test_calls_are_let_through_until_too_many_fail(make: Make) -> None:
    async def test(adapter: AsyncCircuitBreaker) -> None:
        assert await adapter.call(answer, 1) == 1
        for _ in range(2):
            with pytest.raises(ValueError, match="no"):
                await adapter.call(fail, ValueError("no"))
        with pytest.raises(CircuitBreakerOpenError) as refused:
            await adapter.call(answer, 2)
        assert refused.value.retry_after > 0
        assert await adapter.state is CircuitBreakerState.OPEN
        assert not await adapter.is_call_permitted()
        # and the others that use its name know
        assert other.state is CircuitBreakerState.OPEN
        metrics = await adapter.get_metrics()
        assert (metrics["succeeded"], metrics["failed"], metrics["refused"]) == (1, 2, 1)
        await adapter.reset()
        assert await adapter.is_call_permitted()
        assert await adapter.call(answer, 3) == 3

    other = make()
    guarded(make(), test)


@ALL
def test_ordinary_functions_run_in_threads(make: Make) -> None:
    def where(mark: str, *, end: str) -> tuple[str, str]:
        return threading.current_thread().name, mark + end

    async def test(adapter: AsyncCircuitBreaker) -> None:
        name, text = await adapter.call(where, "a", end="z")
        assert name.startswith("tta-aio-guarded")
        assert text == "az"
        # also one that returns what is to be awaited
        assert await adapter.call(lambda: answer(7)) == 7
        assert await adapter.call(functools.partial(answer, 8)) == 8
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await adapter.call(lambda: 1 / 0)
        with pytest.raises(CircuitBreakerOpenError):
            await adapter.call(where, "b", end="")

    guarded(make(), test)


@ALL
def test_it_decorates_functions_of_both_kinds(make: Make) -> None:
    async def test(adapter: AsyncCircuitBreaker) -> None:
        @adapter
        async def double(value: int) -> int:
            """Say twice as much."""
            return 2 * value

        @adapter
        def halve(value: int) -> int:
            if value % 2:
                raise ValueError("odd")
            return value // 2

        assert (double.__name__, double.__doc__) == ("double", "Say twice as much.")
        assert await double(2) == 4
        assert await halve(4) == 2
        for _ in range(2):
            with pytest.raises(ValueError, match="odd"):
                await halve(1)
        with pytest.raises(CircuitBreakerOpenError):
            await double(2)

    guarded(make(), test)


@ALL
def test_blocks_are_guarded_in_any_number_of_tasks(make: Make) -> None:
    async def test(adapter: AsyncCircuitBreaker) -> None:
        async def block(number: int) -> None:
            async with adapter as same, adapter:
                assert same is adapter
                await asyncio.sleep(0.001 * number)

        await asyncio.gather(*(block(number) for number in range(10)))
        assert (await adapter.get_metrics())["succeeded"] == 20

        async def failing() -> None:
            async with adapter:
                raise LookupError

        for _ in range(2):
            with pytest.raises(LookupError):
                await failing()
        with pytest.raises(CircuitBreakerOpenError):
            await failing()

    guarded(make(), test)


@ONE_BACKEND
def test_a_block_may_be_left_in_another_task_than_it_was_entered(make: Make) -> None:
    async def test(adapter: AsyncCircuitBreaker) -> None:
        await asyncio.create_task(adapter.__aenter__())
        await adapter.__aexit__(None, None, None)
        assert (await adapter.get_metrics())["succeeded"] == 1
        with pytest.raises(RuntimeError, match="left and not entered"):
            await adapter.__aexit__(None, None, None)

    guarded(make(), test)


@ONE_BACKEND
def test_a_decorator_may_be_written_as_a_call(make: Make) -> None:
    async def test(adapter: AsyncCircuitBreaker) -> None:
        @adapter()
        async def work(number: int) -> int:
            return number + 1

        assert await work(1) == 2
        assert (await adapter.get_metrics())["succeeded"] == 1

    guarded(make(), test)


@ALL
def test_what_is_cancelled_or_excluded_is_not_counted(make: Make) -> None:
    begun, end = threading.Event(), threading.Event()

    async def sleep() -> None:
        begun.set()
        await asyncio.sleep(LONG)

    def wait() -> bool:
        begun.set()
        return end.wait(PATIENCE)

    async def test(adapter: AsyncCircuitBreaker) -> None:
        for func in (sleep, wait):
            begun.clear()
            task = asyncio.create_task(adapter.call(func))
            await until(begun.is_set, "it was not let through")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        end.set()
        with pytest.raises(KeyError):
            await adapter.call(fail, KeyError("mine"))
        with pytest.raises(TimeoutError):  # that of a call itself is a failure
            await adapter.call(asyncio.wait_for, asyncio.sleep(LONG), 0.01)
        metrics = await adapter.get_metrics()
        assert (metrics["uncounted"], metrics["failed"]) == (3, 1)

    guarded(make(), test)


@ALL
def test_admit_and_settle_are_two_steps(make: Make) -> None:
    async def test(adapter: AsyncCircuitBreaker) -> None:
        for _ in range(2):
            permit = await adapter.admit()
            await adapter.settle(permit, OSError("away"))
        with pytest.raises(CircuitBreakerOpenError):
            await adapter.admit(answer, 1)

    guarded(make(), test)


@ONE_BACKEND
def test_one_who_is_cancelled_while_it_is_admitted_gives_its_place_back(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a half-open circuit with one place
    breaker = make(
        CircuitBreakerConfig(failure_threshold=1, timeout_seconds=0.05, half_open_max_calls=1),
        refresh=0.0,
    )
    asked, go_on = threading.Event(), threading.Event()
    admit = breaker.admit

    def slow(*args: Any, **kwargs: Any) -> Any:
        permit = admit(*args, **kwargs)
        asked.set()
        assert go_on.wait(PATIENCE)
        return permit

    async def test(adapter: AsyncCircuitBreaker) -> None:
        with pytest.raises(OSError, match="away"):
            await adapter.call(fail, OSError("away"))
        await until(lambda: breaker.state is CircuitBreakerState.HALF_OPEN)
        monkeypatch.setattr(breaker, "admit", slow)
        task = asyncio.create_task(adapter.call(answer, 1))
        await until(asked.is_set)
        task.cancel()
        await under_way(adapter._pool, 1)  # it asks no more, and waits for what is to be undone
        assert not await adapter.is_call_permitted()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        # then another gets it
        monkeypatch.undo()
        assert await adapter.call(answer, 2) == 2

    guarded(breaker, test)


@ONE_BACKEND
def test_one_cancelled_before_it_is_admitted_has_no_place(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CLEAN_UP_PATIENCE", 0.05)
    breaker = make()

    async def main() -> None:
        adapter = AsyncCircuitBreaker(breaker, max_workers=1)
        async with busy(adapter._pool):
            task = asyncio.create_task(adapter.call(answer, 1))
            await under_way(adapter._pool, 3)  # what holds the thread, the call, and its question
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert (await adapter.get_metrics())["calls"] == 0
        await adapter.close()

    run(main())


@pytest.mark.backend("fakeredis")
def test_what_only_begins_its_work_is_refused(make: Make) -> None:
    def generator() -> Iterator[int]:
        yield 1

    async def stream() -> AsyncIterator[int]:
        yield 1

    async def test(adapter: AsyncCircuitBreaker) -> None:
        for func in (generator, stream, "not a function"):
            with pytest.raises(TypeError):
                await adapter.call(func)
            with pytest.raises(TypeError):
                adapter(func)

    guarded(make(), test)


@pytest.mark.backend("fakeredis")
def test_it_shows_what_it_is_made_around(make: Make) -> None:
    class Listener(pybreaker.CircuitBreakerListener):
        def success(self, _: object) -> None:
            heard.append(threading.current_thread().name)

    heard: list[str] = []
    breaker, listener = make(), Listener()

    async def test(adapter: AsyncCircuitBreaker) -> None:
        assert (adapter.breaker, adapter.name, adapter.config) == (breaker, "llm", CONFIG)
        assert repr(breaker) in repr(adapter)
        adapter.add_listener(listener)
        assert adapter.listeners == (listener,)
        await adapter.call(answer, 1)
        adapter.remove_listener(listener)
        assert adapter.listeners == ()
        adapter.add_listeners(listener, listener)
        assert adapter.listeners == (listener, listener)

    guarded(breaker, test)
    assert all(name.startswith("tta-aio-breaker") for name in heard)
    assert len(heard) == 1
    with pytest.raises(TypeError, match="CircuitBreaker"):
        AsyncCircuitBreaker(heard)


@ONE_BACKEND
def test_closing_waits_for_guarded_calls_and_counts_them(make: Make) -> None:
    breaker = make()

    async def main() -> None:
        adapter = AsyncCircuitBreaker(breaker)
        calls = [
            asyncio.create_task(adapter.call(asyncio.sleep, 0.2, "slept")),
            asyncio.create_task(adapter.call(time.sleep, 0.2)),
        ]
        await until(lambda: breaker.get_metrics()["calls"] == 2)
        await adapter.close()
        await adapter.close()
        assert await asyncio.gather(*calls) == ["slept", None]
        with pytest.raises(ConfigurationError, match="closed"):
            await adapter.call(answer, 1)

    run(main())
    assert breaker.get_metrics()["succeeded"] == 2
    assert breaker.is_call_permitted()


@ONE_BACKEND
def test_what_from_url_makes_is_closed_with_it(backend: Backend, key_prefix: str) -> None:
    async def main() -> None:
        adapter = AsyncCircuitBreaker.from_url(
            backend.url, "api", CONFIG, key_prefix, refresh=0.0, call_timeout=1.0
        )
        assert await adapter.call(answer, 1) == 1
        assert await adapter.call(len, "abc") == 3
        await adapter.close()
        with pytest.raises(ConfigurationError, match="closed"):
            adapter.breaker.get_metrics()

    run(main())
