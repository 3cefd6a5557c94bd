"""The old coordinator as its keys show it: writes them, and takes messages as it did."""

import json
from typing import Any

import redis

PRIORITIES = (9, 5, 1)
SECOND = 1_000_000

ENQUEUED = "2020-01-02T03:04:05+00:00"


def message(message_id: str, /, **fields: Any) -> dict[str, Any]:
    """What the old application would have stored of a message."""
    said = {
        "message_id": message_id,
        "sender": {"type": "planner", "instance": None},
        "recipient": {"type": "worker", "instance": None},
        "message_type": "event",
        "payload": {"of": message_id},
        "priority": 5,
        "routing": {"topic": None, "tags": []},
        "timestamp": "2020-01-02T03:04:05",
    }
    return said | fields


def stored(
    message_id: str,
    /,
    *,
    priority: int = 5,
    attempts: int = 0,
    error: str | None = None,
    enqueued: object = ENQUEUED,
    **fields: Any,
) -> bytes:
    """The stored form of a message."""
    return json.dumps({
        "message": message(message_id, priority=priority, **fields),
        "priority": priority,
        "enqueued_at": enqueued,
        "delivery_attempts": attempts,
        "last_error": error,
    }).encode()  # fmt: skip


class OldInbox:
    """The old keys of one inbox; each method is one or more of the old application's commands."""

    def __init__(
        self, client: redis.Redis, prefix: str, inbox: str = "worker:default", *, names: str = ""
    ) -> None:
        self.client = client
        self.queue = f"{prefix}:queue:{inbox}"
        self.scheduled = {one: f"{prefix}:sched:{inbox}:prio:{one}" for one in PRIORITIES}
        self.taken = f"{prefix}:reserved:{inbox}"
        self.deadlines = f"{prefix}:reserved_deadlines:{inbox}"
        self.dlq = f"{prefix}:dlq:{inbox}"
        self.subs = f"{prefix}:subs:{inbox}"
        self._tokens, self._names = 0, names

    @property
    def message_keys(self) -> list[str]:
        return [self.queue, *self.scheduled.values(), self.taken, self.deadlines, self.dlq]

    def now(self) -> int:
        seconds, microseconds = self.client.time()
        return seconds * SECOND + microseconds

    def audit(self, raw: bytes) -> bytes:
        """The first half of a send."""
        self.client.rpush(self.queue, raw)
        return raw

    def schedule(
        self, raw: bytes, *, priority: int = 5, due: float = 0, audit: bool = True
    ) -> None:
        """Send a message; ``due`` is its score."""
        if audit:
            self.audit(raw)
        self.client.zadd(self.scheduled[priority], {raw: due})

    def reserve(
        self, raw: bytes, token: str, deadline: float | None, *, audit: bool = True
    ) -> None:
        """Have a consumer hold a message."""
        if audit:
            self.audit(raw)
        self.client.hset(self.taken, token, raw)
        if deadline is not None:
            self.client.zadd(self.deadlines, {token: deadline})

    def bury(self, raw: bytes) -> None:
        self.client.rpush(self.dlq, raw)

    def subscribe(self, *types: str) -> None:
        self.client.sadd(self.subs, *types)

    def receive(self, lease: float = 60.0) -> tuple[str, bytes] | None:
        """Take the next message as the old consumer did: in several commands."""
        for priority in PRIORITIES:
            popped = self.client.zpopmin(self.scheduled[priority])
            if popped:
                [(raw, _)] = popped
                self._tokens += 1
                token = f"token-{self._names}{self._tokens}"
                self.reserve(raw, token, self.now() + lease * SECOND, audit=False)
                return token, raw
        return None

    def ack(self, token: str, raw: bytes) -> bool:
        """Finish a message; whether it was still there."""
        finished = self.client.hdel(self.taken, token) == 1
        self.client.zrem(self.deadlines, token)
        self.client.lrem(self.queue, 0, raw)
        return finished
