"""Workers: threads that receive messages for agents and handle them.

`core` is the class that users make. `fetcher` takes messages from Redis, `desk` holds what is in
hand, `handling` calls the agent and settles what comes of it, `renewer` keeps the leases.
"""

from tta_agent_coordination.worker.core import AgentWorker, WorkerHealth

__all__ = ["AgentWorker", "WorkerHealth"]
