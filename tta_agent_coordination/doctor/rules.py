"""How what was read of a server is judged: one rule a finding, from `Facts` to a `Verdict`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from tta_agent_coordination import policy
from tta_agent_coordination.doctor.facts import PARAMETERS, Facts
from tta_agent_coordination.doctor.report import Status

SLOW_ROUND_TRIP = 0.010
"""Seconds; a server in the same network answers in a tenth of that."""
FULL_MEMORY, FULL_CONNECTIONS = 0.8, 0.8
"""Shares of what there is, from which on there is a warning."""
CONNECTIONS_A_THREAD = 2
"""One for a call, and one for the heartbeat, lease or wait that goes on meanwhile."""
SHORT_IDLE_TIMEOUT = 60.0
"""Seconds; with less, the connections of quiet agents are opened again all the time."""
SHORT_SCRIPT_LIMIT = 500.0
"""Milliseconds after which a server calls a script slow; it is 5,000 by default."""

OK, UNKNOWN, WARNING, ERROR = Status.OK, Status.UNKNOWN, Status.WARNING, Status.ERROR


class Verdict(NamedTuple):
    """A finding without its name and place."""

    status: Status
    found: str
    advice: str = ""


class Unseen(Exception):  # noqa: N818 - no failure: it becomes a verdict
    """What a rule needs could not be read; the text says why."""


def _text(facts: Facts, name: str) -> str:
    found = facts.info.get(name, facts.config.get(name))
    if found is None:
        source = "CONFIG GET" if name in PARAMETERS else "INFO"
        why = facts.unseen.get(source)
        raise Unseen(f"{source}: {why}" if why else f"the server does not say {name}")
    return found


def _number(facts: Facts, name: str) -> float:
    text = _text(facts, name)
    try:
        return float(text)
    except ValueError:
        raise Unseen(f"the server says {text!r} for {name}") from None


_TESTED: Mapping[str, tuple[tuple[int, int], tuple[int, int]]] = {
    "Redis": ((6, 2), (9, 0)),
    "Valkey": ((8, 0), (10, 0)),
}
_OTHERS = ("dragonfly", "garnet", "keydb", "kvrocks")


def server(facts: Facts) -> Verdict:
    """Which server it is, and whether it is one that the tests run on."""
    name = "Valkey" if "valkey_version" in facts.info else "Redis"
    text = facts.info.get("valkey_version") or _text(facts, "redis_version")
    other = next((other for other in _OTHERS if f"{other}_version" in facts.info), None)
    numbers = re.match(r"(\d+)\.(\d+)", text)
    if numbers is None:
        raise Unseen(f"the server says {text!r} for its version")
    major, minor = map(int, numbers.groups())
    least, beyond = _TESTED[name]
    advice = "Redis 6.2 to 8 and Valkey 8 and 9 are those that the tests run on."
    if other is not None:
        return Verdict(WARNING, f"{other}, as if Redis {text}", advice)
    if name == "Redis" and major < 6:
        return Verdict(ERROR, f"Redis {text} is too old", advice)
    tested = least <= (major, minor) < beyond
    return Verdict(OK if tested else WARNING, f"{name} {text}", "" if tested else advice)


def mode(facts: Facts) -> Verdict:
    """Whether it is a server for data."""
    found = facts.info.get("server_mode") or _text(facts, "redis_mode")
    if found == "sentinel":
        return Verdict(ERROR, "a Sentinel, which stores nothing", "Give the URL of the primary.")
    return Verdict(OK, found)


def role(facts: Facts) -> Verdict:
    """Whether it takes writes."""
    if _text(facts, "role") == "master":
        return Verdict(OK, "primary")
    primary = f"{facts.info.get('master_host')}:{facts.info.get('master_port')}"
    return Verdict(ERROR, f"a replica of {primary}, which takes no writes", "Connect to that one.")


def eviction(facts: Facts) -> Verdict:
    """Whether the server may drop keys of its own accord."""
    chosen = _text(facts, "maxmemory_policy")
    advice = "Set maxmemory-policy noeviction: a full server then refuses instead of forgetting."
    if chosen == "noeviction":
        return Verdict(OK, chosen)
    if _number(facts, "maxmemory") == 0:
        return Verdict(WARNING, f"{chosen}, which begins to act when maxmemory is set", advice)
    if chosen.startswith("allkeys"):
        return Verdict(ERROR, f"{chosen} drops messages when memory is full", advice)
    kept = "marks of finished messages, the list of inboxes and the registry"
    return Verdict(
        WARNING, f"{chosen} drops keys with a time to live when memory is full: {kept}", advice
    )


def memory(facts: Facts) -> Verdict:
    """How near the server is to its limit, or that of the machine."""
    used, most = _number(facts, "used_memory"), _number(facts, "maxmemory")
    limit = most or _number(facts, "total_system_memory")
    of = "maxmemory" if most else "the machine's memory, without a maxmemory"
    found = f"{used / limit:.0%} of {of}" if limit else f"{used:.0f} bytes"
    if limit and used >= FULL_MEMORY * limit:
        advice = "Raise maxmemory, let consumers catch up, or lower queue_size."
        return Verdict(WARNING, found, advice)
    return Verdict(OK, found)


def persistence(facts: Facts) -> Verdict:
    """What a restart of the server loses."""
    if _number(facts, "aof_enabled"):
        if facts.info.get("aof_last_write_status", "ok") != "ok":
            return Verdict(
                ERROR, "the append-only file cannot be written", "See the server's log and disk."
            )
        return Verdict(OK, "append-only file")
    advice = "Set appendonly yes."
    if "save" not in facts.config:
        return Verdict(WARNING, "no append-only file; snapshots at most", advice)
    if not facts.config["save"]:
        return Verdict(WARNING, "none: a restart loses everything", advice)
    changes = facts.info.get("rdb_changes_since_last_save", "some")
    return Verdict(
        WARNING,
        f"snapshots only: a crash loses all since the last one, now {changes} changes",
        advice,
    )


_FSYNC = {
    "always": Verdict(OK, "always: nothing that was confirmed is lost"),
    "everysec": Verdict(OK, "everysec: a crash of the machine loses about the last second"),
    "no": Verdict(
        WARNING,
        "no: a crash of the machine loses about the last half minute",
        "Set appendfsync everysec, or always.",
    ),
}


def fsync(facts: Facts) -> Verdict:
    """What a crash of the machine loses."""
    if not _number(facts, "aof_enabled"):
        return Verdict(OK, "not used: there is no append-only file")
    found = _text(facts, "appendfsync")
    return _FSYNC.get(found) or Verdict(UNKNOWN, found)


def replicas(facts: Facts) -> Verdict:
    """What a fail-over loses."""
    connected = _number(facts, "connected_slaves")
    least = _number(facts, "min-replicas-to-write")
    found = f"{connected:.0f} connected, min-replicas-to-write {least:.0f}"
    if connected < least:
        return Verdict(ERROR, f"{found}: writes are refused", "Bring the replicas back.")
    if connected and not least:
        advice = (
            "Set min-replicas-to-write 1: a primary that is cut off then stops taking writes, "
            "which a fail-over would lose."
        )
        return Verdict(WARNING, found, advice)
    return Verdict(OK, found)


def round_trip(facts: Facts) -> Verdict:
    """How long the shortest call takes."""
    found = f"{facts.round_trip * 1000:.2f} ms"
    if facts.round_trip > SLOW_ROUND_TRIP:
        return Verdict(WARNING, found, "Bring the agents and the server nearer to each other.")
    return Verdict(OK, found)


def clock(facts: Facts) -> Verdict:
    """How the clocks differ; only the server's is ever used."""
    way = "ahead of" if facts.clock_ahead >= 0 else "behind"
    return Verdict(
        OK,
        f"the server's is {abs(facts.clock_ahead):.1f} s {way} this machine's: "
        "harmless, only the server's counts",
    )


