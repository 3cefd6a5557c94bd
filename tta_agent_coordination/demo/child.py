"""Where each process of the demo begins: ``python -m tta_agent_coordination.demo.child``.

Standard input brings its settings, one line of JSON, and ends when the process is to end: thus it
ends also when its parent is killed. The URL, which may hold a password, is on no command line.
Standard output takes what it tells, each a line of JSON after a mark; other lines are its last
words, should it fail.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

from tta_agent_coordination import AgentId, RedisMessageCoordinator
from tta_agent_coordination.demo import analyst, planner, reporter
from tta_agent_coordination.demo.settings import ANALYST, PLANNER, REPORTER, Settings

MARK = "\x1e"
"""Begins a line that tells something (the record separator of JSON text sequences)."""

ROLES = {ANALYST.type: analyst.run, PLANNER.type: planner.run, REPORTER.type: reporter.run}


def main() -> None:
    """Be the agent that the settings name, until its work or standard input ends."""
    settings = Settings(**json.loads(sys.stdin.readline()))
    stop = threading.Event()
    threading.Thread(target=_await_end, args=(stop,), name="demo-input", daemon=True).start()
    with RedisMessageCoordinator.from_url(
        settings.url, settings.key_prefix, consumer_name=settings.me
    ) as coordinator:
        ROLES[AgentId.parse(settings.me).type](coordinator, settings, stop, tell)


def tell(kind: str, **facts: Any) -> None:
    """Write one line to the parent."""
    sys.stdout.write(f"{MARK}{json.dumps({'kind': kind, 'facts': facts})}\n")
    sys.stdout.flush()


def _await_end(stop: threading.Event) -> None:
    # Past sys.stdin, whose lock a thread that still reads would hold while Python shuts down.
    os.read(0, 1)
    stop.set()


if __name__ == "__main__":
    main()
