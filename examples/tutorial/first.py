"""One message, from being sent to being done."""

# [tutorial_first]
from tta_agent_coordination import AgentId, AgentMessage, RedisMessageCoordinator
from tta_agent_coordination.embedded import EmbeddedServer

you, counter = AgentId("you"), AgentId("counter")

with EmbeddedServer() as server, RedisMessageCoordinator.from_url(server.url) as coordinator:
    message = AgentMessage(you, counter, {"text": "to be or not to be"})
    print(coordinator.send_message(you, counter, message))

    lost = coordinator.receive(counter, visibility_timeout=1.0)  # and never acknowledged
    print("now:", coordinator.receive(counter))

    received = coordinator.receive(counter, wait=10.0)
    assert lost is not None
    assert received is not None
    print("later:", received.message.payload, received.queue_message.delivery_attempts)

    print(coordinator.ack(counter, lost.token))
    print(coordinator.ack(counter, received.token))
# [/tutorial_first]