def connections(facts: Facts) -> Verdict:
    """Whether there is room for further connections."""
    used, most = _number(facts, "connected_clients"), _number(facts, "maxclients")
    found = f"{used:.0f} of {most:.0f}"
    if used >= FULL_CONNECTIONS * most:
        advice = (
            "Raise maxclients. A coordinator needs one connection for each thread in a call and "
            "one for each that waits."
        )
        return Verdict(WARNING, found, advice)
    return Verdict(OK, found)


def idle_timeout(facts: Facts) -> Verdict:
    """When the server closes connections that are quiet."""
    seconds = _number(facts, "timeout")
    if 0 < seconds < SHORT_IDLE_TIMEOUT:
        advice = "Set timeout 0, or a minute and more: every call after a pause connects anew."
        return Verdict(WARNING, f"{seconds:.0f} s", advice)
    return Verdict(OK, f"{seconds:.0f} s" if seconds else "none")


def keepalive(facts: Facts) -> Verdict:
    """When the server notices that a client's machine is gone."""
    seconds = _number(facts, "tcp-keepalive")
    if not seconds:
        advice = "Set tcp-keepalive 60: a consumer whose machine is gone goes on taking wake-ups."
        return Verdict(WARNING, "off", advice)
    return Verdict(OK, f"{seconds:.0f} s")


