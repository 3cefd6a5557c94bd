"""Where each process of the demo begins: ``python -m tta_agent_coordination.demo.child``.

Standard input brings its settings, one line of JSON, and ends when the process is to end: thus it
ends also when its parent is killed. The URL, which may hold a password, is on no command line.
Standard output takes what it tells, each a line of JSON after a mark; other lines are its last
words, should it fail.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tta_agent_coordination import (
    AgentId,
    AgentWorker,
    RedisAgentRegistry,
    RedisMessageCoordinator,
)
from tta_agent_coordination.demo.analyst import Analyst
from tta_agent_coordination.demo.planner import Planner
from tta_agent_coordination.demo.reporter import Reporter
from tta_agent_coordination.demo.settings import HEARTBEAT_TTL, LEASE, Settings

MARK = "\x1e"
"""Begins a line that tells something (the record separator of JSON text sequences)."""
ROLES = {"analyst": Analyst, "planner": Planner, "reporter": Reporter}


def main() -> None:
    """Be the agent that the settings name, until standard input ends."""
    settings = Settings(**json.loads(sys.stdin.readline()))
    me = AgentId.parse(settings.me)
    at = (settings.url, settings.key_prefix)
    with (
        RedisMessageCoordinator.from_url(*at, consumer_name=settings.me) as coordinator,
        RedisAgentRegistry.from_url(*at, heartbeat_ttl_s=HEARTBEAT_TTL) as registry,
        AgentWorker(
            ROLES[me.type](me, coordinator, Path(settings.folder), tell),
            coordinator,
            registry,
            threads=1,  # parsing keeps the GIL, so more would gain nothing
            visibility_timeout=LEASE,
            drain_timeout=LEASE,
        ),
    ):
        sys.stdin.read()


def tell(kind: str, **facts: Any) -> None:
    """Write one line to the parent."""
    sys.stdout.write(f"{MARK}{json.dumps({'kind': kind, 'facts': facts})}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
