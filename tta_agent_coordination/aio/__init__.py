"""The library for asyncio: the same methods, awaitable, over the synchronous core.

`coordinator`, `registry` and `breaker` hold what users make, `adapter` what these have in common;
`pool` has the threads in which the core is called. Nothing else in this package imports asyncio,
but the loop of a worker does when an agent is asynchronous.
"""

from tta_agent_coordination.aio.breaker import AsyncCircuitBreaker
from tta_agent_coordination.aio.coordinator import AsyncMessageCoordinator
from tta_agent_coordination.aio.pool import DEFAULT_MAX_WORKERS
from tta_agent_coordination.aio.registry import AsyncAgentRegistry

__all__ = [
    "DEFAULT_MAX_WORKERS",
    "AsyncAgentRegistry",
    "AsyncCircuitBreaker",
    "AsyncMessageCoordinator",
]
