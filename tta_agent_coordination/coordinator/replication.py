"""Waiting, after a send, until replicas have what was stored."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.keys import Keys
from tta_agent_coordination.policy import ReplicaPolicy
from tta_agent_coordination.transport.gate import Command

logger = logging.getLogger("tta_agent_coordination")


class Replicas:
    """Asks, in the round trip of a send, how many replicas have it; logs when too few do."""

    def __init__(self, keys: Keys, rules: ReplicaPolicy) -> None:
        """Wait for as many replicas, and as long, as `rules` say."""
        self._keys = keys
        self._wanted = rules.replicas
        self._wait = Command(
            ("WAIT", rules.replicas, max(round(rules.replicas_timeout * 1000), 1)), trailing=True
        )
        self._too_few = False

    def after(self, agent_id: AgentId) -> Sequence[Command]:
        """Return what follows the commands that store something in an inbox."""
        # WAIT asks for what its own connection has written. A send that is repeated on another
        # one finds its message stored and writes nothing: without a write of its own, the answer
        # would be that all replicas have it.
        mark = Command(("SET", self._keys.replicated(agent_id), "", "PX", 1), trailing=True)
        return mark, self._wait

    def count(self, replies: Sequence[Any]) -> int:
        """Return how many replicas have it, by the replies to `after`."""
        replicas: int = replies[-1]
        too_few = replicas < self._wanted
        if too_few is not self._too_few:
            self._too_few = too_few
            if too_few:
                logger.warning(
                    "what is sent reaches %d of %d replicas in time: a fail-over may lose it",
                    replicas, self._wanted,
                    extra={"event": "replicas_too_few", "replicas": replicas},
                )  # fmt: skip
            else:
                logger.info(
                    "what is sent reaches %d replicas again",
                    replicas,
                    extra={"event": "replicas_enough", "replicas": replicas},
                )
        return replicas
