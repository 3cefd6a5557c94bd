"""The planner: asks for an analysis of each file."""

from __future__ import annotations

import threading
from pathlib import Path

from tta_agent_coordination import AgentMessage, MessageCoordinator, MessageType
from tta_agent_coordination.demo.corpus import Task, plan
from tta_agent_coordination.demo.settings import ANALYST, HOLD, PLANNER, REPORTER, Settings, Tell

A_BATCH = 100
FULL_PAUSE = 0.05
"""Seconds before what did not fit into a full inbox is sent again."""


def run(
    coordinator: MessageCoordinator, settings: Settings, stop: threading.Event, tell: Tell
) -> None:
    """Send one request for each task, then end."""
    requests = [request(number, task) for number, task in enumerate(plan(Path(settings.folder)))]
    for start in range(0, len(requests), A_BATCH):
        send(coordinator, requests[start : start + A_BATCH], stop, tell)
    tell("planned")


def request(number: int, task: Task) -> AgentMessage:
    """Return the request for a task.

    Its id follows from its number: a planner that dies and begins again asks for nothing twice.
    """
    return AgentMessage(
        PLANNER,
        ANALYST,
        {"file": task.file, "source": task.source},
        message_type=MessageType.REQUEST,
        priority=task.priority,
        message_id=f"request-{number}",
        reply_to=REPORTER,
        headers={HOLD: "yes"} if task.hold else {},
    )


def send(
    coordinator: MessageCoordinator,
    requests: list[AgentMessage],
    stop: threading.Event,
    tell: Tell,
) -> None:
    """Send requests; while the inbox is full, wait and send the rest again."""
    while requests and not stop.is_set():
        results = coordinator.send_many(PLANNER, requests)
        refused = [one for one, sent in zip(requests, results, strict=True) if not sent.delivered]
        tell("sent", count=len(requests) - len(refused))
        requests = refused
        stop.wait(FULL_PAUSE if refused else 0)
