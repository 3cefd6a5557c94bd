"""Handlers that take longer than a lease: renewed, given up in time, or run in a process."""

import logging
import subprocess
import sys
import time
from typing import Any

from tta_agent_coordination import (
    Agent,
    AgentId,
    AgentMessage,
    AgentWorker,
    RedisMessageCoordinator,
    current_message,
)
from tta_agent_coordination.embedded import EmbeddedServer

ARCHIVE, IMPORTER, SOLVER = AgentId("archive"), AgentId("importer"), AgentId("solver")
LEASE = 0.5  # seconds; much shorter than in real life, to keep the example short


# [long_steps]
class Importer(Agent):
    """Imports what has many parts, each of which takes long."""

    agent_id = IMPORTER

    def __init__(self) -> None:
        """Begin with nothing; in real life this is a table in a database."""
        super().__init__()
        self.imported: set[tuple[str, str]] = set()

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Import all parts that are not there yet."""
        current = current_message()
        for part in payload["parts"]:
            if current.lease_lost:  # somebody else may be at it by now
                raise TimeoutError(f"stopped before part {part}")  # raise: a return is an ack
            key = (current.message.message_id, part)
            if key not in self.imported:
                time.sleep(0.3)  # the work
                self.imported.add(key)
        attempt = current.received.queue_message.delivery_attempts
        print(f"{len(payload['parts'])} parts are there at attempt {attempt}")
        return {}


# [/long_steps]


# [long_process]
class Solver(Agent):
    """Computes in a process of its own, which cannot keep this one from renewing leases."""

    agent_id = SOLVER

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Compute a sum, and end the computation when it is of no use any more."""
        command = [sys.executable, "-c", f"print(sum(range({int(payload['limit'])})))"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as work:
            while True:
                try:
                    written, _ = work.communicate(timeout=0.1)
                except subprocess.TimeoutExpired:
                    if current_message().lease_lost:
                        work.kill()
                        raise
                else:
                    break
        if work.returncode:
            raise RuntimeError(f"the computation ended with status {work.returncode}")
        return {"sum": int(written)}


# [/long_process]


# [long_by_hand]
def handle_by_hand(coordinator: RedisMessageCoordinator) -> None:
    """Renew a lease without a worker: before each step, for longer than the step takes."""
    received = coordinator.receive(ARCHIVE, visibility_timeout=30.0)
    assert received is not None
    for step in ("read", "check", "store"):
        if not coordinator.extend(ARCHIVE, received.token, 30.0):
            return  # STALE: it was handed to somebody else
        print(step)
    print(coordinator.ack(ARCHIVE, received.token))


# [/long_by_hand]


def send(coordinator: RedisMessageCoordinator, whom: AgentId, **payload: Any) -> None:
    """Send what takes long."""
    coordinator.send_message(ARCHIVE, whom, AgentMessage(ARCHIVE, whom, payload))


def wait_until_done(coordinator: RedisMessageCoordinator, whom: AgentId) -> None:
    """Wait until nothing of an inbox is unfinished."""
    while (stats := coordinator.stats(whom)).leased + stats.delayed + sum(stats.ready.values()):
        time.sleep(0.02)


def main() -> None:
    """Import without a limit, then with one; compute likewise; and do it by hand."""
    with (
        EmbeddedServer() as server,
        RedisMessageCoordinator.from_url(server.url, backoff_base=0.1) as coordinator,
    ):
        with AgentWorker(Importer(), coordinator, visibility_timeout=LEASE):
            send(coordinator, IMPORTER, parts=["a", "b", "c", "d"])  # 1.2 s: longer than a lease
            wait_until_done(coordinator, IMPORTER)

        with AgentWorker(
            Importer(), coordinator, visibility_timeout=LEASE, max_handler_seconds=0.5
        ):
            send(coordinator, IMPORTER, parts=["a", "b", "c"])
            wait_until_done(coordinator, IMPORTER)

        with AgentWorker(Solver(), coordinator, visibility_timeout=LEASE):
            print(coordinator.request(ARCHIVE, SOLVER, {"limit": 10_000}, timeout=20.0).payload)

        with AgentWorker(Solver(), coordinator, visibility_timeout=LEASE, max_handler_seconds=0.5):
            coordinator.configure(retry_attempts=0)
            send(coordinator, SOLVER, limit=10**15)  # it would take months
            wait_until_done(coordinator, SOLVER)

        send(coordinator, ARCHIVE, name="papers")
        handle_by_hand(coordinator)


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, format="log: %(message)s")
    logging.getLogger("tta_agent_coordination").addFilter(lambda record: not record.exc_info)
    main()
