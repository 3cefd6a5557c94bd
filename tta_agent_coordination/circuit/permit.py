"""A call that was let through, and the thread that keeps its place while it runs."""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Callable, Sequence
from weakref import WeakValueDictionary

import attrs

from tta_agent_coordination import policy, threads
from tta_agent_coordination.errors import CoordinationError

logger = logging.getLogger("tta_agent_coordination")


def _new_token() -> str:
    return secrets.token_hex(8)


@attrs.define(eq=False)
class Permit:
    """Leave for one call; `CircuitBreaker.settle` takes it back.

    Attributes:
        token: Its name in Redis.
        period: Of the circuit in which it was given.
        probe: Whether the call takes one of the places of a half-open circuit.
        settled: Whether it was taken back.
        process: Id of the process that has it.
    """

    token: str = attrs.field(factory=_new_token)
    period: int = 0
    probe: bool = False
    settled: bool = False
    process: int = attrs.field(factory=os.getpid)

    @property
    def inherited(self) -> bool:
        """Whether this is a child of the process that has it: the call is the parent's."""
        return self.process != os.getpid()


class Places:
    """Renews the places of probes that run for long, in a thread that runs only while they do.

    A permit that nobody holds any more, because its call was interrupted before it began, is not
    renewed either.
    """

    def __init__(self, renew: Callable[[Sequence[str]], object]) -> None:
        """Prepare; `renew` is given the tokens."""
        self._renew = renew
        self._held: WeakValueDictionary[str, Permit] = WeakValueDictionary()
        self._idle = threading.Event()
        self._idle.set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def hold(self, permit: Permit) -> None:
        """Keep the place of a permit from now on."""
        with self._lock:
            self._held[permit.token] = permit
            if self._idle.is_set():
                self._idle = idle = threading.Event()
                self._threads = [thread for thread in self._threads if thread.is_alive()]
                self._threads.append(threads.spawn("circuit-probes", lambda: self._run(idle)))

    def let_go(self, permit: Permit) -> None:
        """Keep it no longer; the last one ends the thread, which is not waited for."""
        with self._lock:
            self._held.pop(permit.token, None)
            if not self._held:
                self._idle.set()

    def close(self, timeout: float) -> None:
        """End the thread and wait for it."""
        with self._lock:
            self._idle.set()
            ending = list(self._threads)
        threads.join(ending, timeout)

    def _run(self, idle: threading.Event) -> None:
        while not idle.wait(policy.PROBE_LEASE / policy.RENEWALS_A_LEASE):
            with self._lock:
                tokens = list(self._held)
                if not tokens:
                    idle.set()
                    return
            try:
                self._renew(tokens)
            except CoordinationError as error:  # Redis is away, and the log says so already
                logger.debug(
                    "the places of probes could not be renewed: %s",
                    error,
                    extra={"event": "probes_not_renewed"},
                )
