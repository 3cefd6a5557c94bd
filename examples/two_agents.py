"""Two agents that talk, and what becomes of a message that one of them cannot handle.

With the URL of a server as its argument it serves the two agents until Ctrl-C, so that you can look
at them with ``tta-coordination``.
"""

# [two_agents]
import logging
import sys
import time
from typing import Any

from tta_agent_coordination import (
    Agent,
    AgentId,
    AgentMessage,
    AgentWorker,
    RedisAgentRegistry,
    RedisMessageCoordinator,
    RejectMessage,
    RemoteAgentError,
)
from tta_agent_coordination.embedded import EmbeddedServer

COUNTER, EDITOR, AUTHOR = AgentId("counter"), AgentId("editor"), AgentId("author")


class Counter(Agent):
    """Counts words."""

    most = 8

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Answer a request; any exception but this one would be tried again."""
        words = payload["text"].split()
        if len(words) > self.most:
            raise RejectMessage(f"more than {self.most} words")  # a dead letter at once
        print(f"counted {len(words)} words", flush=True)
        return {"words": len(words)}


class Editor(Agent):
    """Judges a text by what the counter says."""

    def __init__(self, coordinator: RedisMessageCoordinator) -> None:
        """Ask through this coordinator."""
        super().__init__(EDITOR)
        self._coordinator = coordinator

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Ask the other agent, and answer."""
        try:
            counted = self._coordinator.request(EDITOR, COUNTER, payload, timeout=10.0)
        except RemoteAgentError as error:  # it failed for good: to ask again would not help
            raise RejectMessage(str(error)) from error
        return {"verdict": "too short" if counted.payload["words"] < 5 else "fine"}


def talk(url: str) -> None:
    """Serve both agents in threads of this process, and ask one of them."""
    counter = Counter(COUNTER)
    with (
        RedisMessageCoordinator.from_url(url) as coordinator,
        AgentWorker([counter, Editor(coordinator)], coordinator),
    ):
        text = {"text": "to be or not to be"}
        print(coordinator.request(AUTHOR, EDITOR, text, timeout=10.0).payload)
        look_at_a_dead_letter(coordinator, counter)


# [/two_agents]


# [dead_letter]
def look_at_a_dead_letter(coordinator: RedisMessageCoordinator, counter: Counter) -> None:
    """Send what the counter rejects, mend the counter, and let it try again."""
    speech = {"text": "to be or not to be that is the question"}
    coordinator.send_message(AUTHOR, COUNTER, AgentMessage(AUTHOR, COUNTER, speech))
    while not (letters := coordinator.dead_letters(COUNTER)):
        time.sleep(0.02)
    for letter in letters:
        print(f"dead: {letter.message_id}, {letter.reason}")

    counter.most = 100
    print(coordinator.replay_dead_letters(COUNTER), "replayed")
    while (stats := coordinator.stats(COUNTER)).leased + sum(stats.ready.values()):
        time.sleep(0.02)


# [/dead_letter]


def serve(url: str) -> None:
    """Serve both agents until Ctrl-C, and let them be seen in the registry."""
    with (
        RedisMessageCoordinator.from_url(url) as coordinator,
        RedisAgentRegistry.from_url(url) as registry,
    ):
        print("counter and editor are served until Ctrl-C", flush=True)
        AgentWorker([Counter(COUNTER), Editor(coordinator)], coordinator, registry).run()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        logging.basicConfig(stream=sys.stdout)  # what fails and what dies is a warning
        serve(sys.argv[1])
    else:
        logging.basicConfig(stream=sys.stdout, level=logging.ERROR)
        with EmbeddedServer() as server:
            talk(server.url)
