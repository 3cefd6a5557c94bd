"""What a user writes: a class with ``process``, or functions for topics and types."""

from __future__ import annotations

import contextvars
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Never, TypeVar, cast

import attrs

from tta_agent_coordination import checks
from tta_agent_coordination.agents.capability import AgentCapability
from tta_agent_coordination.delivery import ReceivedMessage, topic_matches
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.message import AgentMessage, MessageType

Payload = dict[str, Any]
"""A JSON object."""
Answer = Payload | Awaitable[Payload | None] | None
"""What a handler returns; an asynchronous one returns what is to be awaited for it."""
Handler = Callable[[AgentMessage], Answer]
"""What is called with a message; what it returns answers a REQUEST."""
HandlerT = TypeVar("HandlerT", bound=Callable[..., Answer])


class RejectMessage(Exception):  # noqa: N818 - an instruction to the worker, not an error of ours
    """Raised by a handler: the message can never be handled. It goes to the dead letters."""

    def __init__(self, reason: str = "rejected") -> None:
        """Keep the reason, which the dead letter shows."""
        super().__init__(reason)
        self.reason = reason


class RetryLater(Exception):  # noqa: N818 - as above
    """Raised by a handler: deliver the message again after `delay` seconds.

    It counts as an attempt, like every other failure.
    """

    def __init__(self, delay: float, reason: str = "retry later") -> None:
        """Keep the delay in seconds, and the reason."""
        super().__init__(reason)
        self.delay = checks.duration("delay", delay)
        self.reason = reason


class CurrentMessage:
    """The message that the calling thread is handling."""

    def __init__(self, received: ReceivedMessage) -> None:
        """Take it as it came."""
        self._message = received.message
        self._received: Callable[[], ReceivedMessage] = lambda: received
        self._lost = False
        self._lease_ends = math.inf

    @property
    def received(self) -> ReceivedMessage:
        """As it came, with its attempts and its token."""
        return self._received()

    @property
    def message(self) -> AgentMessage:
        """The message."""
        return self._message

    @property
    def lease_lost(self) -> bool:
        """Whether somebody else may be handling it by now: give up what is not done yet.

        Once it is true it stays so. The time since the last renewal is looked at here, too: what
        renews may be held up, by a Redis that does not answer or because all of the process was.
        """
        if time.monotonic() >= self._lease_ends:
            self._lost = True
        return self._lost


class MessageInHand(CurrentMessage):
    """The same for the worker, which alone says until when the lease lasts, and that it is lost."""

    def __init__(self, message: AgentMessage, received: Callable[[], ReceivedMessage]) -> None:
        """Take the message; `received` makes the rest if somebody asks: few handlers do."""
        self._message = message
        self._received = received
        self._lost = False
        self._lease_ends = math.inf

    @property
    def was_told(self) -> bool:
        """Whether the lease was lost when `lease_lost` was asked last."""
        return self._lost

    def keep_lease(self, ends: float) -> None:
        """Note until when the lease lasts, in monotonic seconds."""
        self._lease_ends = ends

    def lose_lease(self) -> None:
        """Note that the lease is lost."""
        self._lost = True


_current: contextvars.ContextVar[CurrentMessage | None] = contextvars.ContextVar(
    "tta_agent_coordination_current_message", default=None
)


def current_message() -> CurrentMessage:
    """Return the message that this thread is handling.

    Raises:
        LookupError: It is handling none.
    """
    current = _current.get()
    if current is None:
        raise LookupError("no message is being handled in this thread")
    return current


def set_current(current: CurrentMessage | None) -> None:
    """Say what this thread is handling from now on."""
    _current.set(current)


