"""Which inboxes there are: an index in Redis, so that recovery finds those that nobody reads."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Sequence

from tta_agent_coordination import policy
from tta_agent_coordination.coordinator.calls import Calls, microseconds, milliseconds
from tta_agent_coordination.coordinator.inbox import Inbox
from tta_agent_coordination.identity import REPLY_TYPE, AgentId
from tta_agent_coordination.transport import scripts
from tta_agent_coordination.transport.gate import Command
from tta_agent_coordination.transport.scripts import Script

logger = logging.getLogger("tta_agent_coordination")

_MOST_REMEMBERED = 10_000


class Directory:
    """Notes the use of inboxes, and lists them.

    On a cluster the index is on another node than most inboxes, so no script can keep both. A
    sender notes an inbox before it sends, and again each minute; an inbox is struck out when it
    is empty and was not noted for ten minutes. After the server lost its data, the first to send
    to an inbox is told that it is new there, and notes it again. Thus what holds a message is
    listed. The index itself is forgotten when nobody has sent to
    any inbox, nor recovered all of them, for a week.
    """

    def __init__(self, calls: Calls) -> None:
        """Begin with nothing noted."""
        self._calls = calls
        self._noted: dict[AgentId, float] = {}

    def note(self, agent_ids: Iterable[AgentId]) -> Sequence[AgentId]:
        """See to it that these inboxes are listed; at most one round trip a minute for each.

        Returns:
            Those that were noted now, and not earlier.
        """
        now = time.monotonic()
        late = [
            agent_id
            for agent_id in agent_ids
            if agent_id.type != REPLY_TYPE  # it vanishes by itself
            and not self._is_noted(agent_id, now)
        ]
        if late:
            life = milliseconds(policy.INDEX_LIFETIME)
            self._run(scripts.TOUCH, life, *(str(agent_id) for agent_id in late))
            if len(self._noted) > _MOST_REMEMBERED:
                self._noted.clear()
            self._noted.update(dict.fromkeys(late, now))
        return late

    def is_noted(self, agent_id: AgentId) -> bool:
        """Whether `note` would have nothing to do, by what this process noted itself."""
        return self._is_noted(agent_id, time.monotonic())

    def _is_noted(self, agent_id: AgentId, now: float) -> bool:
        return now - self._noted.get(agent_id, -policy.INDEX_INTERVAL) < policy.INDEX_INTERVAL

    def note_again(self, agent_ids: Collection[AgentId]) -> None:
        """Note inboxes that the server may have lost, whenever they were noted."""
        for agent_id in agent_ids:
            self._noted.pop(agent_id, None)  # so that a repetition notes them, should this fail
        self.note(agent_ids)

    def inboxes(self) -> list[AgentId]:
        """Return all that are listed."""
        key = self._calls.keys.inboxes
        names = self._calls.link.commands.run(key, Command(("ZRANGE", key, 0, -1)))[0]
        found = map(_parse, names)
        return [agent_id for agent_id in found if agent_id is not None]

    def strike_out(self, empty: Iterable[AgentId]) -> None:
        """Strike out inboxes that were seen empty, unless they were in use of late."""
        names = [str(agent_id) for agent_id in empty]
        life = milliseconds(policy.INDEX_LIFETIME)
        self._run(scripts.FORGET, microseconds(policy.RECOVERY_GRACE), life, *names)

    def _run(self, script: Script, *arguments: str | int) -> None:
        key = self._calls.keys.inboxes
        words = ("EVALSHA", script.sha, 1, key, *arguments)
        self._calls.link.commands.run(key, Command(words, script))


def recover_all(directory: Directory, inbox: Inbox) -> int:
    """Move expired leases back in every inbox; return how many."""
    total, empty = 0, list[AgentId]()
    for found in directory.inboxes():
        moved, is_empty = inbox.recover(found)
        total += moved
        if is_empty:
            empty.append(found)
    directory.strike_out(empty)
    return total


def _parse(name: bytes) -> AgentId | None:
    try:
        return AgentId.parse(name.decode())
    except ValueError:
        logger.warning(
            "an entry in the list of inboxes is no agent and is passed over: %r",
            name,
            extra={"event": "index_entry_invalid"},
        )
        return None
