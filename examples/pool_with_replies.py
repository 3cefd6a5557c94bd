"""A pool of agents answers requests: each goes to one of them, and comes back to who asked."""

import logging
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tta_agent_coordination import (
    Agent,
    AgentId,
    AgentWorker,
    RedisMessageCoordinator,
    RejectMessage,
    RemoteAgentError,
)
from tta_agent_coordination.embedded import EmbeddedServer

TEXTS = ["to be or not to be", "the rest is silence", "words, words, words"] * 4


class Counter(Agent):
    """Counts the words of a text."""

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Return how many there are."""
        text = payload.get("text")
        if not isinstance(text, str):
            raise RejectMessage("there is no text to count")  # trying again would not help
        time.sleep(0.05)  # the work
        return {"words": len(text.split()), "by": self.name}


# What becomes of messages that fail is in the log.
logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="log: %(message)s")

# Each agent has an inbox of its own; that of their type is shared by all of them.
pool = [Counter(AgentId("counter", str(number))) for number in range(3)]
editor, any_counter = AgentId("editor"), AgentId("counter")

with (
    EmbeddedServer() as server,
    RedisMessageCoordinator.from_url(server.url) as coordinator,
    AgentWorker(pool, coordinator, threads=4),
    ThreadPoolExecutor(8) as askers,
):
    questions = [
        askers.submit(coordinator.request, editor, any_counter, {"text": text}, timeout=10.0)
        for text in TEXTS
    ]
    for question in questions:
        answer = question.result().payload
        print(f"{answer['words']} words, counted by {answer['by']}")

    try:
        coordinator.request(editor, any_counter, {"text": None}, timeout=10.0)
    except RemoteAgentError as error:
        print(f"tried {error.attempts} time: {error}")