class AgentProxy(ABC):
    """What workers and the registry ask of an agent. `Agent` has it all but ``process``.

    ``process``, ``on_event``, ``start`` and ``stop`` may be coroutine functions: the worker runs
    them on an event loop in a thread of its own. The others are ordinary functions.
    """

    agent_id: AgentId
    name: str

    @abstractmethod
    def process(self, payload: Payload) -> Payload | Awaitable[Payload]:
        """Handle a message and return the answer, both JSON objects.

        Called in several threads at once; if it is a coroutine function, awaited in several tasks
        of one event loop. What it raises makes the message be retried;
        `RejectMessage` and `RetryLater` say more precisely what is to happen.
        """

    def start(self) -> Awaitable[None] | None:  # noqa: B027 - a hook: most need it not
        """Be told that a worker begins to serve it."""

    def stop(self) -> Awaitable[None] | None:  # noqa: B027 - a hook, as above
        """Be told that a worker ends serving it."""

    def health_check(self) -> bool:
        """Whether it is well; False, or an error, calls for a restart."""
        return True

    def export_state(self) -> Payload | None:
        """Return what a successor shall be given, a JSON object; None for nothing."""
        return None

    def import_state(self, state: Payload) -> None:  # noqa: B027 - a hook, as above
        """Take over what a predecessor of the same id exported."""

    def get_capabilities(self) -> Sequence[AgentCapability]:
        """Return what it can do."""
        return ()

    def on_event(self, message: AgentMessage) -> Awaitable[object] | None:
        """Handle a message that asks for no answer; by itself, it calls ``process``."""
        answer = self.process(message.payload)
        return None if isinstance(answer, dict) else answer


@attrs.frozen
class _Route:
    handler: Handler
    message_type: MessageType | None
    topic: str | None

    def __attrs_post_init__(self) -> None:
        name = getattr(self.handler, "__qualname__", "given to on()")
        checks.handler(f"the handler {name}", self.handler, "the message")

    def matches(self, message: AgentMessage) -> bool:
        if self.message_type is not None and self.message_type != message.message_type:
            return False
        return self.topic is None or topic_matches(self.topic, message.routing.topic)


_MARK = "__tta_handles__"


def handles(
    *misplaced: Never, message_type: MessageType | None = None, topic: str | None = None
) -> Callable[[HandlerT], HandlerT]:
    """Mark a method of an `Agent` as the handler of some messages, in place of ``process``.

    Args:
        misplaced: Nothing: what it handles is given by name.
        message_type: Only messages of this type.
        topic: Only messages of this topic; one that ends in ``*`` stands for all that begin so.

    Returns:
        A decorator for a method that takes the `AgentMessage`.

    Raises:
        TypeError: An argument was given without its name, or the method as the only one.
    """
    _check_by_name("handles", misplaced)

    def mark(method: HandlerT) -> HandlerT:
        setattr(method, _MARK, (message_type, topic))
        return method

    return mark


def _check_by_name(decorator: str, misplaced: tuple[object, ...]) -> None:
    """Refuse what was given without a name, and say how to write it."""
    if not misplaced:
        return
    given = misplaced[0]
    hint = f"@{decorator}(topic=…) or @{decorator}(message_type=…)"
    if isinstance(given, MessageType):  # before str, which it is too
        hint = f"@{decorator}(message_type=MessageType.{given.name})"
    elif isinstance(given, str):
        hint = f'@{decorator}(topic="{given}")'
    raise TypeError(f"{decorator} takes its arguments by name: write {hint}")


def _marked(kind: type) -> Iterator[tuple[str, tuple[MessageType | None, str | None]]]:
    """Yield the marked methods of a class in the order of definition, then those of its bases.

    Only the classes are looked at: a property of the agent must not run for that.
    """
    seen = set[str]()
    for base in kind.__mro__:
        for name, member in vars(base).items():
            if name not in seen and hasattr(member, _MARK):
                yield name, getattr(member, _MARK)
            seen.add(name)


