"""The agents of the application: ``flask --app app run-agent agents.Pricer``."""

from typing import Any

from tta_agent_coordination import Agent, AgentId, RejectMessage

PRICES = {"tea": 3, "coffee": 4}


class Pricer(Agent):
    """Knows what things cost."""

    agent_id = AgentId("pricer")

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Return the price of an item."""
        item = payload.get("item")
        if item not in PRICES:
            raise RejectMessage(f"there is no {item}")
        return {"item": item, "price": PRICES[item]}
