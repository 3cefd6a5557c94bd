"""A consumer stands still for longer than its lease. Its late ack, and its late write, are refused.

The queue refuses the ack by itself. The write goes to a database, which the queue cannot guard: so
the database is told which delivery writes, and refuses one that is older than what it has seen.
"""

import sqlite3
from contextlib import closing

from tta_agent_coordination import (
    AgentId,
    AgentMessage,
    ReceivedMessage,
    RedisMessageCoordinator,
)
from tta_agent_coordination.embedded import EmbeddedServer

EDITOR, WRITER = AgentId("editor"), AgentId("writer")
TABLE = "CREATE TABLE reports (id PRIMARY KEY, text, stored_at, attempt)"


# [fence]
def fence(received: ReceivedMessage) -> tuple[str, float, int]:
    """Return a message id, and two numbers that are higher at each later delivery of it."""
    held = received.queue_message
    return held.message.message_id, held.enqueued_at.timestamp(), held.delivery_attempts


def write(database: sqlite3.Connection, received: ReceivedMessage, text: str) -> bool:
    """Store a report; False if a later delivery of its message has written before."""
    with database:
        changed = database.execute(
            "INSERT INTO reports (id, stored_at, attempt, text) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET (stored_at, attempt, text) = "
            "(excluded.stored_at, excluded.attempt, excluded.text) "
            "WHERE (stored_at, attempt) <= (excluded.stored_at, excluded.attempt)",
            (*fence(received), text),
        )
    return changed.rowcount == 1


# [/fence]


def take(coordinator: RedisMessageCoordinator, visibility_timeout: float) -> ReceivedMessage:
    """Receive the one message there is."""
    received = coordinator.receive(WRITER, visibility_timeout, wait=10.0)
    assert received is not None
    return received


def main() -> None:
    """Let one consumer sleep, and another do its work meanwhile."""
    with (
        EmbeddedServer() as server,
        RedisMessageCoordinator.from_url(server.url, consumer_name="first") as first,
        RedisMessageCoordinator.from_url(server.url, consumer_name="second") as second,
        closing(sqlite3.connect(":memory:")) as database,
    ):
        database.execute(TABLE)
        first.send_message(EDITOR, WRITER, AgentMessage(EDITOR, WRITER, {"about": "leases"}))

        early = take(first, 0.1)  # and now it stands still
        late = take(second, 30.0)  # has it once the lease has passed
        print("second writes:", write(database, late, "the report of the second"))
        print("second acknowledges:", second.ack(WRITER, late.token))

        print("first writes:", write(database, early, "what the first had thought"))
        print("first acknowledges:", first.ack(WRITER, early.token))
        print(*database.execute("SELECT text FROM reports").fetchone())


if __name__ == "__main__":
    main()
