"""An agent's process is killed. It is noticed, started again, and no message is lost.

The counter runs in a process of its own. It is killed while messages wait in its inbox. The
supervisor sees that it is dead, moves them to the inbox that all counters share, and starts another
under the same id, which goes on with the count of the first.
"""

import subprocess
import sys

from tta_agent_coordination import (
    Agent,
    AgentId,
    AgentMessage,
    AgentRecord,
    AgentWorker,
    MessageType,
    RedisAgentRegistry,
    RedisMessageCoordinator,
)
from tta_agent_coordination.embedded import EmbeddedServer

SHOP, COUNTER = AgentId("shop"), AgentId("counter", "1")
TTL = 0.5  # seconds; much shorter than in real life, to keep the example short


class Counter(Agent):
    """Adds up amounts; what it has counted so far outlives it."""

    agent_id = COUNTER
    total = 0

    def process(self, payload: dict[str, int]) -> dict[str, int]:
        """Add an amount."""
        self.total += payload["amount"]
        return {"total": self.total}

    def export_state(self) -> dict[str, int]:
        """Say what a successor must know; stored with every heartbeat."""
        return {"total": self.total}

    def import_state(self, state: dict[str, int]) -> None:
        """Go on where a predecessor ended."""
        self.total = state["total"]


def serve(url: str) -> None:
    """Be the process of the counter."""
    with (
        RedisMessageCoordinator.from_url(url) as coordinator,
        RedisAgentRegistry.from_url(url, heartbeat_ttl_s=TTL) as registry,
    ):
        AgentWorker(Counter(), coordinator, registry, threads=1, visibility_timeout=TTL).run()


class Supervisor:
    """Starts the process of the counter, and another when it is dead."""

    def __init__(self, url: str) -> None:
        """Start the first."""
        self._url = url
        self.process = self._start()

    def restart(self, record: AgentRecord) -> None:
        """Start another; `detect_and_recover` calls this, with a back-off and a limit."""
        print(f"{record.agent_id} is {record.liveness}: starting another")
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, __file__, self._url])


def main() -> None:
    """Let the counter count, kill it, and see that nothing is lost."""
    with (
        EmbeddedServer() as server,
        RedisMessageCoordinator.from_url(server.url) as coordinator,
        RedisAgentRegistry.from_url(server.url, heartbeat_ttl_s=TTL) as registry,
    ):
        supervisor = Supervisor(server.url)
        registry.on_unhealthy(supervisor.restart)
        registry.move_messages_of_dead(coordinator)

        first = coordinator.request(SHOP, COUNTER, {"amount": 100}, timeout=10)
        print(f"counted {first.payload['total']}")
        for event in registry.watch(timeout=1.0):  # time for one heartbeat with the new count
            print(f"{event.agent_id} {event.type}")

        supervisor.process.kill()
        supervisor.process.wait()
        print("killed the counter; sending it three messages all the same")
        for _ in range(3):
            event = AgentMessage(SHOP, COUNTER, {"amount": 10}, message_type=MessageType.EVENT)
            coordinator.send_message(SHOP, COUNTER, event)

        moved = 0
        for _ in registry.watch(timeout=10):  # wakes up at each change
            summary = registry.detect_and_recover()
            moved += summary.moved
            if summary.restarted:
                break
        print(f"moved {moved} messages to the inbox that all counters share")

        last = coordinator.request(SHOP, AgentId("counter"), {"amount": 1}, timeout=10)
        print(f"counted {last.payload['total']}")
        supervisor.process.terminate()  # SIGTERM: it finishes what it has in hand
        supervisor.process.wait()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(sys.argv[1])
    else:
        main()
