"""A receive in steps, none of which waits: for callers that have no thread to spare."""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import AbstractContextManager

import attrs

from tta_agent_coordination import forks, policy
from tta_agent_coordination.coordinator.calls import Calls, milliseconds, new_call_id, wait_times
from tta_agent_coordination.coordinator.inbox import Inbox
from tta_agent_coordination.delivery import ReceivedMessage
from tta_agent_coordination.errors import CoordinationError
from tta_agent_coordination.events import held
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.transport.blocked import Blocked
from tta_agent_coordination.transport.gate import Command

logger = logging.getLogger("tta_agent_coordination")

_LOOK_INTERVAL = 0.005
"""Seconds between two looks, at least, where nothing tells that there is an answer."""
_LOOK_SHARE = 0.0005
"""Seconds for each who looks: with hundreds, a look must leave time for other work."""


@attrs.define
class _Wait:
    """A blocking command under way.

    Attributes:
        command: What began it, and is left to end it.
        blocked: Says whether it is answered.
        descriptor: Can be read once it is.
        overdue: When it should have been answered, monotonic seconds.
        end: When the server answers at the latest, monotonic seconds.
        alarm: When to nudge the server, monotonic seconds; None: not before the end.
    """

    command: AbstractContextManager[Blocked]
    blocked: Blocked
    descriptor: int | None
    overdue: float
    end: float
    alarm: float | None


