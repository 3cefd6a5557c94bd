"""gunicorn whose worker processes serve agents too.

Start it with ``gunicorn --preload --config agents_inside.py 'app:create_app()'``.
"""

# [inside]
from typing import Any

from agents import Pricer
from app import coordination

from tta_agent_coordination import AgentWorker


def post_worker_init(worker: Any) -> None:
    """Start in each process after the fork: threads do not survive one."""
    app = worker.app.wsgi()
    with app.app_context():
        agent = coordination.in_app_context(app, Pricer())
        worker.agents = AgentWorker(agent, coordination.coordinator, threads=2)
    worker.agents.start()


def worker_exit(_server: Any, worker: Any) -> None:
    """Let what is in hand be finished."""
    worker.agents.stop()


# [/inside]
