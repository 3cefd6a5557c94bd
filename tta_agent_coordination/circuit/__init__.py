"""A circuit breaker for the user's own calls, shared by all processes through Redis."""

from tta_agent_coordination.circuit.config import CircuitBreakerConfig, CircuitBreakerState
from tta_agent_coordination.circuit.core import CircuitBreaker
from tta_agent_coordination.circuit.metrics import CircuitBreakerMetrics
from tta_agent_coordination.circuit.permit import Permit

__all__ = [
    "CircuitBreaker",
    "CircuitBreakerConfig",
    "CircuitBreakerMetrics",
    "CircuitBreakerState",
    "Permit",
]
