"""An asyncio program talks to agents, and an agent is written with coroutines."""

import asyncio
import logging
import sys
from typing import Any

from tta_agent_coordination import (
    Agent,
    AgentId,
    AgentMessage,
    AgentWorker,
    CircuitBreakerOpenError,
    RedisMessageCoordinator,
)
from tta_agent_coordination.aio import AsyncCircuitBreaker, AsyncMessageCoordinator
from tta_agent_coordination.embedded import EmbeddedServer

EDITOR, WRITER = AgentId("editor"), AgentId("writer", "1")


# [async_agent]
class Writer(Agent):
    """Writes with the help of a service, which it awaits."""

    async def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Return a text about what is asked for."""
        await asyncio.sleep(0.05)  # a call to a language model, say
        return {"text": f"All about {payload['topic']}."}


# [/async_agent]


# [async_client]
async def ask_and_listen(url: str) -> None:
    """Ask for several texts at once, and listen for news meanwhile."""
    async with AsyncMessageCoordinator.from_url(url) as coordinator:

        async def listen() -> None:
            received = await coordinator.receive(EDITOR, 30.0, wait=10.0)
            if received is not None:
                print("news:", received.message.payload["news"])
                await coordinator.ack(EDITOR, received.token)

        async with asyncio.TaskGroup() as group:
            group.create_task(listen())
            answers = [
                group.create_task(
                    coordinator.request(EDITOR, WRITER, {"topic": topic}, timeout=10.0)
                )
                for topic in ("rivers", "bridges", "boats")
            ]
            news = AgentMessage(WRITER, EDITOR, {"news": "it rains"})
            await coordinator.send_message(WRITER, EDITOR, news)
        for answer in answers:
            print("text:", answer.result().payload["text"])


# [/async_client]


# [async_breaker]
async def call_guarded(breaker: AsyncCircuitBreaker) -> None:
    """Guard calls to a service that fails."""

    @breaker
    async def look_up(word: str) -> str:
        await asyncio.sleep(0)
        raise ConnectionError(f"no answer for {word}")

    for word in ("oar", "sail", "rudder", "keel", "mast", "deck"):
        try:
            await look_up(word)
        except CircuitBreakerOpenError as error:
            print(f"not even asked, try again in {error.retry_after:.0f} s")
        except ConnectionError as error:
            print("failed:", error)


# [/async_breaker]


async def guard(url: str) -> None:
    """Make a breaker, and close it again."""
    breaker = AsyncCircuitBreaker.from_url(url, "dictionary")
    try:
        await call_guarded(breaker)
    finally:
        await breaker.close()


# What becomes of the circuit is in the log.
logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="log: %(message)s")

with (
    EmbeddedServer() as server,
    RedisMessageCoordinator.from_url(server.url) as synchronous,
    AgentWorker(Writer(WRITER), synchronous, threads=3),
):
    asyncio.run(ask_and_listen(server.url))
    asyncio.run(guard(server.url))
