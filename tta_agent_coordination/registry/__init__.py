"""The agent registry on Redis.

`core` is the class that users make. `store` reads and writes registrations. `pulse` keeps the
agents of this process alive: `local` is what it knows of each, `survey` asks them, `heart` is the
thread that beats. `catalog` chooses among agents, `events` tells what changed. `supervision` looks
after those that are unwell: `recovery` restarts them, `adoption` moves their messages.
"""

from tta_agent_coordination.registry.core import RedisAgentRegistry

__all__ = ["RedisAgentRegistry"]