class Receiving:
    """One call of ``receive_many``, made in steps, each of them short.

    Whoever drives it calls `step`, waits until `descriptor` can be read or until `again_at`, and
    calls `step` again until it returns messages. From any thread, but one after the other;
    `abandon` can be called at any time.

    Attributes:
        descriptor: What to wait for; None: for nothing but the time.
        again_at: When to call `step` at the latest, monotonic seconds.
    """

    def __init__(
        self,
        calls: Calls,
        inbox: Inbox,
        agent_id: AgentId,
        *,
        most: int,
        visibility: float,
        wait: float,
    ) -> None:
        """Receive up to `most` messages of an inbox; nothing is sent yet."""
        self.descriptor: int | None = None
        self.again_at = 0.0
        self._gate = calls.link.commands
        self._in_memory = inbox.waits_to_the_end
        self._inbox = inbox
        self._agent_id = agent_id
        self._most = most
        self._visibility = visibility
        self._end = time.monotonic() + wait
        self._wake = calls.keys.inbox(agent_id)["wake"]
        self._interrupt = calls.keys.interrupt(agent_id, new_call_id())
        self._wait: _Wait | None = None
        self._won: list[ReceivedMessage] = []
        self._waiting = False
        self._over = False
        self._pause = _LOOK_INTERVAL
        self._sleeps_until = 0.0
        self._lock = threading.Lock()

    def step(self, crowd: int = 1) -> list[ReceivedMessage] | None:
        """Look, and begin to wait when there is nothing.

        Args:
            crowd: How many share the threads that this is called in. Those that have nothing to
                wait for look the less often.

        Returns:
            What was received; empty when the time is up, None when it is not yet.

        Raises:
            CoordinationError: As ``receive_many``. Then it is over.
        """
        with held(), self._lock:
            if self._over:
                return []
            self._pause = max(_LOOK_INTERVAL, _LOOK_SHARE * crowd)
            try:
                return self._step()
            except BaseException:
                self._over = True
                self._drop_wait()
                raise

    def abandon(self) -> None:
        """Let it come to nothing: end a wait, give back what was won, let others look.

        What was won after all, because it came just then, is receivable at once, and no attempt
        counted. Harmless to repeat.
        """
        with held(), self._lock:
            if self._over:
                return
            self._over = True
            try:
                self._end_wait()
                self._give_back()
            except CoordinationError as error:
                logger.warning(
                    "a receive of %s could not be undone: %s", self._agent_id, error,
                    extra={"event": "receive_not_undone", "inbox": str(self._agent_id)},
                )  # fmt: skip

    def _step(self) -> list[ReceivedMessage] | None:
        if self._wait is not None and not self._is_answered(self._wait):
            return None
        if self._sleeps_on():
            self._sleep()
            return None
        self._waiting = time.monotonic() < self._end
        claim, left = self._inbox.look(self._agent_id, self._most, self._visibility, self._end)
        if claim.messages or left <= 0:
            self._won = claim.messages
            return claim.messages
        if self._in_memory:  # its blocking commands would hold the thread
            due = left if claim.due is None else claim.due
            self._sleeps_until = time.monotonic() + min(left, due, policy.WAIT_SLICE)
            self._sleep()
        else:
            self._begin_wait(left, claim.due)
        return None

    def _sleeps_on(self) -> bool:
        """Whether nothing is due in memory, and nobody left a wake-up: far less than a claim."""
        if time.monotonic() >= self._sleeps_until:
            return False
        return not self._gate.run(self._wake, Command(("EXISTS", self._wake)))[0]

    def _sleep(self) -> None:
        self.again_at = min(self._sleeps_until, time.monotonic() + self._pause)

    def _begin_wait(self, left: float, due: float | None) -> None:
        seconds, alarm = wait_times(left, due)
        words = ("BZPOPMIN", self._wake, self._interrupt, f"{seconds:.6f}")
        now = time.monotonic()
        command = self._gate.blocking(self._wake, Command(words), seconds)
        blocked = command.__enter__()
        self._wait = _Wait(
            command,
            blocked,
            blocked.descriptor(),
            overdue=now + seconds + self._gate.patience,
            end=now + seconds,
            alarm=None if alarm is None else now + alarm,
        )
        self._plan(self._wait)
        forks.in_child(self._disown)

    def _plan(self, wait: _Wait) -> None:
        self.descriptor = wait.descriptor
        self.again_at = wait.overdue if wait.alarm is None else wait.alarm
        if wait.descriptor is None:
            self.again_at = min(self.again_at, time.monotonic() + self._pause)

    def _is_answered(self, wait: _Wait) -> bool:
        now = time.monotonic()
        if now >= wait.overdue or self._has_answer(wait):
            self._leave_wait()
            return True
        if wait.alarm is not None and now >= wait.alarm:
            due = self._inbox.nudge(self._agent_id, wait.end)
            wait.alarm = None if due is None else time.monotonic() + due
        self._plan(wait)
        return False

    def _has_answer(self, wait: _Wait) -> bool:
        try:
            return wait.blocked(0)
        except Exception as error:  # noqa: BLE001 - judged by the gate, which may raise another
            self._forget_wait()
            wait.command.__exit__(type(error), error, error.__traceback__)
            return True

    def _leave_wait(self) -> None:
        """Read the answer."""
        wait = self._forget_wait()
        if wait is not None:
            wait.command.__exit__(None, None, None)

    def _drop_wait(self) -> None:
        """Close the connection: no answer is to be had."""
        wait = self._forget_wait()
        if wait is not None:
            wait.command.__exit__(GeneratorExit, GeneratorExit(), None)

    def _forget_wait(self) -> _Wait | None:
        wait, self._wait = self._wait, None
        if wait is not None and wait.descriptor is not None:
            os.close(wait.descriptor)
        return wait

    def _disown(self) -> None:
        """Forget the wait, in a child: it is the parent's, and must end with it."""
        self._lock = threading.Lock()
        self._over = True
        self._forget_wait()

    def _end_wait(self) -> None:
        """Let the server answer now, so that it hands this one no wake-up any more."""
        wait, key = self._wait, self._interrupt
        if wait is None:
            return
        life = milliseconds(policy.REPLY_LIFETIME)
        try:
            self._gate.run(key, Command(("ZADD", key, 0, "w")), Command(("PEXPIRE", key, life)))
        except BaseException:
            self._drop_wait()
            raise
        self._leave_wait()
        if wait.blocked.reply is None or bytes(wait.blocked.reply[0]) != key.encode():
            self._gate.run(key, Command(("DEL", key)))

    def _give_back(self) -> None:
        if self._won:
            self._inbox.release_all(self._agent_id, [received.token for received in self._won])
        elif self._waiting:  # a wake-up may have come here that is for somebody else
            self._inbox.recover_some(self._agent_id)
