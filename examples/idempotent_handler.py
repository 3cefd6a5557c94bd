"""A handler whose effect happens once, although its message comes twice.

The consumer "dies" after the effect and before the ack. The message is delivered again, and the
handler sees by its id that the work is done: the id is stored in the same transaction.
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

SHOP, BANK = AgentId("shop"), AgentId("bank")


# [handler]
def handle(database: sqlite3.Connection, received: ReceivedMessage) -> bool:
    """Book a payment once; return whether it was booked now."""
    message = received.message
    with database:  # one transaction: the mark and the effect, or neither
        first = database.execute(
            "INSERT OR IGNORE INTO handled VALUES (?)", (message.message_id,)
        ).rowcount
        if first:
            database.execute("INSERT INTO payments VALUES (?)", (message.payload["amount"],))
    return bool(first)


# [/handler]


def main() -> None:
    """Send a payment, handle it, "die" before the ack, and handle it again."""
    with (
        EmbeddedServer() as server,
        RedisMessageCoordinator.from_url(server.url) as coordinator,
        closing(sqlite3.connect(":memory:")) as database,
    ):
        database.executescript("CREATE TABLE handled (id PRIMARY KEY); CREATE TABLE payments (n)")
        coordinator.send_message(SHOP, BANK, AgentMessage(SHOP, BANK, {"amount": 120}))
        for visibility_timeout in (0.1, 30.0):  # the first lease passes without an ack
            received = coordinator.receive(BANK, visibility_timeout, wait=5.0)
            assert received is not None
            booked = handle(database, received)
            print(f"delivery {received.queue_message.delivery_attempts}: booked={booked}")
        coordinator.ack(BANK, received.token)
        [[total]] = database.execute("SELECT sum(n) FROM payments")
        print(f"booked in all: {total}")


if __name__ == "__main__":
    main()
