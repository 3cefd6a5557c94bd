"""What a dramatiq actor becomes, with its options."""

# [from_dramatiq]
import hashlib
from typing import Any

from tta_agent_coordination import (
    Agent,
    AgentId,
    AgentMessage,
    AgentWorker,
    MessagePriority,
    RedisMessageCoordinator,
    RetryLater,
)
from tta_agent_coordination.embedded import EmbeddedServer

shop, mailer = AgentId("shop"), AgentId("mailer")


class Mailer(Agent):
    """Was @dramatiq.actor(max_retries=5, min_backoff=2_000, max_backoff=60_000)."""

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Do the work; what is returned goes only to those who asked with a request."""
        if payload.get("greylisted"):
            raise RetryLater(300.0)  # was: raise dramatiq.Retry(delay=300_000)
        return {"digest": hashlib.sha256(payload["to"].encode()).hexdigest()[:8]}


with (
    EmbeddedServer() as server,
    RedisMessageCoordinator.from_url(
        server.url, retry_attempts=5, backoff_base=2.0, backoff_max=60.0
    ) as coordinator,
    AgentWorker(Mailer(AgentId("mailer", "1")), coordinator),
):
    # send_mail.send_with_options(args=("a@example.org",), delay=10_000); a priority is the actor's
    letter = AgentMessage(shop, mailer, {"to": "a@example.org"}, priority=MessagePriority.HIGH)
    coordinator.send_message(shop, mailer, letter, delay=10.0)
    print(coordinator.request(shop, mailer, {"to": "b@example.org"}, timeout=10.0).payload)
# [/from_dramatiq]
