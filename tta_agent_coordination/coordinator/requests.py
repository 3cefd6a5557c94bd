"""Request and reply: one inbox for the replies to all threads of a process."""

from __future__ import annotations

import logging
import os
import re
import secrets
import socket
import threading
import time
from concurrent.futures import Future
from typing import Any

from tta_agent_coordination import threads
from tta_agent_coordination.coordinator.inbox import Inbox
from tta_agent_coordination.coordinator.outbox import Outbox
from tta_agent_coordination.coordinator.unanswered import Unanswered
from tta_agent_coordination.errors import (
    ConfigurationError,
    CoordinationError,
    InboxFullError,
    RemoteAgentError,
    RequestTimeoutError,
)
from tta_agent_coordination.events import Events, RequestBegun, RequestEnded
from tta_agent_coordination.identity import REPLY_TYPE, AgentId
from tta_agent_coordination.message import AgentMessage, MessageType

logger = logging.getLogger("tta_agent_coordination")

ERROR_HEADER = "tta-error-type"
"""Header of a reply that says what was raised; its payload has the text as ``error``."""
ATTEMPTS_HEADER = "tta-attempts"
"""Header of such a reply: how often the request was tried."""

_MOST_REPLIES = 100
_VISIBILITY = 30.0
_LINGER = 5.0
_PAUSE = 0.1
_GRACE = 1.0
"""Seconds that a request outlives its time-out, for who asked takes it back by then."""
_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9_.-]")


Pending = Future[AgentMessage | None]
"""A reply that is waited for; None says that none will come, for the coordinator was closed."""


class _Replies:
    """The inbox of a process for replies, and the thread that reads it while one is expected."""

    def __init__(self, inbox: Inbox, *, closed: bool) -> None:
        """Choose an address that nobody else has; nothing is read yet."""
        host = _NOT_ALLOWED.sub("-", socket.gethostname())[:64]
        self.address = AgentId(REPLY_TYPE, f"{host}-{os.getpid()}-{secrets.token_hex(8)}")
        self._inbox = inbox
        self._lock = threading.Lock()
        self._pending: dict[str, Pending] = {}
        self._reader: threading.Thread | None = None
        self._closed = threading.Event()
        if closed:
            self._closed.set()

    def expect(self, request_id: str) -> Pending:
        """Return what the reply to this request is put into, until it is forgotten.

        Raises:
            ConfigurationError: The coordinator is closed.
        """
        pending = Pending()
        pending.set_running_or_notify_cancel()  # nobody can cancel it, so that it can be set
        with self._lock:
            if self._closed.is_set():
                raise ConfigurationError("this coordinator is closed: make a new one")
            self._pending[request_id] = pending
            if self._reader is None:
                self._reader = threads.spawn("replies", self._read)
        return pending

    def forget(self, request_id: str) -> None:
        """Expect no reply to this request any more."""
        self._pending.pop(request_id, None)

    def close(self) -> None:
        """Expect nothing more: who waits is let go without a reply."""
        with self._lock:
            self._closed.set()
            for request_id in list(self._pending):
                self._settle(request_id, None)

    def join(self) -> None:
        """Wait for the reader to end; it does when it sees a message, or no connection."""
        reader = self._reader
        if reader is not None:
            threads.join([reader], _LINGER)

    def _read(self) -> None:
        expected_at = time.monotonic()
        while True:
            with self._lock:
                now = time.monotonic()
                if self._pending:
                    expected_at = now
                if self._closed.is_set() or now - expected_at > _LINGER:
                    self._reader = None
                    return
            try:
                self._fetch()
            except CoordinationError:
                # Requests run into their own time-outs; replies are there when Redis is back.
                self._closed.wait(_PAUSE)
            except Exception:
                logger.exception(
                    "the reader of replies goes on after an error",
                    extra={"event": "reply_reader_failed"},
                )
                self._closed.wait(_PAUSE)

    def _fetch(self) -> None:
        replies = self._inbox.receive(self.address, _MOST_REPLIES, _VISIBILITY, _LINGER)
        for received in replies:
            self._settle(received.message.correlation_id or "", received.message)
        if replies:
            self._inbox.ack(self.address, [received.token for received in replies])
            # A reply that is sent again finds nobody who waits for it.
            self._inbox.forget_marks(self.address)

    def _settle(self, request_id: str, reply: AgentMessage | None) -> None:
        pending = self._pending.pop(request_id, None)
        if pending is not None:  # others come too late, and are dropped
            pending.set_result(reply)