def script_limit(facts: Facts) -> Verdict:
    """When the server turns others away because a script runs."""
    name = "busy-reply-threshold" if "busy-reply-threshold" in facts.config else "lua-time-limit"
    limit = _number(facts, name)
    if 0 < limit < SHORT_SCRIPT_LIMIT:
        advice = f"Set {name} 5000: others are answered BUSY while a script runs for longer."
        return Verdict(WARNING, f"{limit:.0f} ms", advice)
    return Verdict(OK, f"{limit:.0f} ms" if limit > 0 else "none")


def access(facts: Facts) -> Verdict:
    """Whether the user may call all that is needed, on the keys that are needed."""
    user = facts.user or "the user"
    if facts.keys_refused:
        return Verdict(
            ERROR, f"{user} may not touch keys under the prefix", _grant(facts, "~PREFIX:*")
        )
    if facts.refused:
        advice = _grant(facts, *(f"+{command}" for command in facts.refused))
        return Verdict(ERROR, f"{user} may not call {', '.join(facts.refused)}", advice)
    return Verdict(OK, f"{user} may do all that is needed")


def _grant(facts: Facts, *rights: str) -> str:
    return f"ACL SETUSER {facts.user or 'USER'} {' '.join(rights)}"


RULES: Mapping[str, Callable[[Facts], Verdict]] = {
    rule.__name__: rule
    for rule in (
        server, mode, role, eviction, memory, persistence, fsync, replicas, round_trip, clock,
        connections, idle_timeout, keepalive, script_limit, access,
    )
}  # fmt: skip
"""All rules about a server, by the names of their findings."""


def judge(rule: Callable[[Facts], Verdict], facts: Facts) -> Verdict:
    """Apply a rule; what could not be read is unknown, and never an error."""
    try:
        return rule(facts)
    except Unseen as unseen:
        advice = "`tta-coordination doctor --acl --look` prints the rights that this takes."
        return Verdict(UNKNOWN, str(unseen), advice if "permission" in str(unseen) else "")


def call_timeout(seconds: float, slowest: float) -> Verdict:
    """Judge the deadline of a call by the slowest round trip, both in seconds."""
    share = seconds / policy.ATTEMPTS_IN_A_CALL
    found = f"{seconds:g} s for {policy.ATTEMPTS_IN_A_CALL} attempts"
    if share < 10 * slowest:
        return Verdict(
            WARNING,
            f"{found}, with {slowest * 1000:.1f} ms a round trip",
            f"Give call_timeout at least {30 * slowest:.1f} s.",
        )
    return Verdict(OK, found)


def threads(running: int, room: float | None) -> Verdict:
    """Judge the threads of this process by the connections that the servers have left.

    Args:
        running: Threads of this process.
        room: How many connections the server with the least room still takes; None: unknown.
    """
    found = f"{running}; connections as they need them, from a pool without a limit of its own"
    if room is not None and running * CONNECTIONS_A_THREAD > room:
        advice = "Raise maxclients, or use fewer threads: each may hold two connections in a call."
        return Verdict(WARNING, f"{found}, and the server takes {room:.0f} more", advice)
    return Verdict(OK, found)
