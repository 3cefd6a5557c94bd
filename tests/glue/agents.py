"""Agents that the tests name by their paths."""

import os
import threading
from pathlib import Path

from tests.workers.given import OWN, Payload
from tta_agent_coordination import Agent, AgentId


class Echo(Agent):
    """Says what it was asked."""

    agent_id = OWN

    def process(self, payload: Payload) -> Payload:
        return {"echo": payload}


class Slow(Agent):
    """Writes down when it begins and ends, in the file named by ``JOURNAL``."""

    agent_id = OWN

    def start(self) -> None:
        self.note("started")

    def process(self, payload: Payload) -> Payload:
        self.note("begun")
        threading.Event().wait(payload["wait"])
        self.note("ended")
        return {}

    def note(self, word: str) -> None:
        with Path(os.environ["JOURNAL"]).open("a") as journal:
            journal.write(f"{word}\n")


class Unfit(Agent):
    """Cannot be called with a payload."""

    agent_id = OWN

    def process(self) -> Payload:
        return {}


class Demanding(Echo):
    """Cannot be made without an argument."""

    def __init__(self, wish: str) -> None:
        super().__init__(AgentId("demanding", wish))


made = Echo(AgentId("echo", "made"))


def make() -> Agent:
    return Echo(AgentId("echo", "function"))
