"""An inbox as its bare keys show it, and what must be true of them at any instant."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from tests.support.servers import Client
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.keys import Keys

PLACES = ("ready", "delayed", "leased", "dead")
"""Where a message can be; one that is in none of them is done."""

KEPT_WHEN_EMPTY = frozenset({"marks", "marks_old", "dead", "dead_records", "dead_dropped"})
"""What may be left of an inbox that holds nothing unfinished."""


@dataclass(frozen=True)
class RawInbox:
    """One look at the keys of an inbox; each set holds ids.

    Attributes:
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

    def places_of(self, message_id: str) -> list[str]:
        """Return where a message is; guarantee 2.3 allows one place at most."""
        return [place for place in PLACES if message_id in getattr(self, place)]

    def faults(self) -> Iterable[str]:
        """Say what is wrong with the keys."""
        if self.unfinished != sorted(self.messages):
            yield f"bodies are {sorted(self.messages)}, but places hold {self.unfinished}"
        if not self.states <= self.messages:
            yield f"states of no message: {sorted(self.states - self.messages)}"
        if self.dead != self.dead_records:
            yield f"dead are {sorted(self.dead)}, with records {sorted(self.dead_records)}"
        if not self.messages and not self.keys <= KEPT_WHEN_EMPTY:
            yield f"empty, but has keys {sorted(self.keys - KEPT_WHEN_EMPTY)}"


def look(client: Client, prefix: str, agent_id: AgentId) -> RawInbox:
    """Read the keys of an inbox in one round trip; changes nothing."""
    names = Keys(prefix).inbox(agent_id)
    pipe = client.pipeline(transaction=False)
    for name in ("messages", "dead_records", "states"):
        pipe.hkeys(names[name])
    for name in PLACES:
        pipe.zrange(names[name], 0, -1)
    for key in names.values():
        pipe.exists(key)
    replies = pipe.execute()
    messages, dead_records, states, ready, delayed, leased, dead = (
        frozenset(member.decode() for member in reply) for reply in replies[:7]
    )
    present = zip(names, replies[7:], strict=True)
    return RawInbox(
        messages=messages,
        ready=ready,
        delayed=delayed,
        leased=leased,
        dead=dead,
        dead_records=dead_records,
        states=states,
        keys=frozenset(name for name, exists in present if exists),
    )
