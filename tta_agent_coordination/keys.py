"""The names of all keys in Redis; nothing else makes one.

``<prefix>:{<agent id>}:<name>`` for what belongs to an inbox: the braces are a hash tag, so that
all keys of one inbox are in one slot of a cluster. ``<prefix>:{@agents}:<name>`` for the registry,
under a tag that no inbox can have. ``<prefix>:{@circuit/<name>}:<name>`` for a circuit breaker of
the user's. ``<prefix>:<name>`` for the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tta_agent_coordination import checks
from tta_agent_coordination.identity import AgentId

DEFAULT_KEY_PREFIX = "tta-coord"
"""What every key begins with, unless something else is asked for."""

_PREFIX = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")

INBOX_KEYS = (
    "messages", "ready", "delayed", "leased", "states", "claims", "marks", "marks_old",
    "seq", "wake", "dead", "dead_records", "dead_dropped",
)  # fmt: skip

AGENT_KEYS = ("records", "states", "ends")

_LONGEST_CIRCUIT = 128
"""Characters of the name of a circuit breaker."""

CIRCUIT_KEYS = ("circuit", "probes", "marks", "marks_old")


class Keys:
    """The keys under one prefix."""

    def __init__(self, prefix: str) -> None:
        """Check the prefix.

        Raises:
            ValueError: It has a character that would disturb hash tags or patterns.
        """
        if _PREFIX.fullmatch(checks.instance_of("key_prefix", prefix, str)) is None:
            raise ValueError(
                "key_prefix must be 1 to 128 characters of A-Z a-z 0-9 _ . : / -, not "
                f"{checks.describe(prefix)}"
            )
        self.prefix = prefix
        self.inboxes = f"{prefix}:inboxes"
        self.subscriptions = f"{prefix}:subscriptions"
        self.agents: Mapping[str, str] = {
            name: f"{prefix}:{{@agents}}:{name}" for name in AGENT_KEYS
        }

    def inbox(self, agent_id: AgentId) -> Mapping[str, str]:
        """Return the keys of an inbox by their names."""
        tag = f"{self.prefix}:{{{agent_id}}}"
        return {name: f"{tag}:{name}" for name in INBOX_KEYS}

    def replicated(self, agent_id: AgentId) -> str:
        """Return a key beside an inbox that exists for a millisecond, for `WAIT` to wait for."""
        return f"{self.prefix}:{{{agent_id}}}:replicated"

    def interrupt(self, agent_id: AgentId, nonce: str) -> str:
        """Return a key beside an inbox that ends the waiting of one worker."""
        return f"{self.prefix}:{{{agent_id}}}:interrupt:{nonce}"

    def migrated(self, agent_id: AgentId) -> str:
        """Return a key beside an inbox that says what it got from another layout."""
        return f"{self.prefix}:{{{agent_id}}}:migrated"

    def circuit(self, name: str) -> Mapping[str, str]:
        """Return the keys of a circuit breaker by their names.

        A brace in a name does no harm: the tag is what all of them have before the first ``}``.

        Raises:
            ValueError: `name` is empty or too long, or has a character that cannot be printed.
        """
        checks.instance_of("name", name, str)
        if not 1 <= len(name) <= _LONGEST_CIRCUIT or not name.isprintable():
            raise ValueError(
                f"the name of a circuit breaker must be 1 to {_LONGEST_CIRCUIT} printable "
                f"characters, not {checks.describe(name)}"
            )
        tag = f"{self.prefix}:{{@circuit/{name}}}"
        return {key: f"{tag}:{key}" for key in CIRCUIT_KEYS}
