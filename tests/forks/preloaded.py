"""A WSGI application that does before the fork all that it can: it calls, waits and serves.

``REDIS`` is the URL of the server; ``THREADS`` says whether it starts threads.
"""

import json
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from tests.workers.given import ASKER, LONG, OWN, Payload
from tta_agent_coordination import (
    Agent,
    AgentWorker,
    RedisAgentRegistry,
    RedisMessageCoordinator,
)
from tta_agent_coordination.transport.gate import Command

PREFIX = "preloaded"

coordinator = RedisMessageCoordinator.from_url(os.environ["REDIS"], PREFIX)
registry = RedisAgentRegistry.from_url(os.environ["REDIS"], PREFIX)


class Echo(Agent):
    """Says what it was asked, and by which process."""

    agent_id = OWN

    def process(self, payload: Payload) -> Payload:
        return {"echo": payload["number"], "by": os.getpid()}


worker = AgentWorker(Echo(), coordinator, registry, threads=2)
coordinator.stats(OWN)
if os.environ["THREADS"] == "yes":
    worker.start()
    threading.Thread(
        target=coordinator.receive, args=(ASKER, 60.0), kwargs={"wait": 60.0}, daemon=True
    ).start()
    assert coordinator.request(ASKER, OWN, {"number": 0}, timeout=LONG).payload["echo"] == 0


def ask(number: int) -> Payload:
    return coordinator.request(ASKER, OWN, {"number": number}, timeout=LONG).payload


def client(_: int) -> Payload:
    return {"client": coordinator.internals.link.commands.run("key", Command(("CLIENT", "ID")))[0]}


def health(_: int) -> Payload:
    said = worker.health()
    threads = [one.name for one in threading.enumerate() if one.name.startswith("tta-")]
    beats = registry.snapshot()["heartbeat"]["running"]
    return {
        "running": said.running,
        "error": said.last_error,
        "threads": threads,
        "beats": beats,
    }


def start(_: int) -> Payload:
    worker.start()
    return health(0)


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    number = int(parse_qs(environ["QUERY_STRING"]).get("number", ["0"])[0])
    act = {"/ask": ask, "/client": client, "/health": health, "/start": start}
    answer = act[environ["PATH_INFO"]](number)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"pid": os.getpid(), **answer}).encode()]
