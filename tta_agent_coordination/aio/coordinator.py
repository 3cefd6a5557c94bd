"""`AsyncMessageCoordinator`: the methods of a coordinator, for asyncio."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self, Unpack

from tta_agent_coordination import checks
from tta_agent_coordination.aio.adapter import ClosingAdapter
from tta_agent_coordination.aio.pool import DEFAULT_MAX_WORKERS
from tta_agent_coordination.coordinator.core import RedisMessageCoordinator
from tta_agent_coordination.delivery import (
    DeadLetter,
    InboxStats,
    LeaseOutcome,
    MessageResult,
    MessageSubscription,
    ReceivedMessage,
)
from tta_agent_coordination.doctor import Report
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.keys import DEFAULT_KEY_PREFIX
from tta_agent_coordination.message import AgentMessage, FailureType, MessageType
from tta_agent_coordination.policy import CoordinatorOptions


class AsyncMessageCoordinator(ClosingAdapter[RedisMessageCoordinator]):
    """Carries messages between agents, for asyncio.

    Every method does, returns and raises what the one of the same name of `MessageCoordinator`
    does. It runs in threads of the adapter's own; calls that wait hold none. Any number of event
    loops may use one adapter.

    A cancelled call that was begun goes on to its end in its thread: what it sent may be stored.
    But a cancelled ``receive`` gives back what it won, and a cancelled ``request`` is taken back.
    """

    _name = "coordinator"

    def __init__(
        self, coordinator: RedisMessageCoordinator, *, max_workers: int = DEFAULT_MAX_WORKERS
    ) -> None:
        """Make an adapter; no thread runs before the first call.

        Args:
            coordinator: Does the work; stays the caller's to close, after the adapter.
            max_workers: Threads at most. Calls beyond wait for one; calls that wait for a message
                or a reply need none.

        Raises:
            TypeError, ValueError: An argument is wrong.
        """
        self._coordinator = checks.instance_of("coordinator", coordinator, RedisMessageCoordinator)
        super().__init__(coordinator, max_workers=max_workers)

    @classmethod
    def from_url(
        cls,
        url: str,
        key_prefix: str = DEFAULT_KEY_PREFIX,
        *,
        max_workers: int = DEFAULT_MAX_WORKERS,
        **options: Unpack[CoordinatorOptions],
    ) -> Self:
        """Make an adapter with a coordinator of its own, which is closed with it.

        Args:
            url: As for `RedisMessageCoordinator.from_url`.
            key_prefix: What every key begins with.
            max_workers: As for the constructor.
            **options: As for `RedisMessageCoordinator`.

        Raises:
            ConfigurationError: The URL is of none of the forms there are.
        """
        return cls._owning(
            RedisMessageCoordinator.from_url(url, key_prefix, **options), max_workers
        )

    @property
    def coordinator(self) -> RedisMessageCoordinator:
        """The coordinator that does the work, for example for an `AgentWorker`."""
        return self._coordinator

    async def send_message(
        self, sender: AgentId, recipient: AgentId, message: AgentMessage, *, delay: float = 0.0
    ) -> MessageResult:
        """Store `message` in the inbox of `recipient`; it can be received after `delay` seconds.

        After a cancellation it is not known whether the message is stored; to send the same one
        again stores it once.

        Raises:
            MessageTooLargeError: Its stored form is larger than ``max_message_bytes``.
        """
        return await self._pool.run(
            self._coordinator.send_message, sender, recipient, message, delay=delay
        )

    async def send_many(
        self, sender: AgentId, messages: Iterable[AgentMessage]
    ) -> list[MessageResult]:
        """Store each message in the inbox of its own recipient, in few round trips."""
        return await self._pool.run(self._coordinator.send_many, sender, list(messages))

    async def broadcast_message(
        self, sender: AgentId, message: AgentMessage, recipients: Iterable[AgentId]
    ) -> list[MessageResult]:
        """Store one independent copy of `message`, under its one id, in each inbox."""
        return await self._pool.run(
            self._coordinator.broadcast_message, sender, message, list(recipients)
        )

    async def subscribe_to_messages(
        self,
        agent_id: AgentId,
        message_types: Iterable[MessageType],
        *,
        topics: Iterable[str] = (),
    ) -> MessageSubscription:
        """Ask for published messages, until `unsubscribe`; asking again changes nothing."""
        return await self._pool.run(
            self._coordinator.subscribe_to_messages, agent_id, message_types, topics=topics
        )

    async def unsubscribe(self, subscription: MessageSubscription) -> None:
        """Withdraw a subscription; what is in the inbox already stays there."""
        await self._pool.run(self._coordinator.unsubscribe, subscription)

    async def publish(self, sender: AgentId, message: AgentMessage) -> list[MessageResult]:
        """Store a copy of `message` for every agent with a subscription that matches it."""
        return await self._pool.run(self._coordinator.publish, sender, message)

    async def receive(
        self, agent_id: AgentId, visibility_timeout: float = 5.0, *, wait: float = 0.0
    ) -> ReceivedMessage | None:
        """Take the next message of an inbox on lease; None if there is none within `wait` seconds.

        Cancelled, it releases what it had won.
        """
        messages = await self.receive_many(agent_id, 1, visibility_timeout, wait=wait)
        return messages[0] if messages else None

    async def receive_many(
        self,
        agent_id: AgentId,
        max_messages: int,
        visibility_timeout: float = 5.0,
        *,
        wait: float = 0.0,
    ) -> list[ReceivedMessage]:
        """Take up to `max_messages` on lease; empty if there is none within `wait` seconds.

        Cancelled, it releases what it had won.
        """
        receiving = self._coordinator.internals.steps.receiving(
            agent_id, max_messages, visibility_timeout, wait=wait
        )
        with self._pool.call():
            try:
                while True:
                    messages = await self._pool.run(receiving.step, self._pool.sleeping + 1)
                    if messages is not None:
                        return messages
                    await self._pool.sleep(receiving.again_at, descriptor=receiving.descriptor)
            except BaseException as error:
                await self._pool.clean_up(receiving.abandon, error)
                raise

    async def ack(self, agent_id: AgentId, token: str) -> LeaseOutcome:
        """Finish a message: it was handled; true in a condition when that holds."""
        return await self._pool.run(self._coordinator.ack, agent_id, token)

    async def ack_many(self, agent_id: AgentId, tokens: Sequence[str]) -> list[LeaseOutcome]:
        """Finish several messages; an outcome for each token, in their order."""
        return await self._pool.run(self._coordinator.ack_many, agent_id, tokens)

    async def nack(
        self,
        agent_id: AgentId,
        token: str,
        failure: FailureType = FailureType.TRANSIENT,
        error: str | None = None,
        *,
        delay: float | None = None,
    ) -> LeaseOutcome:
        """Give a message back because it could not be handled, for a retry or as a dead letter."""
        return await self._pool.run(
            self._coordinator.nack, agent_id, token, failure, error, delay=delay
        )

    async def extend(
        self, agent_id: AgentId, token: str, visibility_timeout: float
    ) -> LeaseOutcome:
        """Let a lease end `visibility_timeout` seconds from now; false when it is lost."""
        return await self._pool.run(self._coordinator.extend, agent_id, token, visibility_timeout)

    async def release(self, agent_id: AgentId, token: str) -> LeaseOutcome:
        """Give a message back unhandled: receivable at once, the attempt not counted."""
        return await self._pool.run(self._coordinator.release, agent_id, token)

    async def recover_pending(self, agent_id: AgentId | None = None) -> int:
        """Move expired leases back, of one inbox or of all; return how many had expired."""
        return await self._pool.run(self._coordinator.recover_pending, agent_id)

    async def configure(
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
        """Change options of the coordinator, from its next call on; None leaves one as it is."""
        await self._pool.run(
            self._coordinator.configure,
            queue_size=queue_size,
            retry_attempts=retry_attempts,
            backoff_base=backoff_base,
            backoff_factor=backoff_factor,
            backoff_max=backoff_max,
            dedup_window=dedup_window,
            dead_letter_limit=dead_letter_limit,
            max_message_bytes=max_message_bytes,
        )

    async def stats(self, agent_id: AgentId) -> InboxStats:
        """Count what an inbox holds; changes nothing."""
        return await self._pool.run(self._coordinator.stats, agent_id)

    async def purge(self, agent_id: AgentId) -> int:
        """Drop every unfinished message of an inbox, leased ones included; return how many."""
        return await self._pool.run(self._coordinator.purge, agent_id)

    async def dead_letters(
        self, agent_id: AgentId, *, limit: int = 100, offset: int = 0
    ) -> list[DeadLetter]:
        """Read up to `limit` dead letters of an inbox after the first `offset`, oldest first."""
        return await self._pool.run(
            self._coordinator.dead_letters, agent_id, limit=limit, offset=offset
        )

    async def replay_dead_letters(
        self,
        agent_id: AgentId,
        *,
        message_ids: Sequence[str] | None = None,
        to: AgentId | None = None,
        limit: int | None = None,
    ) -> int:
        """Make dead letters receivable again, as if sent anew; return how many were moved."""
        return await self._pool.run(
            self._coordinator.replay_dead_letters,
            agent_id,
            message_ids=message_ids,
            to=to,
            limit=limit,
        )

    async def purge_dead_letters(
        self, agent_id: AgentId, *, message_ids: Sequence[str] | None = None
    ) -> int:
        """Drop dead letters of an inbox: those named, or all; return how many."""
        return await self._pool.run(
            self._coordinator.purge_dead_letters, agent_id, message_ids=message_ids
        )

    async def request(
        self, sender: AgentId, recipient: AgentId, payload: dict[str, Any], *, timeout: float
    ) -> AgentMessage:
        """Send a REQUEST and wait for its RESPONSE; cancelled, it is taken back.

        Raises:
            RequestTimeoutError: No reply came within `timeout` seconds.
            RemoteAgentError: The agent that was asked failed, and its retries are used up.
            InboxFullError: Its inbox has no room.
        """
        asking = self._coordinator.internals.steps.asking(
            sender, recipient, payload, timeout=timeout
        )
        with self._pool.call(), asking as pending:
            try:
                await self._pool.run(asking.send)
                await self._pool.sleep(asking.deadline, event=pending)
            except BaseException as error:
                await self._pool.clean_up(asking.take_back, error)
                raise
            if not pending.done():
                await self._pool.run(asking.take_back)
                raise asking.timed_out()
            return asking.read(pending.result())

    async def check(self) -> Report:
        """Look at every server and at this process for what endangers the guarantees."""
        return await self._pool.run(self._coordinator.check)
