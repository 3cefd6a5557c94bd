"""A consumer comes back after its message was handed to another: does its ack do harm?

Run it with ``uv run --group bench --with 'celery[redis]' python -m benchmarks.late_acks``. The
second consumer dies while it holds the message; whether a third gets it shows what the ack did.
"""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from kombu import Connection, Queue

from tta_agent_coordination import AgentId, AgentMessage, RedisMessageCoordinator
from tta_agent_coordination.embedded import EmbeddedServer

LEASE = 1.0
PAST_THE_LEASE = 1.5
DEATHS = 30


def ours(url: str) -> str:
    """Three consumers of one inbox."""
    inbox = AgentId("inbox")
    with RedisMessageCoordinator.from_url(url) as coordinator:
        coordinator.send_message(inbox, inbox, AgentMessage(inbox, inbox))
        first = coordinator.receive(inbox, LEASE)
        time.sleep(PAST_THE_LEASE)
        second = coordinator.receive(inbox, LEASE)
        assert first is not None
        assert second is not None
        answer = coordinator.ack(inbox, first.token)
        time.sleep(PAST_THE_LEASE)
        return told(coordinator.receive(inbox, LEASE) is not None, answer.name)


def celery(url: str) -> str:
    """Three consumers of kombu, which is what celery's workers are."""
    queue = Queue("queue")

    def get() -> object:
        channel = Connection(url, transport_options={"visibility_timeout": LEASE}).channel()
        channel.qos.restore_at_shutdown = False  # this process ends later than its server
        channel.qos.restore_visible(num=10, interval=1)  # what its event loop does now and then
        return queue(channel).get(no_ack=False)

    with Connection(url) as connection, connection.Producer() as producer:
        producer.publish({}, routing_key="queue", declare=[queue])
    first = get()
    time.sleep(PAST_THE_LEASE)
    assert get() is not None
    first.ack()
    time.sleep(PAST_THE_LEASE)
    return told(get() is not None, "no error")


def dramatiqs(url: str) -> str:
    """Three consumers, each with a broker of its own, as in three processes."""
    dramatiq.actor(str, broker=RedisBroker(url=url)).send()
    consumer, first = dramatiq_get(url)
    time.sleep(PAST_THE_LEASE)
    assert dramatiq_get(url)[1] is not None
    consumer.ack(first)
    time.sleep(PAST_THE_LEASE)
    return told(dramatiq_get(url)[1] is not None, "no error")


def dramatiqs_deaths(url: str) -> str:
    """Consumers that die one after another over the same message."""
    dramatiq.actor(str, broker=RedisBroker(url=url)).send()
    times = 0
    for _ in range(DEATHS):
        times += dramatiq_get(url, timeout=0.1)[1] is not None
        time.sleep(0.15)
    return f"{times} of {DEATHS} consumers that died got the message"


def dramatiq_get(url: str, timeout: float = LEASE) -> tuple[Any, object]:
    """Take a message as a new process does, with maintenance at each call."""
    broker = RedisBroker(
        url=url, heartbeat_timeout=int(timeout * 1000), maintenance_chance=1_000_000
    )
    consumer = broker.consume("default", timeout=50)
    for _ in range(20):
        if message := next(consumer):
            return consumer, message
    return consumer, None


def told(again: bool, answer: str) -> str:
    """Say what became of the message."""
    fate = "a third consumer got the message" if again else "the message was lost"
    return f"the late ack had the answer {answer}; {fate}"


def main() -> None:
    """Play it with each."""
    print(", ".join(f"{name} {version(name)}" for name in ("dramatiq", "celery", "kombu", "redis")))
    for system in (ours, dramatiqs, dramatiqs_deaths, celery):
        with EmbeddedServer(port=0) as server:
            print(f"{system.__name__}: {system(server.url)}")


if __name__ == "__main__":
    main()
