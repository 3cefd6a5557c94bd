"""The gate: the one way to Redis, with a circuit breaker, retries and a deadline around it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import pybreaker
from redis.exceptions import AskError, ResponseError

from tta_agent_coordination import forks, policy
from tta_agent_coordination.errors import (
    ConfigurationError,
    CoordinationError,
    CoordinatorUnavailableError,
)
from tta_agent_coordination.events import Events
from tta_agent_coordination.transport import speech
from tta_agent_coordination.transport.advice import Contact
from tta_agent_coordination.transport.blocked import Blocked, Sent
from tta_agent_coordination.transport.breaker import Breaker
from tta_agent_coordination.transport.command import Command
from tta_agent_coordination.transport.connections import Route
from tta_agent_coordination.transport.deadline import until
from tta_agent_coordination.transport.faults import Fault, fault_of, translate
from tta_agent_coordination.transport.speech import Reply
from tta_agent_coordination.transport.wire import Connection, Pool
from tta_agent_coordination.waits import pauses

_PASSING = frozenset({Fault.LOST, Fault.NOT_NOW, Fault.REDIRECTED, Fault.UNKNOWN_SCRIPT})
_COUNTED = frozenset({Fault.LOST, Fault.NOT_NOW})

_LAST_LOOK = 0.05
"""Seconds for which an answer that is overdue is still looked for."""
_CLOSED = "the coordinator, registry or breaker that this call belongs to is closed: make a new one"


_ASKING = Command(("ASKING",))


class Gate:
    """Carries commands to Redis and their replies back.

    A call may reach the server several times: whatever passes here can be repeated without
    changing what it does. It takes no longer than `call_timeout`, and fails at once while the
    breaker is open. No lock is held while the server is waited for.
    """

    def __init__(
        self,
        route: Callable[[], Route],
        *,
        name: str,
        call_timeout: float,
        events: Events,
        contact: Contact,
    ) -> None:
        """Prepare a gate; nothing is connected before the first call.

        Args:
            route: Returns the way to the servers; asked each time, so that a fork can change it.
            name: Of the breaker, for the log.
            call_timeout: Seconds that a call may take, all attempts included.
            events: Who is told what the breaker does.
            contact: Whether a server has answered yet, here or at another gate.
        """
        self._route = route
        self._name = name
        self._call_timeout = call_timeout
        self._share = call_timeout / policy.ATTEMPTS_IN_A_CALL
        self._closed = threading.Event()
        self._events = events
        self._contact = contact
        self._breaker = self._new_breaker()

    @property
    def state(self) -> str:
        """The breaker's: ``closed``, ``open`` or ``half-open``."""
        return self._breaker.state

    @property
    def patience(self) -> float:
        """Seconds for which the answer to a blocking command is waited for beyond its time."""
        return max(self._share, policy.WAIT_PATIENCE)

    def close(self) -> None:
        """Refuse further calls, and end the pauses of those that are retrying."""
        self._closed.set()

    def check_open(self) -> None:
        """Raise `ConfigurationError` if it is closed."""
        forks.notice()
        if self._closed.is_set():
            raise ConfigurationError(_CLOSED)

    def renew(self) -> None:
        """Begin anew in a child: a lock that a thread of the parent held is held there for ever."""
        if not self._closed.is_set():
            self._closed = threading.Event()
        self._breaker = self._new_breaker()

    def run(self, key: str, *commands: Command) -> list[Reply]:
        """Send commands in one round trip and return their replies.

        Args:
            key: Decides which node of a cluster is asked.
            commands: For keys in the slot of `key`; each can be repeated without harm.

        Raises:
            CoordinatorUnavailableError: Redis could not be reached, or refused.
            CoordinatorCircuitOpenError: It failed often just now, and was not tried.
            CoordinationError: Redis answered with an error that no repetition mends.
        """
        end = time.monotonic() + self._call_timeout
        trial = self._enter()
        try:
            replies = self._attempt(key, commands, end)
        except Exception as error:  # noqa: BLE001 - sorted by what it means, or raised again
            return self._retry(key, commands, end, error, trial=trial)
        except BaseException:
            self._breaker.abandoned(trial=trial)
            raise
        self._answered(trial=trial)
        return replies

    def _retry(
        self, key: str, commands: Sequence[Command], end: float, error: Exception, *, trial: bool
    ) -> list[Reply]:
        # The first failure may be a connection that the server closed while it was idle. It is
        # not counted, unless the call was let through only to see whether the server is back.
        self._sort(error, counted=trial, trial=trial)
        if trial:
            raise self._unavailable(error, "when it was tried once more") from error
        waits = _pauses()
        while time.monotonic() + (pause := next(waits)) < end:
            self._closed.wait(pause)
            self.check_open()
            try:
                replies = self._attempt(key, commands, end)
            except Exception as again:  # noqa: BLE001 - as in run
                error = again
                self._sort(error, counted=True, trial=False)
            else:
                self._answered(trial=False)
                return replies
        raise self._unavailable(error) from error

    def _answered(self, *, trial: bool, late: bool = False) -> None:
        """Note that the server is there; a late answer may be of before what opened the breaker."""
        self._contact.made = True
        if not late or self._breaker.state == pybreaker.STATE_CLOSED:
            self._breaker.succeeded(trial=trial)

    def _sort(self, error: Exception, *, counted: bool, trial: bool, late: bool = False) -> None:
        """Return when `error` is one that may pass; raise what it means when it is not."""
        self.check_open()  # that somebody closed the connections is no failure of the server
        fault = fault_of(error)
        one_server = not self._route().spread
        if fault not in _PASSING or (fault is Fault.REDIRECTED and one_server):
            self._answered(trial=trial, late=late)
            raise translate(error, fault) from error
        self._route().refresh()
        if counted and fault in _COUNTED:
            self._breaker.failed(error, trial=trial)
        else:
            self._breaker.abandoned(trial=trial)

    def begin(self, key: str, *commands: Command) -> Sent:
        """Send commands whose replies `finish` reads, so that the caller can go on meanwhile.

        They are sent once. When that fails, `finish` says so, and the next `run` finds out more.

        Args:
            key: As for `run`.
            commands: Likewise.

        Raises:
            CoordinatorCircuitOpenError: Redis failed often just now.
            CoordinationError: Redis refuses the connection, and would again.
        """
        self.check_open()
        self._breaker.check_closed()
        end = time.monotonic() + self._share
        try:
            return Sent(commands, end, self._begin(key, *commands))
        except Exception as error:  # noqa: BLE001 - sorted by what it means, or raised again
            self._sort(error, counted=False, trial=False)
            return Sent(commands, end)

    def finish(self, sent: Sent) -> list[Reply] | None:
        """Return the replies to what was sent; None if they did not come: `run` the commands.

        Raises:
            CoordinationError: Redis answered with an error that no repetition mends.
        """
        if sent.way is None:
            return None
        try:
            replies = self._replies_to(sent, *sent.way)
        except Exception as error:  # noqa: BLE001 - as in begin
            self._sort(error, counted=False, trial=False, late=True)
            return None
        self._answered(trial=False, late=True)
        return replies

    def _replies_to(self, sent: Sent, pool: Pool, connection: Connection) -> list[Reply]:
        try:
            # What came while the caller was busy is read, however late it is.
            with until(max(sent.end, time.monotonic() + _LAST_LOOK)):
                replies = speech.replies(connection, sent.commands)
        except BaseException:
            connection.disconnect()
            raise
        finally:
            self._release(pool, connection)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise reply
        return replies

    @contextmanager
    def blocking(
        self, key: str, command: Command, seconds: float, *then: Command
    ) -> Generator[Blocked]:
        """Send a command that the server answers within `seconds`, and leave when it has.

        It is sent once, and a connection that fails only ends it: the next `run` finds out more.
        Other calls go on meanwhile, on connections of their own. One thread may enter, another
        leave.

        Args:
            key: As for `run`.
            command: What the server answers within `seconds`.
            seconds: How long that may take.
            then: Commands that the server shall carry out right after it.

        Yields:
            The command under way.
        """
        self.check_open()
        self._breaker.check_closed()
        try:
            pool, connection = self._begin(key, command, *then)
        except Exception as error:  # noqa: BLE001 - sorted by what it means, or raised again
            self._cut_short(error)
            yield Blocked()
            return
        blocked = Blocked(connection)
        latest = time.monotonic() + seconds + self.patience
        try:
            try:
                yield blocked
                # What came while the body was busy is read, however late it is.
                with until(max(latest, time.monotonic() + _LAST_LOOK)):
                    blocked.reply = connection.read_response()
                    blocked.following = [speech.read(connection) for _ in then]
            except BaseException:
                connection.disconnect()
                raise
            finally:
                blocked.over()
                self._release(pool, connection)
        except CoordinationError:  # of the body, which has calls of its own
            raise
        except Exception as error:  # noqa: BLE001 - as above
            self._cut_short(error)

    def servers(self) -> dict[str, Pool]:
        """Return the pools of all servers that hold keys, by their names; for `ask`.

        Raises:
            CoordinatorUnavailableError: They could not be found out.
        """
        self.check_open()
        try:
            with until(time.monotonic() + self._call_timeout):
                return self._route().servers()
        except Exception as error:
            raise self._meaning(error) from error

    def ask(self, pool: Pool, *commands: Command) -> list[Reply]:
        """Ask one server, and once more when the connection fails; nothing is counted.

        Returns:
            The replies; errors of the server stand among them.

        Raises:
            CoordinatorUnavailableError: It could not be reached, or refused the connection.
        """
        self.check_open()
        try:
            return self._ask_once(pool, commands)
        except Exception as error:
            if fault_of(error) not in _PASSING:
                raise self._meaning(error) from error
            pool.disconnect(inuse_connections=False)  # what was idle the server may have closed
        try:
            return self._ask_once(pool, commands)
        except Exception as error:
            raise self._meaning(error) from error

    def _meaning(self, error: Exception) -> CoordinationError:
        fault = fault_of(error)
        if fault in _PASSING:
            return self._unavailable(error)
        return translate(error, fault)

    def _ask_once(self, pool: Pool, commands: Sequence[Command]) -> list[Reply]:
        with until(time.monotonic() + self._share):
            replies = self._exchange_on(pool, commands)
        self._contact.made = True
        return replies

    def _begin(self, key: str, *commands: Command) -> tuple[Pool, Connection]:
        """Send commands whose replies somebody else reads."""
        with until(time.monotonic() + self._share):
            pool = self._route().pool(key)
            connection = pool.get_connection()
            try:
                speech.send(connection, commands)
                self.check_open()  # closing cuts off those under way, and this one came after
            except BaseException:
                connection.disconnect()
                self._release(pool, connection)
                raise
        return pool, connection

    def _cut_short(self, error: Exception) -> None:
        """Return, after a pause, when `error` is one that may pass; raise what it means if not."""
        self.check_open()
        fault = fault_of(error)
        if fault not in _PASSING:
            raise translate(error, fault) from error
        self._closed.wait(next(_pauses()))

    def _unavailable(
        self, error: Exception, when: str | None = None
    ) -> CoordinatorUnavailableError:
        when = when or f"within {self._call_timeout:g} s"
        last = self._contact.told(error, tls=self._route().tls)
        return CoordinatorUnavailableError(
            f"Redis could not be reached {when}; the last error: {last}"
        )

    def _enter(self) -> bool:
        self.check_open()
        return self._breaker.admit()

    def _new_breaker(self) -> Breaker:
        return Breaker(self._name, trial_time=self._call_timeout, events=self._events)

    def _attempt(self, key: str, commands: Sequence[Command], end: float) -> list[Reply]:
        with until(min(end, time.monotonic() + self._share)):
            replies = self._exchange_on(self._route().pool(key), commands)
        for reply in replies:
            if isinstance(reply, ResponseError):
                return self._follow(commands, replies, end)
        return replies

    def _exchange_on(self, pool: Pool, commands: Sequence[Command]) -> list[Reply]:
        connection = pool.get_connection()
        try:
            return speech.exchange(connection, commands)
        except BaseException:
            # A reply may still be under way: nobody must take it for the answer to another.
            connection.disconnect()
            raise
        finally:
            self._release(pool, connection)

    def _follow(self, commands: Sequence[Command], replies: list[Reply], end: float) -> list[Reply]:
        """Ask again where a slot is being moved to, for keys that are there already."""
        moved = [i for i, reply in enumerate(replies) if isinstance(reply, AskError)]
        pool = self._route().importing(*_destination(replies[moved[0]])) if moved else None
        if pool is not None:
            asked = [word for i in moved for word in (_ASKING, commands[i])]
            with until(min(end, time.monotonic() + self._share)):
                answers = self._exchange_on(pool, asked)[1::2]
            for i, answer in zip(moved, answers, strict=True):
                replies[i] = answer
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise reply
        return replies

    def _release(self, pool: Pool, connection: Connection) -> None:
        if self._closed.is_set():  # it may have been opened since
            connection.disconnect()
        pool.release(connection)


def _destination(ask: AskError) -> tuple[str, int]:
    return cast("Any", ask).host, cast("Any", ask).port


def _pauses() -> Iterator[float]:
    return pauses(policy.RETRY_FIRST_WAIT, policy.RETRY_LONGEST_WAIT)
