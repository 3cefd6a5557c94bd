"""Run the demo from end to end, and leave nothing behind."""

from __future__ import annotations

import secrets
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from tta_agent_coordination import (
    AgentRegistry,
    CoordinationError,
    MessageCoordinator,
    RedisAgentRegistry,
    RedisMessageCoordinator,
)
from tta_agent_coordination.demo.analysis import analyze_tasks
from tta_agent_coordination.demo.corpus import plan, standard_library
from tta_agent_coordination.demo.processes import Processes
from tta_agent_coordination.demo.report import Report
from tta_agent_coordination.demo.settings import HEARTBEAT_TTL, INBOXES, Settings
from tta_agent_coordination.demo.stage import Stage, Tally
from tta_agent_coordination.embedded import EmbeddedServer
from tta_agent_coordination.terminal import Display

DEFAULT_ANALYSTS = 3


def run(
    out: TextIO,
    *,
    url: str | None = None,
    folder: Path | None = None,
    analysts: int = DEFAULT_ANALYSTS,
) -> bool:
    """Analyze a folder of Python files with several processes and with one; compare.

    Args:
        out: Where the progress and the report go.
        url: Of the Redis server; None for an embedded one.
        folder: What to analyze; None for the standard library of this interpreter.
        analysts: How many processes share the work.

    Returns:
        Whether both found out the same.

    Raises:
        CoordinationError: There is nothing to analyze, Redis is not there, or a process failed.
    """
    home = (folder or standard_library()).resolve()
    tasks = plan(home)
    display = Display.on(out)
    display.say(f"{len(tasks)} requests about {home}, {analysts} analysts")
    tally = _play(url, home, analysts, display)
    display.say("the same work once more, in one plain process")
    begin = time.monotonic()
    plain = analyze_tasks(home, tasks)
    report = Report(tasks, tally, plain, time.monotonic() - begin, analysts)
    display.say("\n".join(report.lines()))
    return not report.differences


def _play(url: str | None, folder: Path, analysts: int, display: Display) -> Tally:
    with ExitStack() as stack:
        address = url or stack.enter_context(EmbeddedServer()).url
        settings = Settings(address, f"tta-demo-{secrets.token_hex(6)}", str(folder))
        server = (address, settings.key_prefix)
        coordinator = stack.enter_context(RedisMessageCoordinator.from_url(*server))
        registry = stack.enter_context(
            RedisAgentRegistry.from_url(*server, heartbeat_ttl_s=HEARTBEAT_TTL)
        )
        stack.enter_context(_cleared(coordinator, registry))
        processes = stack.enter_context(Processes(settings))
        return Stage(coordinator, registry, processes, display).play(analysts)


@contextmanager
def _cleared(coordinator: MessageCoordinator, registry: AgentRegistry) -> Generator[None]:
    """Find out that the server is there; at the end, leave nothing behind."""
    for inbox in INBOXES:
        coordinator.stats(inbox)
    try:
        yield
    finally:
        with suppress(CoordinationError):
            for inbox in INBOXES:
                coordinator.purge(inbox)
                coordinator.purge_dead_letters(inbox)
            for record in registry.list_registered(include_dead=True):
                registry.deregister(record.agent_id)