class Asking:
    """One request, to be sent, waited for and taken back by different threads.

    Attributes:
        deadline: When its time is up, monotonic seconds.
    """

    def __init__(
        self,
        message: AgentMessage,
        timeout: float,
        replies: _Replies,
        inbox: Inbox,
        outbox: Outbox,
        events: Events,
    ) -> None:
        """Ask `message`; nothing is sent yet."""
        self._events = events
        self._begun: RequestBegun | None = None
        self._began_at = 0.0
        self.deadline = time.monotonic() + timeout
        self._message = message
        self._timeout = timeout
        self._replies = replies
        self._inbox = inbox
        self._letter = outbox.letter(message.sender, message.recipient, message)
        self._outbox = outbox
        self._over = False
        self._unanswered: Unanswered | None = None
        self._sending = threading.Lock()

    def answer(self) -> AgentMessage:
        """Do it all, and wait; see `MessageCoordinator.request`."""
        with self as pending:
            self.send()
            try:
                reply = pending.result(max(self.deadline - time.monotonic(), 0.0))
            except TimeoutError:
                self.take_back()
                raise self.timed_out() from None
            except BaseException:  # Ctrl-C: nobody waits for it any more
                self.take_back()
                raise
            return self.read(reply)

    def __enter__(self) -> Pending:
        """Begin to expect a reply."""
        pending = self._replies.expect(self._message.message_id)
        if self._events.observers:
            self._began_at = time.monotonic()
            self._begun = RequestBegun(
                sender=self._message.sender, recipient=self._message.recipient
            )
            self._events.tell(self._begun)
        return pending

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Drop a reply that comes later; in the thread that began it."""
        self._replies.forget(self._message.message_id)
        if self._begun is not None:
            self._events.tell(
                RequestEnded(
                    begun=self._begun,
                    seconds=time.monotonic() - self._began_at,
                    outcome="answered" if error is None else _outcome(error),
                    error=error,
                )
            )

    def send(self) -> None:
        """Send it, unless it was taken back; one that fails is not taken back any more.

        Raises:
            InboxFullError: There is no room for it.
        """
        with self._sending:
            if self._over:
                return
            self._over = True  # unless it gets sent
            result = self._outbox.send_letter(self._message, self._letter)
            self._over = not result.delivered
        if not result.delivered:
            raise InboxFullError(
                f"the inbox of {self._message.recipient} takes no request: {result.error}"
            )

    def take_back(self) -> None:
        """Take it back, unless somebody handles it already; waits for a `send` under way.

        Called before that, it is never sent.
        """
        with self._sending:
            if self._over:
                return
            self._over = True
            recipient, request_id = self._message.recipient, self._message.message_id
            try:
                self._unanswered = self._inbox.withdraw(recipient, request_id)
            except CoordinationError as error:
                # It is not handed out any more: its time to live is over soon.
                logger.warning(
                    "request %s could not be taken back: %s", request_id, error,
                    extra={
                        "event": "request_left",
                        "inbox": str(recipient),
                        "message_id": request_id,
                    },
                )  # fmt: skip

    def read(self, reply: AgentMessage | None) -> AgentMessage:
        """Return a reply.

        Raises:
            ConfigurationError: There is none: the coordinator was closed.
            RemoteAgentError: It says that the agent failed.
        """
        if reply is None:
            raise ConfigurationError("the coordinator was closed while a reply was waited for")
        return _checked(reply, self._message.recipient)

    def timed_out(self) -> RequestTimeoutError:
        """Return the error that says that no reply came in time, and what else is known."""
        known = self._unanswered or Unanswered()
        return RequestTimeoutError(
            f"no reply from {self._message.recipient} within {self._timeout:g} s "
            f"(request {self._message.message_id}): {known}",
            error_type=known.error_type,
            attempts=known.attempts,
            last_error=known.error,
        )


class Requests:
    """Sends requests and hands each reply to the thread that waits for it."""

    def __init__(self, inbox: Inbox, outbox: Outbox, events: Events) -> None:
        """Prepare; the thread that reads replies starts with the first request."""
        self._events = events
        self._inbox = inbox
        self._outbox = outbox
        self._closed = False
        self._by_process: dict[int, _Replies] = {}

    @property
    def address(self) -> AgentId:
        """Where replies to requests of this process are sent."""
        return self._replies().address

    def asking(
        self, sender: AgentId, recipient: AgentId, payload: dict[str, Any], timeout: float
    ) -> Asking:
        """Return a request that is to be sent and waited for."""
        replies = self._replies()
        message = AgentMessage(
            sender,
            recipient,
            payload,
            message_type=MessageType.REQUEST,
            message_id=(message_id := secrets.token_hex(16)),
            correlation_id=message_id,
            reply_to=replies.address,
            ttl=timeout + _GRACE,
        )
        return Asking(message, timeout, replies, self._inbox, self._outbox, self._events)

    def close(self) -> None:
        """Fail the requests under way; the reader ends when the connections are closed."""
        self._closed = True
        self._replies().close()
        self._inbox.end_waits()

    def join(self) -> None:
        """Wait for the reader to end."""
        self._replies().join()

    def _replies(self) -> _Replies:
        # A child process must not take its parent's replies, nor wait for its parent's locks.
        pid = os.getpid()
        found = self._by_process.get(pid)
        if found is None:  # of two threads that come here at once, one sets it for both
            found = self._by_process.setdefault(pid, _Replies(self._inbox, closed=self._closed))
        return found


_OUTCOMES: dict[type[BaseException], str] = {
    InboxFullError: "refused",
    RemoteAgentError: "failed",
    RequestTimeoutError: "timed_out",
}


def _outcome(error: BaseException) -> str:
    return _OUTCOMES.get(type(error), "error")


def _checked(reply: AgentMessage, recipient: AgentId) -> AgentMessage:
    error_type = reply.headers.get(ERROR_HEADER)
    if error_type is None:
        return reply
    attempts, text = reply.headers.get(ATTEMPTS_HEADER, "0"), str(reply.payload.get("error", ""))
    raise RemoteAgentError(
        f"{recipient} failed: {error_type}: {text}",
        error_type=error_type,
        attempts=int(attempts) if attempts.isdecimal() else 0,
        message=text,
    )
