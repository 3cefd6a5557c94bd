"""What LPUSH and BRPOP become: the same two calls, and an ack."""

# [from_lists]
from tta_agent_coordination import AgentId, AgentMessage, RedisMessageCoordinator
from tta_agent_coordination.embedded import EmbeddedServer

crawler, indexer = AgentId("crawler"), AgentId("indexer")

with EmbeddedServer() as server, RedisMessageCoordinator.from_url(server.url) as coordinator:
    # redis.lpush("indexer", json.dumps({"url": "https://example.org"}))
    page = AgentMessage(crawler, indexer, {"url": "https://example.org"})
    result = coordinator.send_message(crawler, indexer, page)
    if not result.delivered:
        raise SystemExit(f"slow down: {result.error}")  # lists grow until memory ends

    # _, raw = redis.brpop("indexer", timeout=5)
    received = coordinator.receive(indexer, visibility_timeout=30.0, wait=5.0)
    if received is not None:
        try:
            print("index", received.message.payload["url"])
        except OSError as error:
            coordinator.nack(indexer, received.token, error=str(error))  # again, after a pause
        else:
            coordinator.ack(indexer, received.token)  # until now, a crash would bring it back
# [/from_lists]
