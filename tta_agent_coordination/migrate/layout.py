"""The keys of the old layout: what belongs to which inbox.

``<prefix>:queue:<type>:<instance>`` and its like; the instance is ``default`` where there is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import attrs

from tta_agent_coordination.identity import REPLY_TYPE, AgentId

NO_INSTANCE = "default"
"""What stands in a key, and sometimes in a message, for an agent without an instance."""

SCHEDULED = ("high", "normal", "low")
"""The sorted sets, in the order in which they are served."""

_PRIORITIES = {"high": 9, "normal": 5, "low": 1}
_TYPES = {
    **dict.fromkeys(SCHEDULED, b"zset"),
    "reserved": b"hash",
    "deadlines": b"zset",
    "dlq": b"list",
    "queue": b"list",
    "subs": b"set",
}
_INBOX_KEY = re.compile(
    r"(?P<word>queue|reserved|reserved_deadlines|dlq|subs):(?P<type>[^:]+):(?P<instance>[^:]+)"
    r"|(?P<sched>sched):(?P<stype>[^:]+):(?P<sinstance>[^:]+):prio:(?P<priority>9|5|1)"
)
_OURS = re.compile(r"\{[^}]*\}:.*|inboxes|subscriptions", re.DOTALL)
_NAMES = {number: name for name, number in _PRIORITIES.items()}


def priority_of(name: str) -> int:
    """Return the number of a priority that a sorted set is named after."""
    return _PRIORITIES[name]


def name_of(priority: int) -> str:
    """Return the name of the sorted set of a priority."""
    return _NAMES[priority]


def agent(kind: str, instance: str | None) -> AgentId:
    """Return an agent of the old system.

    Raises:
        ValueError: It has a name that this library does not take.
    """
    if kind == REPLY_TYPE:
        raise ValueError(f"the type {REPLY_TYPE} is kept for replies")
    return AgentId(kind, None if instance == NO_INSTANCE else instance)


def pattern(prefix: str) -> str:
    """Return what ``SCAN`` matches all keys of a prefix with."""
    return re.sub(r"([\\*?\[\]^])", r"\\\1", prefix) + ":*"


@attrs.frozen
class Layout:
    """The keys that were found under a prefix.

    Attributes:
        prefix: What they begin with.
        inboxes: Agents whose inboxes have keys, sorted.
        agents: How many keys the old registry has.
        others: Keys that are no part of the layout, or of an agent with a name not allowed here,
            each with why.
    """

    prefix: str
    inboxes: tuple[AgentId, ...]
    agents: int
    others: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, prefix: str, keys: Iterable[str]) -> Layout:
        """Sort keys by what they are."""
        inboxes, others, agents = set[AgentId](), list[tuple[str, str]](), 0
        for key in sorted(set(keys)):
            rest = key[len(prefix) + 1 :]
            if rest.startswith("agents:"):
                agents += 1
            elif _OURS.fullmatch(rest) is None:
                try:
                    inboxes.add(_inbox_of(rest))
                except ValueError as error:
                    others.append((key, str(error)))
        return cls(prefix, tuple(sorted(inboxes, key=str)), agents, tuple(others))

    def keys_of(self, agent_id: AgentId) -> Mapping[str, str]:
        """Return the keys of an inbox by their names."""
        return keys_of(self.prefix, agent_id)


def keys_of(prefix: str, agent_id: AgentId) -> Mapping[str, str]:
    """Return the keys of an inbox in the old layout by their names."""
    inbox = f"{agent_id.type}:{agent_id.instance or NO_INSTANCE}"
    scheduled = {
        name: f"{prefix}:sched:{inbox}:prio:{number}" for name, number in _PRIORITIES.items()
    }
    return scheduled | {
        "reserved": f"{prefix}:reserved:{inbox}",
        "deadlines": f"{prefix}:reserved_deadlines:{inbox}",
        "dlq": f"{prefix}:dlq:{inbox}",
        "queue": f"{prefix}:queue:{inbox}",
        "subs": f"{prefix}:subs:{inbox}",
    }


def type_of(name: str) -> bytes:
    """Return the type, as ``TYPE`` says it, that a key of that name has."""
    return _TYPES[name]


def _inbox_of(rest: str) -> AgentId:
    match = _INBOX_KEY.fullmatch(rest)
    if match is None:
        raise ValueError("no key of the layout")
    return agent(match["type"] or match["stype"], match["instance"] or match["sinstance"])
