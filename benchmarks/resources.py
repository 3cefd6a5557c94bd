"""What a waiting message and a waiting consumer cost the server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import redis

from benchmarks.ours import LEASE, Ours
from benchmarks.payload import PAYLOAD_BYTES
from benchmarks.report import Row, at_most
from benchmarks.server import Ground

CONSUMERS = 4


def memory(ground: Ground) -> Iterator[Row]:
    """What `used_memory` grows by with each message that waits, less the bytes of its payload."""
    ours = Ours(ground)
    client = ground.client()
    ours.send(1)
    before = client.info("memory")["used_memory"]
    ours.send_many(ground.memory_messages)
    grown = client.info("memory")["used_memory"] - before
    each = grown / ground.memory_messages
    yield at_most(
        "server memory of a waiting message, less its payload",
        each - PAYLOAD_BYTES,
        400,
        "bytes",
        f"{each:.0f} with it, over {ground.memory_messages:,}",
    )
    ours.close()
    client.close()


def idle(ground: Ground) -> Iterator[Row]:
    """What consumers that wait in vain send, as MONITOR sees it; calls in scripts not counted."""
    ours = Ours(ground)
    threads = [
        threading.Thread(
            target=lambda: ours.coordinator.receive(
                ours.inbox, LEASE, wait=ground.idle_seconds + 4
            ),
            name=f"bench-idle-{number}",
        )
        for number in range(CONSUMERS)
    ]
    for thread in threads:
        thread.start()
    time.sleep(1)  # all have looked once, and wait
    sent = _commands_seen(ground, ground.idle_seconds)
    for thread in threads:
        thread.join()
    yield at_most(
        "commands of an idle waiting consumer a minute",
        sent / CONSUMERS / ground.idle_seconds * 60,
        15,
        "commands",
        f"{sent} of {CONSUMERS} consumers of one inbox in {ground.idle_seconds:g} s",
    )
    ours.close()


def _commands_seen(ground: Ground, seconds: float) -> int:
    """Count what clients send to the server over so many seconds; nobody else uses it."""
    with redis.Redis.from_url(ground.url, socket_timeout=None) as client:
        end = threading.Timer(seconds, client.echo, ("end of watch",))
        count = 0
        with client.monitor() as monitor:
            end.start()
            for seen in monitor.listen():
                if seen["command"] == "ECHO end of watch":
                    break
                # A connection that is opened says who it is: that is no part of waiting.
                words = seen["command"].split()
                count += seen["client_type"] != "lua" and words[0] not in ("HELLO", "CLIENT")
        end.join()
    return count
