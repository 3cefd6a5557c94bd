"""A worker in a process of its own, which keeps a journal and may be killed.

``python -m tests.workers.process --url URL --prefix PREFIX --journal FILE …``

It ends with SIGTERM, and by itself when its parent is gone.
"""

import argparse
import ctypes
import logging
import os
import threading
import time
from pathlib import Path

from tests.workers.given import OWN, Payload, begins_nothing
from tta_agent_coordination import (
    Agent,
    AgentId,
    AgentWorker,
    RedisAgentRegistry,
    RedisMessageCoordinator,
    current_message,
)
from tta_agent_coordination.worker.desk import Desk

RETRY_ATTEMPTS = 50


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--agent", default=str(OWN))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--lease", type=float, default=0.6)
    parser.add_argument("--heartbeat-ttl", type=float, default=0.0)
    parser.add_argument("--drain-timeout", type=float, default=10.0)
    parser.add_argument("--note-events", action="store_true")
    parser.add_argument("--begins-nothing", action="store_true")
    return parser.parse_args()


class Diligent(Agent):
    """Writes down when it begins and ends; each line is one write, and survives a SIGKILL."""

    def __init__(self, agent_id: AgentId, journal: Path) -> None:
        super().__init__(agent_id)
        self._journal = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def process(self, payload: Payload) -> Payload:
        message_id = current_message().message.message_id
        self.note("begin", message_id)
        threading.Event().wait(payload.get("wait", 0.0))
        if "hold" in payload:
            self.note("hold", f"{hold_the_interpreter(payload['hold']):.2f}")
        lost = "lost" if current_message().lease_lost else "held"
        self.note("end", message_id, lost)
        return {}

    def note(self, *words: str) -> None:
        os.write(self._journal, f"{' '.join(words)}\n".encode())


def hold_the_interpreter(seconds: float) -> float:
    """Be in one call of C that lets no other thread run; return how many seconds it took."""
    begun = time.monotonic()
    ctypes.PyDLL(None).poll(None, 0, round(seconds * 1000))
    return time.monotonic() - begun


def end_with_parent() -> None:
    parent = os.getppid()

    def watch() -> None:
        pause = threading.Event()
        while os.getppid() == parent:
            pause.wait(0.5)
        os._exit(3)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


class Noting(logging.Handler):
    """Writes the events of the log into the journal."""

    def __init__(self, agent: Diligent) -> None:
        super().__init__()
        self._agent = agent

    def emit(self, record: logging.LogRecord) -> None:
        self._agent.note("log", getattr(record, "event", "-"))


def main() -> None:
    options = arguments()
    logging.basicConfig(level=logging.WARNING)
    end_with_parent()
    if options.begins_nothing:
        Desk.take = begins_nothing
    agent = Diligent(AgentId.parse(options.agent), options.journal)
    if options.note_events:
        logger = logging.getLogger("tta_agent_coordination")
        logger.setLevel(logging.INFO)
        logger.addHandler(Noting(agent))
    coordinator = RedisMessageCoordinator.from_url(
        options.url, options.prefix, retry_attempts=RETRY_ATTEMPTS
    )
    registry = None
    if options.heartbeat_ttl:
        registry = RedisAgentRegistry.from_url(
            options.url, options.prefix, heartbeat_ttl_s=options.heartbeat_ttl
        )
    worker = AgentWorker(
        agent,
        coordinator,
        registry,
        threads=options.threads,
        visibility_timeout=options.lease,
        drain_timeout=options.drain_timeout,
    )
    agent.note("ready", "-")
    worker.run()
    agent.note("stopped", "-")
    if registry is not None:
        registry.close()
    coordinator.close()


if __name__ == "__main__":
    main()
