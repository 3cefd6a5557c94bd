"""The reporter: collects the results, each file once."""

from __future__ import annotations

import threading
from typing import Any

from tta_agent_coordination import MessageCoordinator
from tta_agent_coordination.demo.settings import REPORTER, WAIT, Settings, Tell

A_BATCH = 100
LEASE = 10.0
"""Seconds: nobody else reads this inbox, so nobody waits for its leases to pass."""


def run(
    coordinator: MessageCoordinator, settings: Settings, stop: threading.Event, tell: Tell
) -> None:
    """Collect results until `stop` is set, and tell them."""
    del settings
    results: dict[str, dict[str, Any]] = {}
    repeated = 0
    while not stop.is_set():
        batch = coordinator.receive_many(REPORTER, A_BATCH, LEASE, wait=WAIT)
        for received in batch:
            repeated += not collect(received.message.payload, results)
        coordinator.ack_many(REPORTER, [received.token for received in batch])
        tell("handled", inbox=str(REPORTER), count=len(batch))
    tell("results", results=results, repeated=repeated)


def collect(result: dict[str, Any], results: dict[str, dict[str, Any]]) -> bool:
    """Keep a result, unless there is one of that file; return whether it was kept.

    Delivery is at least once. An inbox recognizes a result that is sent twice only within its
    dedup window, and hands one out again when its lease passes before the ack arrives. Who counts
    must therefore know what was counted, by the name of the thing and not of the message.
    """
    return results.setdefault(result["file"], result) is result
