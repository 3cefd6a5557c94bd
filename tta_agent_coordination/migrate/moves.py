"""Carries out moves: each script removes messages there and stores them here in one step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from tta_agent_coordination.coordinator.calls import HORIZON, milliseconds, new_call_id
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.keys import Keys
from tta_agent_coordination.migrate.back import Return
from tta_agent_coordination.migrate.plan import Move
from tta_agent_coordination.policy import InboxPolicy
from tta_agent_coordination.transport import scripts
from tta_agent_coordination.transport.gate import Command
from tta_agent_coordination.transport.link import Link
from tta_agent_coordination.transport.scripts import Script

MOVED, COPY, GONE, HELD, TAKEN = 1, 2, -4, -5, -6
"""Answers of the scripts, as in ``lua/lib/codes.lua``."""

JOURNAL_LIFETIME = 30 * 86_400.0
"""Seconds for which it is remembered what was taken over, while some of the old keys are left."""

T = TypeVar("T")

_MOST_A_SCRIPT = 500
_BYTES_A_SCRIPT = 1024 * 1024


class Moves:
    """Moves entries of one inbox."""

    def __init__(
        self, link: Link, keys: Keys, old: Mapping[str, str], inbox: AgentId, rules: InboxPolicy
    ) -> None:
        """Move from the keys `old` to those of `inbox` among `keys`."""
        self._link = link
        self._rules = rules
        self.journal = keys.migrated(inbox)
        self._keys = {
            **{f"old_{name}": key for name, key in old.items()},
            **keys.inbox(inbox),
            "migrated": self.journal,
        }

    def scattered(self, moves: Sequence[Move], *, final: bool) -> Iterator[tuple[Move, int]]:
        """Move entries of sorted sets and of the hash, in their order.

        Yields:
            Each with the answer to it.
        """
        for some in _pieces(moves, _weight):
            answers = self._run(scripts.MIGRATE, {}, int(final), some)
            yield from zip(some, answers, strict=True)

    def listed(
        self, name: str, raws: Sequence[bytes], moves: Mapping[bytes, Move]
    ) -> Iterator[tuple[Move, int]]:
        """Walk once over a list and move the entries that are wanted.

        Args:
            name: Of the list's key.
            raws: What it held, from its head.
            moves: What is wanted, by the raw bytes.

        Yields:
            Each with the answer to it, where it was met.
        """
        if not moves:
            return
        keys = {"old_list": self._keys[f"old_{name}"]}
        for some in _pieces(raws, len):
            wanted = [moves[raw] for raw in dict.fromkeys(some) if raw in moves]
            answers = self._run(scripts.MIGRATE_LIST, keys, len(some), wanted)
            yield from zip(wanted, answers, strict=True)

    def returned(self, returns: Sequence[Return]) -> Iterator[tuple[Return, int]]:
        """Give messages back to the old keys, in their order.

        Yields:
            Each with the answer to it.
        """
        options = (milliseconds(self._rules.retention),)
        keys = {"old_list": self._keys["old_queue"]}
        for some in _pieces(returns, lambda one: one.weight):
            rest = [word for one in some for word in one.words()]
            yield from zip(some, self._call(scripts.MIGRATE_BACK, keys, options, rest), strict=True)

    def _run(
        self, script: Script, more: Mapping[str, str], option: int, moves: Sequence[Move]
    ) -> list[int]:
        options = (
            HORIZON,
            milliseconds(self._rules.retention),
            milliseconds(JOURNAL_LIFETIME),
            option,
        )
        return self._call(script, more, options, [word for one in moves for word in _words(one)])

    def _call(
        self, script: Script, more: Mapping[str, str], options: Sequence[int], rest: Sequence[Any]
    ) -> list[int]:
        keys = self._keys | dict(more)
        words: list[Any] = ["EVALSHA", script.sha, len(script.keys)]
        words += [keys[name] for name in script.keys]
        words += [new_call_id(), *options, *rest]
        reply = self._link.commands.run("", Command(tuple(words), script))[0]
        return [int(answer) for answer in reply.split()]


def _words(move: Move) -> tuple[bytes | str | int, ...]:
    message = move.message
    return (
        move.kind,
        move.member,
        message.message_id,
        message.digest,
        message.priority,
        move.due,
        message.attempts,
        message.enqueued,
        message.error,
        message.body,
    )


def _pieces(items: Iterable[T], weight: Callable[[T], int]) -> Iterator[list[T]]:
    """Divide items so that no script holds the server up for long."""
    piece: list[T] = []
    size = 0
    for item in items:
        if piece and (len(piece) == _MOST_A_SCRIPT or size + weight(item) > _BYTES_A_SCRIPT):
            yield piece
            piece, size = [], 0
        piece.append(item)
        size += weight(item)
    if piece:
        yield piece


def _weight(move: Move) -> int:
    return len(move.message.body) + len(move.member)
