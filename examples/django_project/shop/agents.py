"""The agents of the shop: ``python manage.py run_agent shop.agents.Biller``."""

# [agent]
import os
from typing import Any

from shop.models import Order
from tta_agent_coordination import Agent, AgentId


class Biller(Agent):
    """Bills orders."""

    agent_id = AgentId("biller")

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Bill an order; a second delivery finds it billed, and changes nothing."""
        order = Order.objects.filter(pk=payload["order"], billed_by="")
        return {"billed": order.update(billed_by=f"process {os.getpid()}")}


# [/agent]
