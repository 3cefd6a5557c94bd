"""Dead letters: read, replay and drop them."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import attrs

from tta_agent_coordination.coordinator import records
from tta_agent_coordination.coordinator.calls import Calls, milliseconds, new_call_id
from tta_agent_coordination.coordinator.directory import Directory
from tta_agent_coordination.coordinator.outbox import Letter, Outbox
from tta_agent_coordination.delivery import DeadLetter
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.transport import scripts
from tta_agent_coordination.transport.gate import Command

_A_STEP = 100
_ALL = 2**48
"""More dead letters than there can be, and small enough for Lua to count exactly."""


Move = Callable[[Sequence[bytes]], int]
"""Moves some of those named; returns how many."""


class DeadLetters:
    """The dead letters of all inboxes."""

    def __init__(self, calls: Calls, outbox: Outbox, directory: Directory) -> None:
        """Read through `calls`; what is replayed elsewhere is sent by `outbox`."""
        self._calls = calls
        self._directory = directory
        self._outbox = outbox

    def read(self, agent_id: AgentId, *, limit: int, offset: int) -> list[DeadLetter]:
        """Return dead letters, the oldest first."""
        found: list[bytes] = []
        if limit:
            found = self._calls.run(
                scripts.DEAD_LIST, agent_id, min(offset, _ALL), min(limit, _ALL)
            )
        letters = (records.dead_letter(*pair) for pair in zip(found[::2], found[1::2], strict=True))
        return [letter for letter in letters if letter is not None]

    def replay(
        self,
        agent_id: AgentId,
        message_ids: Sequence[str] | None,
        to: AgentId | None,
        limit: int | None,
    ) -> int:
        """Make dead letters receivable again, here or in the inbox of `to`."""
        if limit == 0:
            return 0
        if to is None or to == agent_id:
            if not self._directory.is_noted(agent_id) and not self._has_any(agent_id):
                return 0  # nothing is listed for a name that was mistyped
            self._directory.note((agent_id,))  # first: what holds a message is listed
            move = partial(self._replay_here, agent_id)
        else:
            move = partial(self._replay_to, agent_id, to)
        if message_ids is None:
            return self._replay_oldest(agent_id, move, limit)
        chosen = dict.fromkeys(map(records.raw_text, message_ids))
        return _moved(move, list(chosen), len(chosen) if limit is None else limit)

    def _has_any(self, agent_id: AgentId) -> bool:
        key = self._calls.keys.inbox(agent_id)["dead"]
        return bool(self._calls.link.commands.run(key, Command(("ZCARD", key)))[0])

    def _replay_oldest(self, agent_id: AgentId, move: Move, limit: int | None) -> int:
        if limit is None:
            names = self._oldest(agent_id, 0, _ALL)
            return _moved(move, names, len(names))
        moved = stayed = 0
        # Some may stay where they are; then it is the turn of those behind them.
        while moved < limit and (names := self._oldest(agent_id, stayed, limit - moved)):
            count = _moved(move, names, limit - moved)
            moved, stayed = moved + count, stayed + len(names) - count
        return moved

    def _oldest(self, agent_id: AgentId, skip: int, limit: int) -> list[bytes]:
        key = self._calls.keys.inbox(agent_id)["dead"]
        last = skip + min(max(limit, _A_STEP), _ALL) - 1
        [names] = self._calls.link.commands.run(key, Command(("ZRANGE", key, skip, last)))
        return names

    def purge(self, agent_id: AgentId, message_ids: Sequence[str] | None) -> int:
        """Drop dead letters: those named, or all."""
        if message_ids is None:
            return self._drop(agent_id, (), everything=True)
        names = [records.raw_text(name) for name in message_ids]
        return sum(self._drop(agent_id, some) for some in _steps(names))

    def _replay_here(self, agent_id: AgentId, names: Sequence[bytes]) -> int:
        rules = self._calls.policy
        options = (new_call_id(), rules.queue_size, milliseconds(rules.retention))
        command = self._calls.command(scripts.DEAD_REPLAY, agent_id, (*options, *names))
        return self._calls.store(agent_id, command)[0]

    def _replay_to(self, agent_id: AgentId, to: AgentId, names: Sequence[bytes]) -> int:
        # Two inboxes may be on two servers, so it is stored there first and dropped here after:
        # what is interrupted in between is recognized there when it is replayed again.
        key = self._calls.keys.inbox(agent_id)["dead_records"]
        stored = self._calls.link.commands.run(key, Command(("HMGET", key, *names)))[0]
        letters = [
            letter
            for name, record in zip(names, stored, strict=True)
            if record is not None and (letter := self._letter(agent_id, to, name, record))
        ]
        results = self._outbox.store_all(letters)
        moved = [
            records.raw_text(result.message_id)
            for result in results
            if result.delivered and not result.duplicate
        ]
        return self._drop(agent_id, moved) if moved else 0

    def _letter(self, agent_id: AgentId, to: AgentId, name: bytes, record: bytes) -> Letter | None:
        """Make a dead letter ready for another inbox; None if it is no message that can be sent."""
        found = records.dead_letter(name, record)
        held = None if found is None else found.queue_message
        if held is None or held.message.message_id != records.text(name):
            return None
        try:  # its size is no matter: it is in the store already
            letter = self._outbox.letter(held.message.sender, to, held.message, limit=sys.maxsize)
        except (TypeError, ValueError):  # NaN, say, that somebody else wrote
            return None
        call, error = _replay_id(agent_id, to, record), records.earlier_error(held.last_error)
        return attrs.evolve(letter, call=call, error=error)

    def _drop(self, agent_id: AgentId, names: Sequence[bytes], *, everything: bool = False) -> int:
        retention = milliseconds(self._calls.policy.retention)
        return self._calls.run(
            scripts.DEAD_PURGE, agent_id, new_call_id(), retention, int(everything), *names
        )


def _replay_id(agent_id: AgentId, to: AgentId, record: bytes) -> str:
    """Name the replay of one dead letter, which is one record: the same whenever it is tried."""
    what = b"%s %s %s" % (str(agent_id).encode(), str(to).encode(), record)
    return hashlib.blake2b(what, digest_size=8).hexdigest()


def _moved(move: Move, names: Sequence[bytes], limit: int) -> int:
    """Move dead letters in steps until they are so many; return how many they are."""
    moved = start = 0
    while start < len(names) and moved < limit:
        some = names[start : start + min(_A_STEP, limit - moved)]
        moved, start = moved + move(some), start + len(some)
    return moved


def _steps(names: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(names), _A_STEP):
        yield names[start : start + _A_STEP]
