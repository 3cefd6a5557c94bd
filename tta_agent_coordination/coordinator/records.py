"""What the scripts answer, read into models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import attrs

from tta_agent_coordination import codec
from tta_agent_coordination.coordinator.calls import new_call_id
from tta_agent_coordination.delivery import (
    DeadLetter,
    InboxStats,
    QueueMessage,
    ReceivedMessage,
)
from tta_agent_coordination.errors import MessageDecodeError
from tta_agent_coordination.message import AgentMessage, MessagePriority

LONGEST_ERROR = 4096
"""Characters kept of the error that a nack gives."""

PRIORITIES = tuple(sorted((priority.value for priority in MessagePriority), reverse=True))
"""What the script that counts is given."""

_NONCE_LENGTH = len(new_call_id())
_LATEST = codec.to_microseconds(datetime.max.replace(tzinfo=UTC))
_MOST_DIGITS = len(str(_LATEST))
# stored_at expires origin body
_STORED = re.compile(rb"(\d+) \d+ \S+ ", re.ASCII)
# reason dead_at score attempts holder length-of-error error stored-message
_DEAD = re.compile(rb"(\w+) (\d+) \d+ (\d+) (\S+) (\d+) ", re.ASCII)


Opened = tuple[int, AgentMessage]
"""When a message was stored, in microseconds since 1970, and the message."""


def text(raw: bytes) -> str:
    """Read a name that may have been written by somebody else; `raw_text` turns it back."""
    return raw.decode("utf-8", "surrogateescape")


def raw_text(name: str) -> bytes:
    """Turn back what `text` read; what it cannot have read becomes a name that nothing has."""
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogatepass")


def printed_error(error: str | None) -> bytes:
    """Return an error as the scripts take it; half a surrogate pair is written as its escape."""
    if error is None:
        return b"-"
    return f"+{error[:LONGEST_ERROR]}".encode("utf-8", "backslashreplace")


def shown(message_id: bytes) -> str:
    """Return a message id for the log."""
    return message_id.decode("utf-8", "replace")


def split_token(token: str) -> tuple[str, bytes] | None:
    """Return the nonce and the message id of a token; None if it is none."""
    nonce, colon, message_id = token.partition(":")
    if not colon or len(nonce) != _NONCE_LENGTH or not nonce.isalnum() or not nonce.isascii():
        return None
    return nonce, raw_text(message_id)


def token_parts(token: str) -> tuple[str, bytes]:
    """Return the nonce and the message id of a token that the library made."""
    nonce, _, message_id = token.partition(":")
    return nonce, raw_text(message_id)


@attrs.define(eq=False)  # not frozen: it is made in a third of the time
class Delivery:
    """A message as a claim brought it, not decoded yet.

    Attributes:
        nonce: Of the claim.
        raw_id: The id of the message.
        stored: The stored message.
        attempts: How often it was handed out, this time included.
        error: What its last ``nack`` gave, as the scripts have it.
        deadline: When the lease ends.
    """

    nonce: str
    raw_id: bytes
    stored: bytes
    attempts: int
    error: bytes
    deadline: datetime

    @property
    def message_id(self) -> str:
        """The id of the message."""
        return text(self.raw_id)

    @property
    def token(self) -> str:
        """Proof of this delivery."""
        return f"{self.nonce}:{self.message_id}"

    def age(self, visibility: float) -> float | None:
        """Return seconds from its storing to its claim, which is `visibility` before the deadline.

        Both are by the server's clock. None when the stored bytes are no message.
        """
        match = _STORED.match(self.stored)
        if match is None:
            return None
        claimed_at = self.deadline.timestamp() - visibility
        return max(claimed_at - int(match[1]) / 1_000_000, 0.0)

    def decode(self) -> ReceivedMessage:
        """Decode the message, and what is known of it.

        Raises:
            MessageDecodeError: The stored bytes are none.
        """
        return self.received(*self.open())

    def open(self) -> Opened:
        """Decode the message alone.

        Raises:
            MessageDecodeError: As `decode`.
        """
        return _open(self.stored)

    def received(self, stored_at: int, message: AgentMessage) -> ReceivedMessage:
        """Return what `open` returned, with what is known of it."""
        error = _told(self.error, dead=False)
        held = _queue_message(stored_at, message, self.attempts, error)
        return ReceivedMessage(self.token, held, self.deadline)


def dead_letter(message_id: bytes, record: bytes) -> DeadLetter | None:
    """Read one dead letter; None when the record itself is no such thing."""
    match = _DEAD.match(record)
    if match is None:
        return None
    reason, dead_at, attempts, holder, length = match.groups()
    start = match.end()
    stored = start + int(length)
    raw = None
    try:
        held = queue_message(record[stored:], int(attempts), record[start:stored], dead=True)
    except MessageDecodeError as error:
        held, raw = None, error.raw
    return DeadLetter(
        held,
        reason.decode(),
        codec.from_microseconds(int(dead_at)),
        None if holder == b"-" else text(holder),
        message_id=text(message_id),
        raw=raw,
    )


def inbox_stats(reply: Sequence[Any]) -> InboxStats:
    """Read what an inbox holds."""
    delayed, leased, dead, dropped, age, ready = reply
    oldest = None if int(age) < 0 else int(age) / 1_000_000
    counts = dict(zip(map(MessagePriority, PRIORITIES), ready, strict=True))
    return InboxStats(counts, delayed, leased, dead, oldest, dropped)


_GIVEN, _EARLIER = b"+", b"- "
"""What an error begins with: one that a ``nack`` gave, and one of the life before a replay."""


def earlier_error(error: str | None) -> bytes:
    """Return the error of a dead letter as the scripts keep it for the next one."""
    return b"-" if error is None else _EARLIER + raw_text(error)


def queue_message(
    stored: bytes, attempts: int, error: bytes, *, dead: bool = False
) -> QueueMessage:
    """Read a stored message, and what its inbox knows of it, as the scripts have it.

    Args:
        stored: The stored message.
        attempts: How often it was handed out.
        error: The last one.
        dead: Whether it is a dead letter, which tells of errors before a replay too.

    Raises:
        MessageDecodeError: The stored bytes are no message.
    """
    return _queue_message(*_open(stored), attempts, _told(error, dead=dead))


def _open(stored: bytes) -> Opened:
    match = _STORED.match(stored)
    if match is None:
        raise MessageDecodeError("stored bytes have no time of storing", raw=stored)
    digits = match[1]
    if len(digits) > _MOST_DIGITS or int(digits) > _LATEST:
        raise MessageDecodeError("the time of storing is out of range", raw=stored)
    return int(digits), codec.decode(stored[match.end() :])


def _queue_message(
    stored_at: int, message: AgentMessage, attempts: int, error: str | None
) -> QueueMessage:
    enqueued_at = codec.from_microseconds(stored_at)
    return QueueMessage(message, message.priority, enqueued_at, attempts, error)


def _told(error: bytes, *, dead: bool) -> str | None:
    for mark in (_GIVEN, _EARLIER) if dead else (_GIVEN,):
        if error.startswith(mark):
            return text(error.removeprefix(mark))
    return None
