"""An inbox as its bare keys show it, and what must be true of them at any instant."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import attrs

from tta_agent_coordination import AgentId
from tta_agent_coordination.keys import Keys

PLACES = ("ready", "delayed", "leased", "dead")
"""Where a message can be; one that is in none of them is done."""

KEPT_WHEN_EMPTY = frozenset({"marks", "marks_old", "dead", "dead_records", "dead_dropped"})
"""What may be left of an inbox that holds nothing unfinished."""

Ask = Callable[[Sequence[Sequence[str]]], Sequence[Any]]
"""Sends commands in one round trip and returns their replies."""


@attrs.frozen(slots=False)
class RawInbox:
    """One look at the keys of an inbox; each set holds ids.

    Attributes:
        messages: Those with a body.
        ready: Those in the sorted set of this name; so for the next ones.
        delayed: As above.
        leased: As above.
        dead: As above.
        dead_records: Those with a record of their death.
        states: Those with a state.
        keys: The short names of the keys that exist.
    """

    messages: frozenset[str]
    ready: frozenset[str]
    delayed: frozenset[str]
    leased: frozenset[str]
    dead: frozenset[str]
    dead_records: frozenset[str]
    states: frozenset[str]
    keys: frozenset[str]

    @cached_property
    def unfinished(self) -> list[str]:
        """Every id that is ready, delayed or leased, as often as it is."""
        return sorted([*self.ready, *self.delayed, *self.leased])

    def faults(self) -> Iterator[str]:
        """Say what is wrong with the keys."""
        if self.unfinished != sorted(self.messages):
            yield f"bodies are {sorted(self.messages)}, but places hold {self.unfinished}"
        if not self.states <= self.messages:
            yield f"states of no message: {sorted(self.states - self.messages)}"
        if self.dead != self.dead_records:
            yield f"dead are {sorted(self.dead)}, with records {sorted(self.dead_records)}"
        if not self.messages and not self.keys <= KEPT_WHEN_EMPTY:
            yield f"empty, but has keys {sorted(self.keys - KEPT_WHEN_EMPTY)}"


def look(ask: Ask, keys: Keys, agent_id: AgentId) -> RawInbox:
    """Read the keys of an inbox in one round trip; changes nothing."""
    names = keys.inbox(agent_id)
    hashes, sets = ("messages", "dead_records", "states"), PLACES
    replies = ask([
        *(("HKEYS", names[name]) for name in hashes),
        *(("ZRANGE", names[name], "0", "-1") for name in sets),
        *(("EXISTS", key) for key in names.values()),
    ])  # fmt: skip
    listed = len(hashes) + len(sets)
    members = {
        name: frozenset(member.decode() for member in reply)
        for name, reply in zip((*hashes, *sets), replies[:listed], strict=True)
    }
    present = zip(names, replies[listed:], strict=True)
    return RawInbox(**members, keys=frozenset(name for name, exists in present if exists))
