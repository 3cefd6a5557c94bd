"""Every error this library raises of its own accord.

::

    CoordinationError
    ├── ConfigurationError              an option, URL or credential is wrong
    ├── CoordinatorUnavailableError     Redis cannot be reached, or refuses, within the deadline
    │   ├── CoordinatorAccessError      ... because it refuses the credentials (also Configuration)
    │   └── CoordinatorCircuitOpenError ... because the breaker is open (also CircuitBreakerOpen)
    ├── CircuitBreakerOpenError         a circuit breaker refuses the call
    ├── MessageDecodeError              stored bytes are no message
    ├── MessageTooLargeError            a message exceeds ``max_message_bytes`` (also ValueError)
    ├── InboxFullError                  an inbox has no room for a request
    ├── AgentNotFoundError              no live agent of that id
    ├── RequestTimeoutError             no reply came in time
    └── RemoteAgentError                the agent that was asked failed

Arguments of the wrong type or value raise the builtin ``TypeError`` and ``ValueError``.

Every keyword of a constructor has a default, which is what lets pickle carry the errors
between processes.
"""

from __future__ import annotations

__all__ = [
    "AgentNotFoundError",
    "CircuitBreakerOpenError",
    "ConfigurationError",
    "CoordinationError",
    "CoordinatorAccessError",
    "CoordinatorCircuitOpenError",
    "CoordinatorUnavailableError",
    "InboxFullError",
    "MessageDecodeError",
    "MessageTooLargeError",
    "RemoteAgentError",
    "RequestTimeoutError",
]


class CoordinationError(Exception):
    """The root of this library's errors."""


class ConfigurationError(CoordinationError):
    """An option, a URL or a relation between options is wrong; the message says what to change."""


class CoordinatorUnavailableError(CoordinationError):
    """Redis could not be reached, or refused to serve, within the deadline of the call.

    ``__cause__`` is the last error of the client. The call may or may not have been carried
    out; every method of the coordinator can be repeated safely.
    """


class CoordinatorAccessError(ConfigurationError, CoordinatorUnavailableError):
    """Redis refuses the user, the password or the command, or a TLS certificate is not accepted.

    Retrying cannot help.
    """


class CircuitBreakerOpenError(CoordinationError):
    """A circuit breaker is open and refuses the call without trying it.

    Attributes:
        retry_after: Seconds until the breaker lets a call through to try again.
    """

    def __init__(self, message: str | float = "", *, retry_after: float = 0.0) -> None:
        """Keep the seconds to wait, and a message, which is made of them if there is none.

        Args:
            message: What happened; or the seconds to wait, in place of `retry_after`.
            retry_after: Seconds.
        """
        if not isinstance(message, str):
            message, retry_after = "", float(message)
        super().__init__(message or f"the circuit breaker is open; retry in {retry_after:.1f} s")
        self.retry_after = retry_after


class CoordinatorCircuitOpenError(CircuitBreakerOpenError, CoordinatorUnavailableError):
    """The circuit breaker around Redis is open: Redis failed repeatedly just now."""


class MessageDecodeError(CoordinationError):
    """Stored bytes are no message; the text names the path of the field that is wrong.

    Attributes:
        raw: The bytes as they were stored.
    """

    def __init__(self, message: str, *, raw: bytes = b"") -> None:
        """Keep the message and the bytes."""
        super().__init__(message)
        self.raw = raw


class MessageTooLargeError(CoordinationError, ValueError):
    """A message is larger, in its stored form, than ``max_message_bytes``."""


class InboxFullError(CoordinationError):
    """An inbox holds as many messages as it may, and takes no request."""


class AgentNotFoundError(CoordinationError, LookupError):
    """No agent of that id, type or capability is alive."""


class RequestTimeoutError(CoordinationError):
    """No reply to a request arrived before its deadline.

    The text says what had become of the request by then. Where it had failed, and was to be tried
    again, the attributes say why; they are empty while nobody took it, and when Redis could not
    be asked.

    Attributes:
        error_type: Name of the exception's class at the other end, of the last failure.
        attempts: How many times the request was tried, one that is under way included.
        last_error: The last failure as it is kept with the message: type and text; None if there
            was none.
    """

    def __init__(
        self,
        message: str,
        *,
        error_type: str = "",
        attempts: int = 0,
        last_error: str | None = None,
    ) -> None:
        """Keep what is known of the request."""
        super().__init__(message)
        self.error_type = error_type
        self.attempts = attempts
        self.last_error = last_error


class RemoteAgentError(CoordinationError):
    """The agent that was asked raised an error and its retries are used up.

    Attributes:
        error_type: Name of the exception's class at the other end.
        attempts: How many times the request was tried.
        message: The text of that exception, alone; cut at 4,096 characters, or where the reply
            would have been too long.
    """

    def __init__(
        self, text: str, *, error_type: str = "", attempts: int = 0, message: str = ""
    ) -> None:
        """Keep what is known of the failure at the other end."""
        super().__init__(text)
        self.error_type = error_type
        self.attempts = attempts
        self.message = message
