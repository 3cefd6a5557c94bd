"""`RedisMessageCoordinator`: checks what it is given and hands it to the part that does it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self, Unpack, cast

import attrs

from tta_agent_coordination import checks, policy
from tta_agent_coordination.coordinator.calls import Calls
from tta_agent_coordination.coordinator.dead_letters import DeadLetters
from tta_agent_coordination.coordinator.directory import Directory, recover_all
from tta_agent_coordination.coordinator.inbox import Inbox
from tta_agent_coordination.coordinator.internals import CoordinatorInternals
from tta_agent_coordination.coordinator.leases import Failure
from tta_agent_coordination.coordinator.outbox import Outbox
from tta_agent_coordination.coordinator.replication import Replicas
from tta_agent_coordination.coordinator.requests import Requests
from tta_agent_coordination.coordinator.steps import Steps
from tta_agent_coordination.coordinator.subscriptions import Subscriptions, subscription
from tta_agent_coordination.delivery import (
    DeadLetter,
    InboxStats,
    LeaseOutcome,
    MessageResult,
    MessageSubscription,
    ReceivedMessage,
)
from tta_agent_coordination.doctor import Report
from tta_agent_coordination.doctor.examination import examine
from tta_agent_coordination.errors import ConfigurationError
from tta_agent_coordination.events import Events
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.interfaces import MessageCoordinator
from tta_agent_coordination.keys import DEFAULT_KEY_PREFIX, Keys
from tta_agent_coordination.message import (
    AgentMessage,
    FailureType,
    MessageType,
    failure_type,
    types_of,
)
from tta_agent_coordination.policy import CoordinatorOptions, InboxOptions
from tta_agent_coordination.transport.link import Link
from tta_agent_coordination.transport.url import target_of

if TYPE_CHECKING:
    from redis import Redis
    from redis.cluster import RedisCluster


class RedisMessageCoordinator(MessageCoordinator):
    """Carries messages between agents over Redis or Valkey.

    It can be shared by threads, costs nothing until its first call, and works in a process that
    was forked after it was made. It opens connections of its own to where the client points: one
    for each thread that is in a call, and one for each that waits.
    """

    def __init__(
        self,
        redis: Redis | RedisCluster,
        key_prefix: str = DEFAULT_KEY_PREFIX,
        *,
        call_timeout: float = policy.DEFAULT_CALL_TIMEOUT,
        consumer_name: str | None = None,
        strict: bool = False,
        replicas: int = policy.DEFAULT_REPLICAS,
        replicas_timeout: float = policy.DEFAULT_REPLICAS_TIMEOUT,
        **options: Unpack[InboxOptions],
    ) -> None:
        """Make a coordinator; nothing is connected yet, unless it is `strict`.

        Args:
            redis: A ``redis.Redis``, ``redis.cluster.RedisCluster`` or ``FakeRedis``. Its
                address, credentials and TLS settings are used; it stays the caller's to close.
            key_prefix: What every key begins with; coordinators with other prefixes on the same
                server do not see each other.
            call_timeout: Seconds that a call may take, all its attempts included; a ``wait`` is
                not counted.
            consumer_name: The name under which messages are leased: 1 to 128 printable characters
                without spaces; by default ``host:pid``.
            strict: Whether to `check` now, and to refuse when there is an error.
            replicas: How many replicas each send waits for (``WAIT``); `MessageResult.replicas`
                says how many have it. 0: none, and nothing is asked.
            replicas_timeout: Seconds to wait for them at most: up to a third of `call_timeout`
                less half a second.
            **options: As for `configure`.

        Raises:
            TypeError, ValueError: An argument is wrong.
            ConfigurationError: `replicas_timeout` does not fit into `call_timeout`, or `redis`
                is a ``FakeRedis``, which has no replicas; or it is strict, and the check found
                errors: the text says which, and what to do.
            CoordinatorUnavailableError: It is strict, and Redis cannot be reached.
        """
        link = Link(redis, call_timeout=call_timeout)
        rules = policy.ReplicaPolicy(replicas=replicas, replicas_timeout=replicas_timeout)
        rules.check(call_timeout)
        keys = Keys(key_prefix)
        self._calls = Calls(
            link,
            keys,
            policy.inbox_policy(options),
            consumer_name,
            Replicas(keys, rules) if replicas else None,
        )
        if replicas and self._calls.link.route().blocks_sender:
            raise ConfigurationError("replicas must be 0 with fakeredis, which has none")
        self._directory = Directory(self._calls)
        self._outbox = Outbox(self._calls, self._directory)
        self._inbox = Inbox(self._calls, self.events)
        self._dead_letters = DeadLetters(self._calls, self._outbox, self._directory)
        self._subscriptions = Subscriptions(self._calls)
        self._requests = Requests(Inbox(self._calls, Events()), self._outbox, self.events)
        steps = Steps(self._calls, self._inbox, self._requests)
        self._internals = CoordinatorInternals(self._calls, self._inbox, self._outbox, steps)
        self._call_timeout = call_timeout
        if checks.instance_of("strict", strict, bool):
            try:
                self.check().insist()
            except BaseException:
                self.close()
                raise

    @classmethod
    def from_url(
        cls, url: str, key_prefix: str = DEFAULT_KEY_PREFIX, **options: Unpack[CoordinatorOptions]
    ) -> Self:
        """Make a coordinator for the server at `url`; see the constructor.

        Args:
            url: ``redis://[user:password@]host[:port][/db]``, ``rediss://…`` for TLS,
                ``unix://[user:password@]/path[?db=0]``,
                ``redis+sentinel://[user:password@]host:port[,host:port]/name[/db]`` or
                ``redis+cluster://host:port[,host:port]`` (``rediss+…`` for TLS).
            key_prefix: What every key begins with.
            **options: As for the constructor.

        Raises:
            ConfigurationError: The URL is of none of these forms.
        """
        return cls(cast("Redis", target_of(url)), key_prefix, **options)

    def __repr__(self) -> str:
        """Name the prefix, and nothing that is secret."""
        return f"<{type(self).__name__} key_prefix={self._calls.keys.prefix!r}>"

    def send_message(
        self, sender: AgentId, recipient: AgentId, message: AgentMessage, *, delay: float = 0.0
    ) -> MessageResult:
        return self._outbox.send(
            _agent("sender", sender),
            _agent("recipient", recipient),
            _message(message),
            checks.duration("delay", delay),
        )

    def send_many(self, sender: AgentId, messages: Iterable[AgentMessage]) -> list[MessageResult]:
        checks.instance_of("messages", messages, Iterable)
        addressed = [(message.recipient, message) for message in map(_message, messages)]
        return self._outbox.send_all(_agent("sender", sender), addressed)

    def broadcast_message(
        self, sender: AgentId, message: AgentMessage, recipients: Iterable[AgentId]
    ) -> list[MessageResult]:
        _message(message)
        checks.instance_of("recipients", recipients, Iterable)
        addressed = [(_agent("each of recipients", one), message) for one in recipients]
        if not addressed:  # or it would be checked for each of them
            self._outbox.check(_agent("sender", sender), message)
        return self._outbox.send_all(_agent("sender", sender), addressed)

    def subscribe_to_messages(
        self,
        agent_id: AgentId,
        message_types: Iterable[MessageType],
        *,
        topics: Iterable[str] = (),
    ) -> MessageSubscription:
        wish = subscription(
            _agent("agent_id", agent_id),
            types_of(message_types),
            checks.strings("topics", topics),
        )
        self._subscriptions.add(wish)
        return wish

    def unsubscribe(self, subscription: MessageSubscription) -> None:
        self._subscriptions.remove(
            checks.instance_of("subscription", subscription, MessageSubscription)
        )

    def publish(self, sender: AgentId, message: AgentMessage) -> list[MessageResult]:
        self._outbox.check(_agent("sender", sender), _message(message))
        recipients = self._subscriptions.recipients(message)
        addressed = [(recipient, message) for recipient in recipients]
        return self._outbox.send_all(sender, addressed, "publish")

    def receive(
        self, agent_id: AgentId, visibility_timeout: float = 5.0, *, wait: float = 0.0
    ) -> ReceivedMessage | None:
        messages = self.receive_many(agent_id, 1, visibility_timeout, wait=wait)
        return messages[0] if messages else None

    def receive_many(
        self,
        agent_id: AgentId,
        max_messages: int,
        visibility_timeout: float = 5.0,
        *,
        wait: float = 0.0,
    ) -> list[ReceivedMessage]:
        return self._inbox.receive(
            _agent("agent_id", agent_id),
            checks.count("max_messages", max_messages, least=1),
            checks.duration("visibility_timeout", visibility_timeout),
            checks.duration("wait", wait),
        )

    def ack(self, agent_id: AgentId, token: str) -> LeaseOutcome:
        return self._inbox.ack(_agent("agent_id", agent_id), [_token(token)])[0]

    def ack_many(self, agent_id: AgentId, tokens: Sequence[str]) -> list[LeaseOutcome]:
        return self._inbox.ack(_agent("agent_id", agent_id), checks.strings("tokens", tokens))

    def nack(
        self,
        agent_id: AgentId,
        token: str,
        failure: FailureType = FailureType.TRANSIENT,
        error: str | None = None,
        *,
        delay: float | None = None,
    ) -> LeaseOutcome:
        if error is not None:
            checks.instance_of("error", error, str)
        given = Failure(
            kind=failure_type(failure),
            error=error,
            delay=None if delay is None else checks.duration("delay", delay),
        )
        return self._inbox.nack(_agent("agent_id", agent_id), _token(token), given)[0]

    def extend(self, agent_id: AgentId, token: str, visibility_timeout: float) -> LeaseOutcome:
        visibility = checks.duration("visibility_timeout", visibility_timeout)
        return self._inbox.extend(_agent("agent_id", agent_id), [_token(token)], visibility)[0]

    def release(self, agent_id: AgentId, token: str) -> LeaseOutcome:
        return self._inbox.release(_agent("agent_id", agent_id), _token(token))

    def recover_pending(self, agent_id: AgentId | None = None) -> int:
        if agent_id is not None:
            return self._inbox.recover(_agent("agent_id", agent_id))[0]
        return recover_all(self._directory, self._inbox)

    def configure(
        self,
        *,
        queue_size: int | None = None,
        retry_attempts: int | None = None,
        backoff_base: float | None = None,
        backoff_factor: float | None = None,
        backoff_max: float | None = None,
        dedup_window: float | None = None,
        dead_letter_limit: int | None = None,
        max_message_bytes: int | None = None,
    ) -> None:
        asked: dict[str, Any] = {
            "queue_size": queue_size,
            "retry_attempts": retry_attempts,
            "backoff_base": backoff_base,
            "backoff_factor": backoff_factor,
            "backoff_max": backoff_max,
            "dedup_window": dedup_window,
            "dead_letter_limit": dead_letter_limit,
            "max_message_bytes": max_message_bytes,
        }
        changes = {name: value for name, value in asked.items() if value is not None}
        self._calls.policy = attrs.evolve(self._calls.policy, **changes)

    def stats(self, agent_id: AgentId) -> InboxStats:
        return self._inbox.stats(_agent("agent_id", agent_id))

    def purge(self, agent_id: AgentId) -> int:
        return self._inbox.purge(_agent("agent_id", agent_id))

    def dead_letters(
        self, agent_id: AgentId, *, limit: int = 100, offset: int = 0
    ) -> list[DeadLetter]:
        return self._dead_letters.read(
            _agent("agent_id", agent_id),
            limit=checks.count("limit", limit),
            offset=checks.count("offset", offset),
        )

    def replay_dead_letters(
        self,
        agent_id: AgentId,
        *,
        message_ids: Sequence[str] | None = None,
        to: AgentId | None = None,
        limit: int | None = None,
    ) -> int:
        return self._dead_letters.replay(
            _agent("agent_id", agent_id),
            None if message_ids is None else checks.strings("message_ids", message_ids),
            None if to is None else _agent("to", to),
            None if limit is None else checks.count("limit", limit),
        )

    def purge_dead_letters(
        self, agent_id: AgentId, *, message_ids: Sequence[str] | None = None
    ) -> int:
        return self._dead_letters.purge(
            _agent("agent_id", agent_id),
            None if message_ids is None else checks.strings("message_ids", message_ids),
        )

    def request(
        self, sender: AgentId, recipient: AgentId, payload: dict[str, Any], *, timeout: float
    ) -> AgentMessage:
        return self._internals.steps.asking(sender, recipient, payload, timeout=timeout).answer()

    @property
    def events(self) -> Events:
        """Who is told what happens here and in its workers: add and remove observers."""
        return self._calls.link.events

    @property
    def internals(self) -> CoordinatorInternals:
        """For this package; may change without notice."""
        return self._internals

    def inboxes(self) -> list[AgentId]:
        """Return the inboxes that hold something, or were sent to of late."""
        return self._directory.inboxes()

    def check(self) -> Report:
        """Look at every server and at this process for what endangers the guarantees.

        Nothing is changed. What the user may not look at is reported as unknown.

        Raises:
            CoordinatorUnavailableError: Redis cannot be reached, or refuses the credentials.
        """
        prefix = self._calls.keys.prefix
        return examine(self._calls.link, prefix, call_timeout=self._call_timeout)

    def close(self) -> None:
        self._requests.close()
        self._inbox.end_waits()
        self._calls.link.close()
        self._requests.join()


def _agent(name: str, value: object) -> AgentId:
    return checks.instance_of(name, value, AgentId)


def _message(value: object) -> AgentMessage:
    return checks.instance_of("message", value, AgentMessage)


def _token(value: object) -> str:
    return checks.instance_of("token", value, str)
