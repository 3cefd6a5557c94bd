"""A task goes from one agent to another, and is finished or given back."""

# [readme]
from pathlib import Path

from tta_agent_coordination import AgentId, AgentMessage, RedisMessageCoordinator
from tta_agent_coordination.embedded import EmbeddedServer

planner, analyst = AgentId("planner"), AgentId("analyst")

with EmbeddedServer() as server, RedisMessageCoordinator.from_url(server.url) as coordinator:
    task = AgentMessage(planner, analyst, {"path": __file__})
    coordinator.send_message(planner, analyst, task)

    received = coordinator.receive(analyst, visibility_timeout=30.0, wait=5.0)
    if received is not None:
        try:
            text = Path(received.message.payload["path"]).read_text("utf-8")
        except OSError as error:
            coordinator.nack(analyst, received.token, error=str(error))  # tried again later
        else:
            print(f"counted {len(text.splitlines())} lines")
            print(coordinator.ack(analyst, received.token))  # LeaseOutcome.DONE
# [/readme]
