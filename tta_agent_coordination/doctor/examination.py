"""Looks at every server and at this process, and reports."""

from __future__ import annotations

import contextlib
import platform
import threading
from collections.abc import Iterable, Iterator
from importlib import metadata

from tta_agent_coordination.doctor import facts, rules
from tta_agent_coordination.doctor.facts import Facts
from tta_agent_coordination.doctor.report import Finding, Report, Status
from tta_agent_coordination.doctor.rules import Verdict
from tta_agent_coordination.errors import CoordinationError, CoordinatorUnavailableError
from tta_agent_coordination.transport.link import Link

REDIS_PY = ("6.4", "9")
"""The oldest redis-py that the tests run with, and the first that they do not."""


def examine(link: Link, prefix: str, *, call_timeout: float) -> Report:
    """Look at every server that holds keys, and at this process.

    Nothing is changed, and what cannot be looked at is ``unknown``. Each server is asked a dozen
    times, and nothing is asked again before the answer is there.

    Args:
        link: The way to the servers.
        prefix: What every key begins with.
        call_timeout: Seconds that a call may take, all attempts included.

    Raises:
        CoordinatorUnavailableError: No server can be reached, or the credentials are refused.
    """
    gate = link.commands
    seen: dict[str, Facts | CoordinatorUnavailableError] = {}
    for name, pool in gate.servers().items():
        try:
            seen[name] = facts.read(gate, pool, prefix)
        except CoordinatorUnavailableError as error:
            seen[name] = error
    gone = [found for found in seen.values() if not isinstance(found, Facts)]
    if len(gone) == len(seen):
        raise gone[0]
    findings = [finding for name, found in seen.items() for finding in _of_server(name, found)]
    slowest = max(found.round_trip for found in seen.values() if isinstance(found, Facts))
    local = {
        "call_timeout": rules.call_timeout(call_timeout, slowest),
        "threads": rules.threads(threading.active_count(), _room(seen.values())),
        **_of_process(),
    }
    return Report((*findings, *(Finding(name, *verdict) for name, verdict in local.items())))


def evictions(link: Link) -> list[Finding]:
    """Return which servers may drop keys of their own accord; what cannot be seen is left out."""
    found: list[Finding] = []
    with contextlib.suppress(CoordinationError):
        for server, pool in link.commands.servers().items():
            seen = facts.read_memory(link.commands, pool)
            found.append(Finding("eviction", *rules.judge(rules.eviction, seen), server))
    return [one for one in found if one.status in (Status.WARNING, Status.ERROR)]


def _room(seen: Iterable[Facts | CoordinatorUnavailableError]) -> float | None:
    """Return how many connections the server with the least room still takes, if one says so."""
    left = [
        float(most) - float(found.info["connected_clients"])
        for found in seen
        if isinstance(found, Facts)
        and (most := found.config.get("maxclients", found.info.get("maxclients")))
        and "connected_clients" in found.info
    ]
    return min(left, default=None)


def _of_server(server: str, found: Facts | CoordinatorUnavailableError) -> Iterator[Finding]:
    if not isinstance(found, Facts):
        yield Finding("reachable", Status.ERROR, str(found), "Start it, or fail over.", server)
        return
    yield Finding("reachable", Status.OK, "answers", "", server)
    for name, rule in rules.RULES.items():
        yield Finding(name, *rules.judge(rule, found), server)


def _of_process() -> dict[str, Verdict]:
    return {
        "python": Verdict(Status.OK, platform.python_version()),
        "redis_py": _redis_py(metadata.version("redis")),
        "hiredis": _hiredis(),
    }


def _redis_py(version: str) -> Verdict:
    least, beyond = ([int(part) for part in text.split(".")] for text in REDIS_PY)
    known = [int(part) for part in version.split(".")[:2]]
    if least <= known < beyond:
        return Verdict(Status.OK, version)
    advice = f"The tests run with {REDIS_PY[0]} and newer, below {REDIS_PY[1]}."
    return Verdict(Status.WARNING, version, advice)


def _hiredis() -> Verdict:
    try:
        return Verdict(Status.OK, metadata.version("hiredis"))
    except metadata.PackageNotFoundError:
        advice = (
            "pip install 'tta-agent-coordination[hiredis]' makes the parsing of replies faster."
        )
        return Verdict(Status.OK, "not installed", advice)
