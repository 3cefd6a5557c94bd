"""Reliable messages between agents over Redis, for synchronous Python."""

from tta_agent_coordination.agents.agent import (
    Agent,
    AgentProxy,
    CurrentMessage,
    RejectMessage,
    RetryLater,
    current_message,
    handles,
)
from tta_agent_coordination.agents.capability import AgentCapability
from tta_agent_coordination.agents.record import (
    AgentLoad,
    AgentRecord,
    Liveness,
    RegistryEvent,
    RegistryEventType,
)
from tta_agent_coordination.circuit import (
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitBreakerMetrics,
    CircuitBreakerState,
)
from tta_agent_coordination.coordinator import RedisMessageCoordinator
from tta_agent_coordination.delivery import (
    DeadLetter,
    InboxStats,
    LeaseOutcome,
    MessageResult,
    MessageSubscription,
    QueueMessage,
    ReceivedMessage,
)
from tta_agent_coordination.errors import (
    AgentNotFoundError,
    CircuitBreakerOpenError,
    ConfigurationError,
    CoordinationError,
    CoordinatorAccessError,
    CoordinatorCircuitOpenError,
    CoordinatorUnavailableError,
    InboxFullError,
    MessageDecodeError,
    MessageTooLargeError,
    RemoteAgentError,
    RequestTimeoutError,
)
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.interfaces import MessageCoordinator
from tta_agent_coordination.message import (
    AgentMessage,
    FailureType,
    MessagePriority,
    MessageType,
    RoutingKey,
)
from tta_agent_coordination.registry import RedisAgentRegistry
from tta_agent_coordination.registry.interface import AgentRegistry
from tta_agent_coordination.registry.recovery import RecoverySummary, RestartPolicy
from tta_agent_coordination.retrying import FailedAttempt, Retry, retry
from tta_agent_coordination.worker import AgentWorker, WorkerHealth

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "AgentCapability",
    "AgentId",
    "AgentLoad",
    "AgentMessage",
    "AgentNotFoundError",
    "AgentProxy",
    "AgentRecord",
    "AgentRegistry",
    "AgentWorker",
    "CircuitBreaker",
    "CircuitBreakerConfig",
    "CircuitBreakerMetrics",
    "CircuitBreakerOpenError",
    "CircuitBreakerState",
    "ConfigurationError",
    "CoordinationError",
    "CoordinatorAccessError",
    "CoordinatorCircuitOpenError",
    "CoordinatorUnavailableError",
    "CurrentMessage",
    "DeadLetter",
    "FailedAttempt",
    "FailureType",
    "InboxFullError",
    "InboxStats",
    "LeaseOutcome",
    "Liveness",
    "MessageCoordinator",
    "MessageDecodeError",
    "MessagePriority",
    "MessageResult",
    "MessageSubscription",
    "MessageTooLargeError",
    "MessageType",
    "QueueMessage",
    "ReceivedMessage",
    "RecoverySummary",
    "RedisAgentRegistry",
    "RedisMessageCoordinator",
    "RegistryEvent",
    "RegistryEventType",
    "RejectMessage",
    "RemoteAgentError",
    "RequestTimeoutError",
    "RestartPolicy",
    "Retry",
    "RetryLater",
    "RoutingKey",
    "WorkerHealth",
    "__version__",
    "current_message",
    "handles",
    "retry",
]
