"""Who can find headlines?"""

# [tutorial_who]
import os

from tta_agent_coordination import RedisAgentRegistry

with RedisAgentRegistry.from_url(os.environ["TTA_COORDINATION_URL"]) as registry:
    for record in registry.discover(capability="find_headline", min_version="1.1.0"):
        print(record.agent_id, record.liveness, f"{record.load.busy} of {record.load.threads} busy")
# [/tutorial_who]
