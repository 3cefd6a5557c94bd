"""A WSGI application that counts, loaded before a server forks: it sends, and is scraped.

``REDIS`` is the URL of the server; the page of metrics is that of ``examples/observability.py``.
"""

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from observability import count, metrics_page

from tests.observability.given import SENDER, WORKER, message
from tta_agent_coordination import RedisAgentRegistry, RedisMessageCoordinator

coordinator = RedisMessageCoordinator.from_url(os.environ["REDIS"])
agents = RedisAgentRegistry.from_url(os.environ["REDIS"])
registry = count(coordinator, agents)
coordinator.send_message(SENDER, WORKER, message())  # before the fork, counted by the parent


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/metrics":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [metrics_page(coordinator, registry)]
    coordinator.send_message(SENDER, WORKER, message())
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"pid": os.getpid()}).encode()]
