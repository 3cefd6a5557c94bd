"""What the processes of a run agree on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs

from tta_agent_coordination import AgentId, CoordinationError

INBOX, PRODUCER = AgentId("worker"), AgentId("producer")
LEASE = 1.0
"""Seconds; short, so that what a killed process held comes back while others watch."""
RETRY_ATTEMPTS = 30
"""So many that a fault alone makes no dead letter; some are made on purpose."""
CALL_TIMEOUT = 1.5
"""Seconds; short, so that processes give up and repeat while a fault lasts."""
OPTIONS: dict[str, Any] = {
    "call_timeout": CALL_TIMEOUT,
    "retry_attempts": RETRY_ATTEMPTS,
    "queue_size": 300,
    "backoff_base": 0.05,
    "backoff_max": 0.5,
}
"""Of every coordinator."""
REPLICATED: dict[str, Any] = {"replicas_timeout": 0.3, "call_timeout": 2 * CALL_TIMEOUT}
"""Of those that wait for replicas, beside `OPTIONS`."""


class ChaosError(CoordinationError):
    """A run could not be carried out."""


@attrs.frozen
class Settings:
    """What a process is told when it starts.

    Attributes:
        url: Of the server; may hold a password, so it is on no command line.
        prefix: Of the keys of this run.
        folder: Where its diary goes.
        name: Of the process.
        role: ``produce``, ``consume`` or ``serve``.
        seed: What its dice begin with.
        clock: Hours by which its clock is wrong.
        replicas: How many replicas must have what it sends.
    """

    url: str
    prefix: str
    folder: str
    name: str
    role: str
    seed: int = 0
    clock: float = 0.0
    replicas: int = 0

    def write(self, path: Path) -> None:
        """Write them to a file that only this user can read."""
        path.touch(mode=0o600)
        path.write_text(json.dumps(attrs.asdict(self)))
