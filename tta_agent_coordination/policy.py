"""Options that travel together, their defaults, and the relations between them."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import TypedDict

import attrs

from tta_agent_coordination import checks
from tta_agent_coordination.errors import ConfigurationError

DEFAULT_CALL_TIMEOUT = 5.0
"""Seconds that one call may take, all its attempts included."""
DEFAULT_QUEUE_SIZE = 10_000
"""Unfinished messages that an inbox holds at most."""
DEFAULT_RETRY_ATTEMPTS = 3
"""Deliveries after the first before a message is given up."""
DEFAULT_BACKOFF_BASE = 1.0
"""Seconds before the first retry."""
DEFAULT_BACKOFF_FACTOR = 2.0
"""What each further retry multiplies the wait by."""
DEFAULT_BACKOFF_MAX = 30.0
"""Seconds that a retry waits at most."""
DEFAULT_DEDUP_WINDOW = 60.0
"""Seconds after its end for which a message that is sent again is recognized."""
DEFAULT_MAX_MESSAGE_BYTES = 1024 * 1024
"""Bytes of a message in its stored form."""
DEFAULT_DEAD_LETTER_LIMIT = 10_000
"""Dead letters kept for an inbox."""
DEFAULT_REPLICAS = 0
"""Replicas that a send waits for."""
DEFAULT_REPLICAS_TIMEOUT = 1.0
"""Seconds that a send waits for them at most."""

WAIT_SLICE = 12.0
"""Seconds that a consumer waits before it looks again by itself, which takes two commands."""
WAIT_PATIENCE = 0.3
"""Seconds for which its answer is waited for beyond that at least: servers look at the time-outs of
blocked commands ten times a second."""
REPLY_LIFETIME = 60.0
"""Seconds after which replies that nobody fetched vanish, beyond the time-out of the request."""
REPLAY_WINDOW = 60.0
"""Seconds for which a repeated call is recognized, however short the dedup window."""
RECOVERY_GRACE = 600.0
"""Seconds for which an inbox is listed after its last use; ten times what senders renew it in."""
INDEX_LIFETIME = 7 * 86_400.0
"""Seconds for which the list of inboxes outlives its last use."""
INDEX_INTERVAL = 60.0
"""Seconds after which a sender notes again that it uses an inbox."""
ATTEMPTS_IN_A_CALL = 3
"""A silent server is tried so often in a call: no attempt may take more than its share."""
REPLICAS_MARGIN = 0.5
"""Seconds of an attempt that remain for the send itself, when it waits for replicas."""
RETRY_FIRST_WAIT = 0.02
"""Seconds; full jitter between nothing and this, doubled at each attempt."""
RETRY_LONGEST_WAIT = 0.5
"""Seconds between two attempts at most."""
BREAKER_FAILURES = 5
"""Failures in a row, not counting the first of a call, that open the breaker around Redis."""
BREAKER_RESET = 1.0
"""Seconds after which an open breaker lets one call try."""
PROBE_LEASE = 3.0
"""Seconds after which the place of a probe is free again when its process has died."""
RENEWALS_A_LEASE = 3
"""How often the place of a probe that runs on is renewed in that time."""
CIRCUIT_AWAY_PAUSE = 1.0
"""Seconds after which one thread asks for the shared circuit again when Redis was away."""
CIRCUIT_LIFETIME = 86_400.0
"""Seconds for which a circuit is remembered that nobody uses; longer while it is open."""
CIRCUIT_FULL_PAUSE = 1.0
"""Seconds after which to come again when every place of a half-open circuit is taken, at most."""


def _count(least: int) -> Callable[[object, attrs.Attribute[int], object], None]:
    def check(_owner: object, attribute: attrs.Attribute[int], value: object) -> None:
        checks.count(attribute.name, value, least=least)

    return check


def _duration(_owner: object, attribute: attrs.Attribute[float], value: object) -> None:
    checks.duration(attribute.name, value)


def _factor(_owner: object, attribute: attrs.Attribute[float], value: object) -> None:
    checks.factor(attribute.name, value)


class InboxOptions(TypedDict, total=False):
    """The options of an `InboxPolicy`, as keywords of those who pass them on; it says what each is.

    Those that are left out have the ``DEFAULT_*`` of their name.
    """

    queue_size: int
    retry_attempts: int
    backoff_base: float
    backoff_factor: float
    backoff_max: float
    dedup_window: float
    dead_letter_limit: int
    max_message_bytes: int


class CoordinatorOptions(InboxOptions, total=False):
    """All options of a `RedisMessageCoordinator`; its constructor says what each is."""

    call_timeout: float
    consumer_name: str | None
    strict: bool
    replicas: int
    replicas_timeout: float


@attrs.frozen(kw_only=True, cache_hash=True)
class InboxPolicy:
    """What one coordinator asks of inboxes. Configure all that share an inbox alike.

    Attributes:
        queue_size: Unfinished messages (ready, delayed, leased) that an inbox holds at most.
        retry_attempts: Deliveries after the first before a message goes to the dead letters.
        backoff_base: Seconds before the first retry.
        backoff_factor: What each further retry multiplies the wait by; at least 1.
        backoff_max: Seconds that a retry waits at most.
        dedup_window: Seconds after its end for which a message sent again is recognized.
        dead_letter_limit: Dead letters kept for an inbox; the oldest are dropped, and counted.
        max_message_bytes: Size of a message in its stored form.

    Raises:
        TypeError, ValueError: A value is not allowed.
    """

    queue_size: int = attrs.field(default=DEFAULT_QUEUE_SIZE, validator=_count(1))
    retry_attempts: int = attrs.field(default=DEFAULT_RETRY_ATTEMPTS, validator=_count(0))
    backoff_base: float = attrs.field(default=DEFAULT_BACKOFF_BASE, validator=_duration)
    backoff_factor: float = attrs.field(default=DEFAULT_BACKOFF_FACTOR, validator=_factor)
    backoff_max: float = attrs.field(default=DEFAULT_BACKOFF_MAX, validator=_duration)
    dedup_window: float = attrs.field(default=DEFAULT_DEDUP_WINDOW, validator=_duration)
    dead_letter_limit: int = attrs.field(default=DEFAULT_DEAD_LETTER_LIMIT, validator=_count(1))
    max_message_bytes: int = attrs.field(default=DEFAULT_MAX_MESSAGE_BYTES, validator=_count(64))

    @property
    def deliveries(self) -> int:
        """How often a message is handed out at most."""
        return self.retry_attempts + 1

    @property
    def retention(self) -> float:
        """Seconds for which a mark of a finished message is kept at least."""
        return max(self.dedup_window, REPLAY_WINDOW)


@attrs.frozen(kw_only=True)
class ReplicaPolicy:
    """How many replicas shall have what is sent before the send returns.

    Attributes:
        replicas: How many; 0 asks for none.
        replicas_timeout: Seconds to wait for them at most.

    Raises:
        TypeError, ValueError: A value is not allowed.
    """

    replicas: int = attrs.field(default=DEFAULT_REPLICAS, validator=_count(0))
    replicas_timeout: float = attrs.field(default=DEFAULT_REPLICAS_TIMEOUT, validator=_duration)

    def check(self, call_timeout: float) -> None:
        """Check that the wait fits into one attempt of a call.

        Raises:
            ConfigurationError: It does not.
        """
        if not self.replicas:
            return
        longest = call_timeout / ATTEMPTS_IN_A_CALL - REPLICAS_MARGIN
        if not 0 < self.replicas_timeout <= longest:
            raise ConfigurationError(
                f"replicas_timeout must be more than 0 and at most {max(longest, 0):g} s, which is "
                f"a third of call_timeout ({call_timeout:g} s) less {REPLICAS_MARGIN:g} s for the "
                f"send itself, not {self.replicas_timeout:g} s"
            )


def inbox_policy(options: InboxOptions) -> InboxPolicy:
    """Return a policy with the options that a coordinator was given beside its own.

    Args:
        options: By name.

    Raises:
        TypeError: There is no such option; the text names what was probably meant, or those there
            are.
    """
    own = InboxOptions.__annotations__
    unknown = sorted(options.keys() - own.keys())
    if unknown:
        known = list(own | {"key_prefix": str} | CoordinatorOptions.__annotations__)
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the options are {', '.join(known)}"
        raise TypeError(f"there is no option {unknown[0]!r}; {hint}")
    return InboxPolicy(**options)
