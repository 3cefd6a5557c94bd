"""What the library asks of a server: its commands, and the user who may do no more than those.

The one list of commands. A test compares it with what the scripts call and the code sends, and
the whole suite of tests runs as a user with these rights and no others.
"""

from __future__ import annotations

import re

import attrs

from tta_agent_coordination.keys import Keys

DEFAULT_USER = "agents"
"""Name of the user in `acl_line`."""
PASSWORD = "PASSWORD"  # noqa: S105 - stands where yours goes
"""What stands in `acl_line` in the place of a password."""

_USER = re.compile(r"[A-Za-z0-9_.:@-]{1,128}")
_KEY = "KEY"


@attrs.frozen
class Grant:
    """One command that a user may call.

    Attributes:
        command: As the server's ACL names it, ``script|load`` for example.
        reason: What the library needs it for.
        probe: Words, separated by spaces, that call it without changing anything; ``KEY`` stands
            for a key that does not exist. Empty when there are none.
    """

    command: str
    reason: str
    probe: str = ""

    def words(self, prefix: str) -> tuple[str, ...]:
        """Return the probe for keys under `prefix`."""
        key = probe_key(prefix)
        return tuple(key if word == _KEY else word for word in self.probe.split(" "))


def _grants(reason: str, *probes: str) -> tuple[Grant, ...]:
    return tuple(Grant(_command(probe), reason, probe) for probe in probes)


def _command(probe: str) -> str:
    first, second, *_ = f"{probe} -".lower().split(" ")
    has_subcommands = first in {"acl", "client", "cluster", "config", "script"}
    return f"{first}|{second}" if has_subcommands else first


INCR = Grant("incr", "scripts: places in the order of messages")
"""Has no probe: it cannot be called in vain."""

# Each probe fails, or finds nothing: an absent key, a number that is none, a name with a tab.
GRANTS: tuple[Grant, ...] = (
    *_grants("the scripts themselves", "EVALSHA 0 0", "SCRIPT LOAD return"),
    *_grants(
        "scripts: inboxes, registry, circuit breakers and marks",
        "DEL KEY", "EXISTS KEY", "GET KEY", "HDEL KEY f", "HEXISTS KEY f", "HGET KEY f",
        "HLEN KEY", "HMGET KEY f", "HSET KEY f v f", "PTTL KEY", "RENAME KEY KEY",
        "UNLINK KEY", "ZADD KEY x m", "ZCARD KEY", "ZCOUNT KEY 0 0", "ZPOPMIN KEY",
        "ZRANGE KEY 0 0", "ZRANGEBYSCORE KEY 0 0", "ZREM KEY m", "ZREVRANGE KEY 0 0",
        "ZREMRANGEBYSCORE KEY x 0", "ZSCORE KEY m", "INCRBY KEY x",
    ),
    INCR,
    *_grants("scripts: what vanishes by itself", "PEXPIRE KEY 1", "PEXPIREAT KEY 1"),
    *_grants("scripts: the server's clock", "TIME"),
    *_grants("subscriptions", "HVALS KEY"),
    *_grants("waiting for messages", "BZPOPMIN KEY x"),
    *_grants("a send that waits for replicas", "SET KEY v PX x", "WAIT 0 x"),
    *_grants("connections: a database other than 0", "SELECT x"),
    *_grants("connections: a name that your client gives them", "CLIENT SETNAME a\tb"),
    *_grants("Redis Cluster: its map of slots, as redis-py reads it", "CLUSTER SLOTS"),
    *_grants("Redis Cluster: a slot that moves", "ASKING"),
    *_grants("Redis Cluster: its commands, as redis-py reads them", "COMMAND INFO get"),
)  # fmt: skip
"""All that the library cannot do without. AUTH and HELLO are open to every user."""

DOCTOR_GRANTS: tuple[Grant, ...] = (
    Grant("info", "version, role, memory, persistence, replicas"),
    Grant("config|get", "time-outs and limits; it also shows passwords that the server keeps"),
    Grant("acl|whoami", "the name of the user"),
)
"""What the doctor looks at besides; without them it says what it could not see."""

MIGRATION_GRANTS: tuple[Grant, ...] = (
    *_grants("migrate: the keys of the other layout", "SCAN x", "TYPE KEY"),
    *_grants(
        "migrate: what they hold",
        "ZSCAN KEY x", "HSCAN KEY x", "SSCAN KEY x", "LRANGE KEY x 0", "LLEN KEY",
    ),
    *_grants(
        "migrate: moving it",
        "LINDEX KEY x", "LPOP KEY", "RPUSH KEY", "SREM KEY m",
    ),
)  # fmt: skip
"""What a migration needs besides, for the keys of both layouts. No coordinator does."""


def probe_key(prefix: str) -> str:
    """Return a key under `prefix` that nothing else uses."""
    return f"{prefix}:{{@doctor}}:probe"


def rules(prefix: str, *, doctor: bool = False) -> tuple[str, ...]:
    """Return the rights of a user: a key pattern and commands, as the server's ACL takes them.

    Args:
        prefix: What every key begins with.
        doctor: Whether the user may look at all that the doctor does.
    """
    granted = {grant.command for grant in (*GRANTS, *(DOCTOR_GRANTS if doctor else ()))}
    return f"~{Keys(prefix).prefix}:*", *(f"+{command}" for command in sorted(granted))


def acl_line(prefix: str, *, user: str = DEFAULT_USER, doctor: bool = False) -> str:
    """Return the command that makes a user with no more rights than the library needs.

    It works on Redis 6.2 and newer and on Valkey. Put a password in the place of `PASSWORD`.

    Args:
        prefix: What every key begins with.
        user: The name of the user.
        doctor: Whether the user may look at all that the doctor does.

    Raises:
        ValueError: The prefix, or the name, has characters that it cannot have.
    """
    if _USER.fullmatch(user) is None:
        raise ValueError("the name of a user is 1 to 128 characters of A-Z a-z 0-9 _ . : @ -")
    return " ".join(
        ("ACL SETUSER", user, "reset", "on", f">{PASSWORD}", *rules(prefix, doctor=doctor))
    )
