"""Agents and handlers of coroutine functions that the tests of workers share."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

from tests.workers.given import OWN, Payload
from tta_agent_coordination import Agent

Act = Callable[[Payload], Awaitable[Payload]]


async def echo(payload: Payload) -> Payload:
    await asyncio.sleep(0)
    return {"echo": payload}


class Scripted(Agent):
    """Does with every message what the test says, asynchronously."""

    def __init__(self, act: Act = echo) -> None:
        super().__init__(OWN)
        self.got: list[Payload] = []
        self.life: list[str] = []
        self._act = act

    async def start(self) -> None:
        await asyncio.sleep(0)
        self.life.append(f"start in {threading.current_thread().name}")

    async def stop(self) -> None:
        await asyncio.sleep(0)
        self.life.append(f"stop in {threading.current_thread().name}")

    async def process(self, payload: Payload) -> Payload:
        self.got.append(payload)
        return await self._act(payload)


class Held:
    """A handler that is held up until the test lets it go on."""

    def __init__(self) -> None:
        self.begun = 0
        self.most = 0
        self.ended: list[str] = []
        self.open = threading.Event()

    async def __call__(self, payload: Payload) -> Payload:
        self.begun += 1
        self.most = max(self.most, self.begun - len(self.ended))
        try:
            while not self.open.is_set():
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        self.ended.append("done")
        return payload
