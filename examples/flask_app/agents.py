"""The agents of the application: ``flask --app app run-agent agents.Pricer``."""

import os
import socket
from typing import Any

from tta_agent_coordination import Agent, AgentId, RejectMessage

PRICES = {"tea": 3, "coffee": 4}


class Pricer(Agent):
    """Knows what things cost."""

    def __init__(self) -> None:
        """Be one of several: requests go to ``pricer``, and each process has an id of its own."""
        super().__init__(AgentId("pricer", f"{socket.gethostname()}-{os.getpid()}"))

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Return the price of an item."""
        item = payload.get("item")
        if item not in PRICES:
            raise RejectMessage(f"there is no {item}")
        return {"item": item, "price": PRICES[item]}
