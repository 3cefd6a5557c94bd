"""Reliable messages between agents over Redis, for synchronous Python."""

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
    CoordinatorUnavailableError,
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

__version__ = "0.1.0"

__all__ = [
    "AgentId",
    "AgentMessage",
    "AgentNotFoundError",
    "CircuitBreakerOpenError",
    "ConfigurationError",
    "CoordinationError",
    "CoordinatorUnavailableError",
    "DeadLetter",
    "FailureType",
    "InboxStats",
    "LeaseOutcome",
    "MessageCoordinator",
    "MessageDecodeError",
    "MessagePriority",
    "MessageResult",
    "MessageSubscription",
    "MessageTooLargeError",
    "MessageType",
    "QueueMessage",
    "ReceivedMessage",
    "RedisMessageCoordinator",
    "RemoteAgentError",
    "RequestTimeoutError",
    "RoutingKey",
    "__version__",
]
