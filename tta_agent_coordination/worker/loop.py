"""The event loop of a worker, on which its asynchronous handlers run."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import threading
from collections.abc import Awaitable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar, cast

from tta_agent_coordination import threads
from tta_agent_coordination.errors import ConfigurationError

logger = logging.getLogger("tta_agent_coordination")

T = TypeVar("T")
Outcome = tuple[Any, BaseException | None]

_JOIN_TIMEOUT = 10.0


class WorkerLoop:
    """An event loop in a thread of its own, started when the first coroutine comes.

    Who hands it a coroutine waits for the outcome: no more run at once than there are handlers.
    """

    def __init__(self, name: str) -> None:
        """Prepare a loop for the worker of this name; no thread runs yet."""
        self._name = name
        self._lock = threading.Lock()
        self._running: _Loop | None = None
        self._stopped = False
        self._threads: list[threading.Thread] = []

    @property
    def is_here(self) -> bool:
        """Whether the calling thread is that of the loop."""
        running = self._running
        return running is not None and running.thread is threading.current_thread()

    @property
    def threads(self) -> list[threading.Thread]:
        """Its thread, also when it has stopped; none before the first coroutine."""
        return list(self._threads)

    def finish(self, answer: Awaitable[T] | T) -> T:
        """Return `answer`, or what comes of it on the loop if it is to be awaited.

        It sees the context variables of the caller.

        Raises:
            BaseException: What it raises; ``asyncio.CancelledError`` if it was cancelled.
        """
        if answer is None or type(answer) is dict or not inspect.isawaitable(answer):
            return cast("T", answer)
        try:
            with self._lock:
                outcome = self._started().begin(answer)
            value, error = outcome.result()
        finally:
            if inspect.iscoroutine(answer):
                answer.close()  # it may never have begun
        if error is not None:
            raise error
        return value

    def cancel(self, why: str) -> bool:
        """Cancel every coroutine that runs; whether there was one."""
        with self._lock:
            running = self._running
            return running is not None and running.cancel(why)

    def disown(self) -> None:
        """Let a coroutine that has forked take the loop no further, in the child."""
        running = self._running
        if running is not None and self.is_here:
            running.disown()

    def stop(self) -> bool:
        """End the loop with all that still runs on it; whether its thread has ended."""
        with self._lock:
            self._stopped = True
            running, self._running = self._running, None
            if running is not None:
                running.stop()
        return running is None or threads.join([running.thread], _JOIN_TIMEOUT)

    def _started(self) -> _Loop:
        if self._stopped:
            raise ConfigurationError("the worker has stopped, and its event loop with it")
        if self._running is None or not self._running.thread.is_alive():
            self._running = _Loop(self._name)
            self._threads = [self._running.thread]
        return self._running


class _Loop:
    """A loop that runs; once its thread has ended, every outcome is there."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._pid = os.getpid()
        self._under_way: dict[Future[Outcome], asyncio.Task[Outcome] | None] = {}
        self._ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self.thread = threads.spawn(f"loop-{name}", self._run)
        self._loop, self._stopped = self._ready.result()

    def begin(self, answer: Awaitable[Any]) -> Future[Outcome]:
        outcome: Future[Outcome] = Future()
        self._under_way[outcome] = None
        if not self._soon(self._begin, answer, outcome):
            self._settle(outcome, _gone())
        return outcome

    def cancel(self, why: str) -> bool:
        tasks = list(self._under_way.values())
        for task in tasks:
            if task is not None:
                self._soon(task.cancel, why)
        return bool(tasks)

    def stop(self) -> None:
        self._soon(self._stopped.set)

    def disown(self) -> None:
        # It shares what it waits on with the loop of the parent, which goes on.
        self._loop.stop()

    def _soon(self, act: Any, *arguments: object) -> bool:
        try:
            self._loop.call_soon_threadsafe(act, *arguments)
        except RuntimeError:  # a task ended it just now
            return False
        return True

    def _begin(self, answer: Awaitable[Any], outcome: Future[Outcome]) -> None:
        task = self._under_way[outcome] = self._loop.create_task(self._outcome(answer))
        task.add_done_callback(partial(self._ended, outcome))

    def _ended(self, outcome: Future[Outcome], task: asyncio.Task[Outcome]) -> None:
        try:
            self._settle(outcome, task.result())
        except asyncio.CancelledError as error:
            self._settle(outcome, (None, error))

    def _settle(self, outcome: Future[Outcome], came: Outcome) -> None:
        try:
            del self._under_way[outcome]
        except KeyError:  # settled from the other side of its end
            return
        outcome.set_result(came)

    def _run(self) -> None:
        try:
            self._run_loop()
        except BaseException:
            if self._inherited:
                return
            logger.exception(
                "a task on the event loop of a worker ended it",
                extra={"event": "worker_loop_ended"},
            )
        for outcome in list(self._under_way):
            self._settle(outcome, _gone())

    def _run_loop(self) -> None:
        runner = asyncio.Runner()
        try:
            runner.run(self._serve())
        finally:
            if not self._inherited:  # else it would take the parent's from what both wait on
                runner.close()  # which cancels what is left

    async def _serve(self) -> None:
        stopped = asyncio.Event()
        self._ready.set_result((asyncio.get_running_loop(), stopped))
        await stopped.wait()

    async def _outcome(self, answer: Awaitable[Any]) -> Outcome:
        # Of a task, SystemExit and KeyboardInterrupt would end the loop.
        came: Outcome
        try:
            came = await answer, None
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            came = None, error
        if self._inherited:
            raise SystemExit  # before others, which are the parent's, take a step here
        return came

    @property
    def _inherited(self) -> bool:
        return self._pid != os.getpid()


def _gone() -> Outcome:
    return None, asyncio.CancelledError("its event loop has ended")
