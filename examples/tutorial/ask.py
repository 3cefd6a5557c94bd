"""Ask an agent: ``python ask.py counter '{"text": "to be or not to be"}'``."""

# [tutorial_ask]
import json
import os
import sys

from tta_agent_coordination import AgentId, RedisMessageCoordinator

with RedisMessageCoordinator.from_url(os.environ["TTA_COORDINATION_URL"]) as coordinator:
    recipient, payload = AgentId.parse(sys.argv[1]), json.loads(sys.argv[2])
    answer = coordinator.request(AgentId("you"), recipient, payload, timeout=60.0)
    print(answer.payload)
# [/tutorial_ask]
