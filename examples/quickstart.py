"""A task goes from one agent to another, and is finished."""

# [readme]
from tta_agent_coordination import AgentId, AgentMessage, RedisMessageCoordinator
from tta_agent_coordination.embedded import EmbeddedServer

planner, analyst = AgentId("planner"), AgentId("analyst")

with EmbeddedServer() as server, RedisMessageCoordinator.from_url(server.url) as coordinator:
    task = AgentMessage(planner, analyst, {"text": "to be or not to be"})
    coordinator.send_message(planner, analyst, task)

    received = coordinator.receive(analyst, visibility_timeout=30.0, wait=5.0)
    if received is not None:  # for 30 seconds nobody else gets it
        print(len(received.message.payload["text"].split()), "words")
        print(coordinator.ack(analyst, received.token))  # LeaseOutcome.DONE: it is gone now
# [/readme]
