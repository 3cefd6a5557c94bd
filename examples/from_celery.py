"""What a celery task becomes: an agent that serves its inbox, and messages to it."""

# [from_celery]
from typing import Any

from tta_agent_coordination import (
    Agent,
    AgentId,
    AgentMessage,
    AgentWorker,
    RedisMessageCoordinator,
    RejectMessage,
)
from tta_agent_coordination.embedded import EmbeddedServer

web, resizer = AgentId("web"), AgentId("resizer")


class Resizer(Agent):
    """Was a function with @app.task(acks_late=True, autoretry_for=(OSError,))."""

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Do the work; an exception is retried, up to retry_attempts times."""
        if payload["width"] <= 0:
            raise RejectMessage("a width is positive")  # no retry: a dead letter at once
        return {"made": f"{payload['path']} of width {payload['width']}"}


with EmbeddedServer() as server, RedisMessageCoordinator.from_url(server.url) as coordinator:
    worker = AgentWorker(Resizer(AgentId("resizer", "1")), coordinator, threads=4)
    with worker:
        # resize.delay("a.png", width=80)
        task = AgentMessage(web, resizer, {"path": "a.png", "width": 80})
        coordinator.send_message(web, resizer, task)
        # resize.apply_async(("b.png",), {"width": 80}, countdown=60)
        later = AgentMessage(web, resizer, {"path": "b.png", "width": 80})
        coordinator.send_message(web, resizer, later, delay=60.0)
        # resize.delay("c.png", width=80).get(timeout=5)
        answer = coordinator.request(web, resizer, {"path": "c.png", "width": 80}, timeout=10.0)
        print(answer.payload["made"])
# [/from_celery]
