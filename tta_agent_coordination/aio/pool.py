"""The threads of one adapter, and the calls of event loops that use them."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import attrs

from tta_agent_coordination import checks, policy, threads
from tta_agent_coordination.errors import ConfigurationError

logger = logging.getLogger("tta_agent_coordination")

DEFAULT_MAX_WORKERS = 16
"""Threads of an adapter at most, each started when it is first needed."""
CLEAN_UP_PATIENCE = 1.0
"""Seconds for which a cancelled call is held up by what has to be undone; it goes on by itself."""

_CLOSE_PATIENCE = 2 * policy.DEFAULT_CALL_TIMEOUT

P = ParamSpec("P")
T = TypeVar("T")
Sleeper = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


@attrs.define(eq=False)
class _Threads:
    """What a process has of its own: a child has no thread of its parent."""

    executor: ThreadPoolExecutor
    calls: int = 0
    changed: threading.Condition = attrs.field(factory=threading.Condition)
    sleepers: set[Sleeper] = attrs.field(factory=set[Sleeper])


class Pool:
    """Runs short calls in threads of its own, and lets coroutines wait without one.

    Any number of event loops may use it, one after the other or at once in several threads.
    """

    def __init__(self, name: str, max_workers: int) -> None:
        """Prepare; no thread runs before the first call.

        Args:
            name: Of the threads, and for the errors of a closed pool.
            max_workers: How many threads at most.
        """
        checks.count("max_workers", max_workers, least=1)
        self._name = name
        self._closed = False
        self._process = threads.PerProcess(
            lambda: _Threads(ThreadPoolExecutor(max_workers, f"tta-aio-{name}"))
        )

    @property
    def closed(self) -> bool:
        """Whether new calls are refused."""
        return self._closed

    @property
    def sleeping(self) -> int:
        """How many coroutines wait here without a thread."""
        return len(self._process.get().sleepers)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `work` in a thread.

        A call that is cancelled before a thread took it is not made; one that was begun goes on
        to its end, and nobody learns what came of it.

        Raises:
            ConfigurationError: The adapter is closed.
        """
        with self.call():
            context = contextvars.copy_context()
            job = self._process.get().executor.submit(context.run, work, *args, **kwargs)
            try:
                await _end_of(job)
            except BaseException:
                job.cancel()
                raise
            return job.result()

    async def clean_up(self, work: Callable[[], object], why: BaseException | None) -> None:
        """End a call with what must be done in any case; wait until it is, but not for long.

        Args:
            work: Is called in a thread, also while the adapter closes, and whatever becomes of
                the caller. What it raises is logged.
            why: What ended the call. A coroutine that is thrown away cannot wait.
        """
        try:
            job = self._process.get().executor.submit(work)
        except RuntimeError:  # closed for good, and nobody waited for this call any more
            logger.warning(
                "a call of a closed %s adapter was not cleaned up after",
                self._name,
                extra={"event": "aio_call_left", "adapter": self._name},
            )
            return
        job.add_done_callback(_log_failure)
        if not isinstance(why, GeneratorExit):
            ended = _end_of(job)
            timer = ended.get_loop().call_later(CLEAN_UP_PATIENCE, _wake, ended)
            try:
                await ended
            finally:
                timer.cancel()

    async def sleep(
        self, until: float, *, descriptor: int | None = None, event: Future[Any] | None = None
    ) -> None:
        """Wait without a thread.

        Args:
            until: When to return at the latest, monotonic seconds.
            descriptor: Return when it can be read.
            event: Return when it is done.

        Raises:
            ConfigurationError: The adapter is closed meanwhile.
        """
        loop = asyncio.get_running_loop()
        woken = loop.create_future() if event is None else _end_of(event)
        with self._asleep((loop, woken)), contextlib.ExitStack() as undo:
            timer = loop.call_later(max(until - time.monotonic(), 0.0), _wake, woken)
            undo.callback(timer.cancel)
            if descriptor is not None:
                loop.add_reader(descriptor, _wake, woken)
                undo.callback(loop.remove_reader, descriptor)
            await woken
        self._check_open()

    @contextlib.contextmanager
    def call(self) -> Generator[None]:
        """Count as under way: `close` waits for it."""
        own = self._process.get()
        with own.changed:
            self._check_open()
            own.calls += 1
        try:
            yield
        finally:
            if self._process.get() is own:  # a child may find the parent's lock taken for ever
                with own.changed:
                    own.calls -= 1
                    own.changed.notify_all()

    async def close(self, last: Callable[[], None]) -> None:
        """End the calls that wait, let the short ones finish, and end the threads.

        Args:
            last: Called when no call is under way any more.
        """
        job: Future[None] = Future()

        def close() -> None:
            try:
                self.shut_down(last)
            except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
                job.set_exception(error)
            else:
                job.set_result(None)

        thread = threads.spawn(f"aio-{self._name}-close", close)
        await _end_of(job)
        thread.join()
        job.result()

    def shut_down(self, last: Callable[[], None] = lambda: None) -> None:
        """Do what `close` does, and hold the calling thread meanwhile."""
        own = self._process.get()
        with own.changed:
            self._closed = True
            for loop, woken in own.sleepers:
                _soon(loop, woken)
            if not own.changed.wait_for(lambda: own.calls == 0, _CLOSE_PATIENCE):
                logger.warning(
                    "%s is closed with %d calls under way", self._name, own.calls,
                    extra={"event": "aio_calls_left", "adapter": self._name, "count": own.calls},
                )  # fmt: skip
        last()
        own.executor.shutdown(wait=True)

    @contextlib.contextmanager
    def _asleep(self, sleeper: Sleeper) -> Generator[None]:
        own = self._process.get()
        with own.changed:
            self._check_open()
            own.sleepers.add(sleeper)
        try:
            yield
        finally:
            if self._process.get() is own:
                with own.changed:
                    own.sleepers.discard(sleeper)

    def _check_open(self) -> None:
        if self._closed:
            raise ConfigurationError(
                f"this {self._name} adapter for asyncio is closed: make a new one"
            )


def _log_failure(job: Future[Any]) -> None:
    error = job.exception()
    if error is not None:
        logger.error(
            "what ends a call failed", exc_info=error, extra={"event": "aio_clean_up_failed"}
        )


def _end_of(job: Future[Any]) -> asyncio.Future[None]:
    """Return what is done once `job` is; to cancel it leaves `job` alone."""
    loop = asyncio.get_running_loop()
    woken: asyncio.Future[None] = loop.create_future()
    job.add_done_callback(lambda _: _soon(loop, woken))
    return woken


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)


def _soon(loop: asyncio.AbstractEventLoop, woken: asyncio.Future[None]) -> None:
    """Wake a coroutine of another thread; one whose loop is closed does not wait any more."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(_wake, woken)
