"""One task in each of the systems, as a program of theirs would define it.

The workers of `benchmarks.failures` import this, each for its own system. The environment says
which one, where its server is, and in which file each run of the task leaves a line.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

SYSTEM = os.environ["FAILURES_SYSTEM"]
URL = os.environ["FAILURES_URL"]
LOG = Path(os.environ["FAILURES_LOG"])
SEND_URL = os.environ.get("FAILURES_SEND_URL", URL)
LONGEST = 3_600.0


def work(what: str) -> dict[str, Any]:
    """Leave a line; then end, or work for long if nobody did before."""
    with LOG.open("a", encoding="utf-8") as log:
        log.write(f"{what}\n")
    if what == "long" and LOG.read_text("utf-8").count("long") == 1:
        time.sleep(LONGEST)
    elif what == "deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    return {}


def send(what: str) -> None:
    """Send one task with the system's own client, its options as they come."""
    if SYSTEM == "ours":
        coordinator.send_message(SENDER, WORKER, AgentMessage(SENDER, WORKER, {"what": what}))
    elif SYSTEM == "dramatiq":
        task.send(what)
    elif SYSTEM == "huey":
        task(what)
    elif SYSTEM == "rq":
        queue.enqueue(work, what)
    else:
        task.delay(what)


if SYSTEM == "ours":
    from tta_agent_coordination import (
        Agent,
        AgentId,
        AgentMessage,
        AgentWorker,
        RedisMessageCoordinator,
    )

    SENDER, WORKER = AgentId("sender"), AgentId("worker")

    class Worker(Agent):
        def process(self, payload: dict[str, Any]) -> dict[str, Any]:
            return work(payload["what"])

    coordinator = RedisMessageCoordinator.from_url(SEND_URL)
    COMMAND = "-m benchmarks.failing_apps"
elif SYSTEM == "dramatiq":
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker

    dramatiq.set_broker(RedisBroker(url=SEND_URL))
    task = dramatiq.actor(work)
    COMMAND = "-m dramatiq benchmarks.failing_apps -p 1 -t 1"
elif SYSTEM == "huey":
    from huey import RedisHuey

    huey = RedisHuey(url=SEND_URL)
    task = huey.task()(work)
    COMMAND = "-m huey.bin.huey_consumer benchmarks.failing_apps.huey"
elif SYSTEM == "rq":
    from redis import Redis
    from rq import Queue

    queue = Queue(connection=Redis.from_url(SEND_URL))
    COMMAND = f"-m rq.cli worker --url {URL}"
else:
    from celery import Celery

    celery = Celery(broker=SEND_URL)
    if SYSTEM == "celery-late":
        celery.conf.task_acks_late = True
        celery.conf.broker_transport_options = {"visibility_timeout": 30}
    task = celery.task(work)
    COMMAND = "-m celery -A benchmarks.failing_apps:celery worker -c 1 -l WARNING"

if __name__ == "__main__":
    AgentWorker(Worker(WORKER), coordinator).run()
