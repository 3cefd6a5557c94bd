"""A script with agents in background threads: it hands out work, goes on, and collects it."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tta_agent_coordination import Agent, AgentId, AgentWorker, RedisMessageCoordinator
from tta_agent_coordination.embedded import EmbeddedServer

# [script]
script, squarer = AgentId("script"), AgentId("squarer")


class Squarer(Agent):
    """Squares numbers."""

    agent_id = squarer

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Return the square of a number."""
        return {"square": payload["number"] ** 2}


def main(url: str) -> None:
    """Square some numbers."""
    with (
        RedisMessageCoordinator.from_url(url) as coordinator,
        AgentWorker(Squarer(), coordinator, threads=2) as worker,  # its threads end with the block
        ThreadPoolExecutor(4) as askers,
    ):
        answers = [
            askers.submit(coordinator.request, script, squarer, {"number": number}, timeout=10.0)
            for number in range(5)
        ]
        print("the script goes on meanwhile")
        print([answer.result().payload["square"] for answer in answers])
        print(f"the worker is well: {worker.health().last_error is None}")


# [/script]

if __name__ == "__main__":
    with EmbeddedServer() as server:
        main(server.url)
