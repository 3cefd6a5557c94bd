"""Who wants what is published; kept in Redis until it is withdrawn."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from tta_agent_coordination import checks
from tta_agent_coordination.coordinator.calls import Calls
from tta_agent_coordination.delivery import MessageSubscription
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.message import AgentMessage, MessageType
from tta_agent_coordination.transport.gate import Command

logger = logging.getLogger("tta_agent_coordination")


class Subscriptions:
    """The subscriptions under one prefix: one hash, so that each change is one step."""

    def __init__(self, calls: Calls) -> None:
        """Keep them through `calls`."""
        self._calls = calls

    def add(self, wish: MessageSubscription) -> None:
        """Store a subscription; storing it again changes nothing."""
        self._run("HSET", wish.subscription_id, _encode(wish))

    def remove(self, wish: MessageSubscription) -> None:
        """Withdraw a subscription; withdrawing it again changes nothing."""
        self._run("HDEL", wish.subscription_id)

    def recipients(self, message: AgentMessage) -> list[AgentId]:
        """Return who is to get a copy of `message`, each once."""
        wishes = (_decode(raw) for raw in self._run("HVALS"))
        ids = {wish.agent_id for wish in wishes if wish is not None and wish.matches(message)}
        return sorted(ids, key=str)

    def _run(self, verb: str, *arguments: str) -> Any:
        key = self._calls.keys.subscriptions
        return self._calls.link.commands.run(key, Command((verb, key, *arguments)))[0]


def subscription(
    agent_id: AgentId, types: Sequence[MessageType], topics: Sequence[str]
) -> MessageSubscription:
    """Return a subscription whose id follows from what is asked."""
    about = tuple(dict.fromkeys(topics))
    question = json.dumps([str(agent_id), *sorted(types), sorted(about)])
    digest = hashlib.blake2b(question.encode("utf-8", "surrogatepass"), digest_size=16)
    return MessageSubscription(digest.hexdigest(), agent_id, tuple(types), about)


def _encode(wish: MessageSubscription) -> str:
    return json.dumps({
        "id": wish.subscription_id,
        "agent": str(wish.agent_id),
        "types": list(wish.message_types),
        "topics": list(wish.topics),
    })  # fmt: skip


@lru_cache(maxsize=4096)
def _decode(raw: bytes) -> MessageSubscription | None:
    try:
        data = json.loads(raw)
        types = tuple(MessageType(name) for name in data["types"])
        return MessageSubscription(
            data["id"],
            AgentId.parse(data["agent"]),
            types,
            checks.strings("topics", data["topics"]),
        )
    except (KeyError, TypeError, ValueError, RecursionError):
        logger.warning(
            "a subscription does not decode and is passed over: %r",
            raw[:200],
            extra={"event": "subscription_invalid"},
        )
        return None
