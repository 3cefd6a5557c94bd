"""A process of its own that registers an agent, and says what becomes of it.

Run as ``python -m tests.registry.process URL PREFIX ID TTL [STATE] [--clock SECONDS]``. It ends at
the first line that it reads: with ``deregister``, in good order.
"""

import argparse
import json
import sys
import time

from tests.registry.given import Stateful
from tta_agent_coordination import AgentId, RedisAgentRegistry


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("url", "prefix", "agent_id"):
        parser.add_argument(name)
    parser.add_argument("ttl", type=float)
    parser.add_argument("state", type=json.loads)
    parser.add_argument("--clock", type=float, default=0.0)
    asked = parser.parse_args()
    right = time.time
    time.time = lambda: right() + asked.clock
    agent = Stateful(AgentId.parse(asked.agent_id), asked.state)
    with RedisAgentRegistry.from_url(
        asked.url, asked.prefix, heartbeat_ttl_s=asked.ttl, grace_s=100 * asked.ttl
    ) as registry:
        registry.on_superseded(lambda agent_id: print("superseded", agent_id, flush=True))
        record = registry.register(agent)
        registry.start_heartbeats()
        print("registered", record.epoch, json.dumps(agent.given), flush=True)
        if sys.stdin.readline().strip() == "deregister":
            registry.deregister(agent.agent_id)


if __name__ == "__main__":
    main()
