"""Sending: to one inbox, to many, and to all who subscribed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import attrs

from tta_agent_coordination import codec
from tta_agent_coordination.coordinator.calls import (
    HORIZON,
    Argument,
    Calls,
    lifetime,
    microseconds,
    new_call_id,
)
from tta_agent_coordination.coordinator.directory import Directory
from tta_agent_coordination.delivery import MessageResult
from tta_agent_coordination.events import Events, SendBegun, SendEnded
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.message import AgentMessage
from tta_agent_coordination.transport import scripts
from tta_agent_coordination.transport.gate import Command

QUEUE_FULL = "queue full"

_MESSAGES_A_SCRIPT = 100
_BYTES_A_ROUND_TRIP = 4 * 1024 * 1024
_STORED, _DUPLICATE, _UNLISTED = 1, 2, 3

_SHORTEST = AgentId("-")
"""No other name makes a message smaller."""

Addressed = tuple[AgentId, AgentMessage]
"""A message and whose inbox it goes to."""


@attrs.frozen
class Letter:
    """A message made ready to be stored.

    Attributes:
        call: For a dead letter of another inbox, what its replay is recognized by when it is
            repeated; None for a message that is sent.
        error: Of that dead letter, as the scripts have it.
    """

    recipient: AgentId
    message_id: str
    body: bytes
    priority: int
    delay: float
    ttl: float | None
    call: str | None = None
    error: bytes = b""

    def arguments(self) -> tuple[str | bytes | int, ...]:
        """Return what the scripts take for each message."""
        ttl = -1 if self.ttl is None else microseconds(self.ttl)
        return self.message_id, self.body, self.priority, ttl


class Outbox:
    """Stores messages in inboxes."""

    def __init__(self, calls: Calls, directory: Directory) -> None:
        """Send through `calls`, and note in `directory` where to."""
        self._calls = calls
        self._directory = directory
        self._events: Events = calls.link.events

    def send(
        self, sender: AgentId, recipient: AgentId, message: AgentMessage, delay: float = 0.0
    ) -> MessageResult:
        """Check, encode and store one message, in one round trip."""
        if self._events.observers:
            return self._observed(
                "send",
                sender,
                [(recipient, message)],
                lambda given: [self.store(self.letter(sender, *given[0], delay))],
            )[0]
        return self.store(self.letter(sender, recipient, message, delay))

    def send_letter(self, message: AgentMessage, letter: Letter) -> MessageResult:
        """Store a message of which the letter was made before."""
        if self._events.observers:  # they may add headers to it
            return self.send(message.sender, message.recipient, message)
        return self.store(letter)

    def send_all(
        self, sender: AgentId, addressed: Sequence[Addressed], operation: str = "send"
    ) -> list[MessageResult]:
        """Check and encode all messages, then store them; the answers come in their order."""
        if self._events.observers and addressed:
            return self._observed(
                operation, sender, addressed, lambda given: self._send_all(sender, given)
            )
        return self._send_all(sender, addressed)

    def _send_all(self, sender: AgentId, addressed: Sequence[Addressed]) -> list[MessageResult]:
        return self.store_all([self.letter(sender, *one) for one in addressed])

    def _observed(
        self,
        operation: str,
        sender: AgentId,
        addressed: Sequence[Addressed],
        send: Callable[[Sequence[Addressed]], list[MessageResult]],
    ) -> list[MessageResult]:
        # Copies: observers may add headers, and the message is the caller's.
        copies = [
            attrs.evolve(message, sender=sender, recipient=recipient)
            for recipient, message in addressed
        ]
        begun = SendBegun(operation=operation, messages=tuple(copies))
        began_at, results, error = time.monotonic(), list[MessageResult](), None
        self._events.tell(begun)
        try:
            results = send([(copy.recipient, copy) for copy in copies])
        except BaseException as raised:
            error = raised
            raise
        finally:
            seconds = time.monotonic() - began_at
            self._events.tell(
                SendEnded(begun=begun, seconds=seconds, results=tuple(results), error=error)
            )
            error = None  # it has this frame
        return results

    def letter(
        self,
        sender: AgentId,
        recipient: AgentId,
        message: AgentMessage,
        delay: float = 0.0,
        *,
        limit: int | None = None,
    ) -> Letter:
        """Check and encode a message; nothing is sent yet.

        Args:
            sender: In place of its own.
            recipient: Likewise.
            message: What to encode.
            delay: Seconds until it can be received.
            limit: Bytes that it may have; None for ``max_message_bytes``.
        """
        limit = limit or self._calls.policy.max_message_bytes
        body = codec.encode(message, sender, recipient, limit=limit)
        return Letter(
            recipient, message.message_id, body, message.priority.value, delay, message.ttl
        )

    def check(self, sender: AgentId, message: AgentMessage) -> None:
        """Raise what is wrong with a message, whoever may get it."""
        self.letter(sender, _SHORTEST, message)

    def store(self, letter: Letter) -> MessageResult:
        """Store one message in one round trip."""
        noted = self._directory.note((letter.recipient,))
        command = self._command(letter.recipient, (letter,))
        [answer], replicas = self._calls.store(letter.recipient, command)
        if answer == _UNLISTED and not noted:
            self._directory.note_again((letter.recipient,))
        return _result(letter, answer, replicas)

    def store_all(self, letters: Sequence[Letter]) -> list[MessageResult]:
        """Store messages in few round trips; the answers come in the order of `letters`."""
        noted = self._directory.note(dict.fromkeys(letter.recipient for letter in letters))
        unlisted = dict[AgentId, None]()
        results: list[MessageResult | None] = [None] * len(letters)
        for load in _loads(letters):
            runs = [(agent_id, self._command(agent_id, [letters[i] for i in positions]))
                    for agent_id, positions in load]  # fmt: skip
            replies = self._calls.run_each(runs)
            for (agent_id, positions), (answers, replicas) in zip(load, replies, strict=True):
                if _UNLISTED in answers and agent_id not in noted:
                    unlisted[agent_id] = None
                for position, answer in zip(positions, answers, strict=True):
                    results[position] = _result(letters[position], answer, replicas)
        self._directory.note_again(unlisted)
        return [result for result in results if result is not None]

    def _command(self, recipient: AgentId, letters: Sequence[Letter]) -> Command:
        first, size = letters[0], self._calls.policy.queue_size
        arguments: list[Argument] = [
            first.call or new_call_id(),
            size,
            first.error,
            lifetime(recipient),
        ]
        script = scripts.SEND_MANY
        if len(letters) == 1:
            script = scripts.SEND
            arguments += HORIZON, microseconds(first.delay)
        for letter in letters:
            arguments += letter.arguments()
        return self._calls.command(script, recipient, arguments)


def _loads(letters: Sequence[Letter]) -> Iterable[list[tuple[AgentId, list[int]]]]:
    """Divide positions into round trips, each a list of scripts, each for one inbox."""
    load: list[tuple[AgentId, list[int]]] = []
    open_scripts: dict[AgentId, list[int]] = {}
    size = 0
    for position, letter in enumerate(letters):
        if size and size + len(letter.body) > _BYTES_A_ROUND_TRIP:
            yield load
            load, open_scripts, size = [], {}, 0
        positions = open_scripts.get(letter.recipient)
        if positions is None or letter.call or len(positions) == _MESSAGES_A_SCRIPT:
            positions = open_scripts[letter.recipient] = []
            load.append((letter.recipient, positions))
        positions.append(position)
        size += len(letter.body)
    if load:
        yield load


def _result(letter: Letter, answer: int, replicas: int | None) -> MessageResult:
    if answer in (_STORED, _UNLISTED):
        return MessageResult(letter.message_id, delivered=True, replicas=replicas)
    if answer == _DUPLICATE:
        return MessageResult(letter.message_id, delivered=True, duplicate=True, replicas=replicas)
    return MessageResult(letter.message_id, delivered=False, error=QUEUE_FULL)