class Agent(AgentProxy):
    """The base of a user's agents: write ``process``.

    Attributes:
        agent_id: Its address. With an instance, it also shares the inbox of its type.
        name: For people; the id unless something else is given.
    """

    def __init__(self, agent_id: AgentId | None = None, name: str | None = None) -> None:
        """Take an address and a name; a subclass may have both as attributes or properties."""
        given = agent_id if agent_id is not None else getattr(self, "agent_id", None)
        if given is None:
            raise TypeError(
                f"{type(self).__name__} has no agent_id: give one to its constructor, or to the "
                "class (agent_id = AgentId(…))"
            )
        self._settle("agent_id", checks.instance_of("agent_id", given, AgentId))
        named = name if name is not None else getattr(self, "name", None)
        self._settle("name", checks.instance_of("name", named or str(given), str))
        self._routes = [
            _Route(getattr(self, method), *mark) for method, mark in _marked(type(self))
        ]

    def _settle(self, name: str, value: object) -> None:
        if getattr(self, name, None) != value:  # a property need not be one that can be set
            setattr(self, name, value)

    def on(
        self,
        *misplaced: Never,
        message_type: MessageType | None = None,
        topic: str | None = None,
    ) -> Callable[[HandlerT], HandlerT]:
        """Register a function as the handler of some messages, in place of ``process``.

        Args:
            misplaced: Nothing: what it handles is given by name.
            message_type: Only messages of this type.
            topic: Only messages of this topic; one that ends in ``*`` stands for all that begin
                so.

        Raises:
            TypeError: The function cannot be called with a message alone; or an argument was given
                without its name.
        """
        _check_by_name("on", misplaced)

        def register(function: HandlerT) -> HandlerT:
            self._routes.append(_Route(function, message_type, topic))
            return function

        return register

    @property
    def handles_something(self) -> bool:
        """Whether it has a ``process`` or another method of its own for messages, or a handler."""
        own = ("process", "on_event", "handle")
        return bool(self._routes) or any(
            getattr(getattr(self, name), "__func__", None) is not getattr(Agent, name)
            for name in own
        )

    def process(self, payload: Payload) -> Payload | Awaitable[Payload]:
        """Refuse: this agent handles only what its handlers name."""
        del payload
        raise RejectMessage(f"agent {self.agent_id} has no handler for this message")

    def handle(self, message: AgentMessage) -> Answer:
        """Hand a message to the first handler that asks for it, else to ``process``."""
        for route in self._routes:
            if route.matches(message):
                return route.handler(message)
        return hand_over(self, message)


def check_made(agent: object) -> None:
    """Refuse a class in place of an agent, and an `Agent` that its own constructor made in part.

    Raises:
        TypeError: It is a class; or its constructor did not call that of `Agent`.
    """
    if isinstance(agent, type):
        raise TypeError(
            f"an agent is needed, not {checks.describe(agent)}: make one, {agent.__name__}(…)"
        )
    if isinstance(agent, Agent) and "_routes" not in vars(agent):
        kind = type(agent).__name__
        raise TypeError(f"{kind} is not ready: call super().__init__(…) in {kind}.__init__")


def check_servable(agent: AgentProxy) -> None:
    """Refuse an agent whose first message would show that it cannot handle any.

    Raises:
        TypeError: Its constructor did not call that of `Agent`; or it has no handler, or one that
            cannot be called with what it is given.
    """
    check_made(agent)
    if isinstance(agent, Agent) and not agent.handles_something:
        raise TypeError(
            f"agent {agent.agent_id} handles nothing: write its process method, or register a "
            "handler before it is given to a worker"
        )
    given = {"process": "the payload", "on_event": "the message"}
    if isinstance(agent, Agent):
        given["handle"] = "the message"
    for name, argument in given.items():
        checks.handler(f"{name} of agent {agent.agent_id}", getattr(agent, name), argument)


def hand_over(agent: AgentProxy, message: AgentMessage) -> Answer:
    """Hand a message to the method of `agent` for its type."""
    if message.message_type is MessageType.REQUEST:
        return agent.process(message.payload)
    return cast("Awaitable[None] | None", agent.on_event(message))
