"""A state machine that does the same to real inboxes and to their models, and compares."""

import itertools
from dataclasses import dataclass

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    invariant,
    multiple,
    precondition,
    rule,
)

from tests.stateful.model import Dead, InboxModel, Rules, Stored
from tests.support.raw_inbox import look
from tests.support.servers import Client
from tests.support.time_machine import let_pass
from tta_agent_coordination import (
    AgentId,
    AgentMessage,
    DeadLetter,
    FailureType,
    InboxStats,
    MessagePriority,
    RedisMessageCoordinator,
)
from tta_agent_coordination.keys import Keys

HOUR = 3600.0

RULES = Rules(
    queue_size=5,
    deliveries=2,
    # 10 % of jitter at most: the retries come within the first, the second and the third hour.
    backoff_base=0.9,
    backoff_factor=2.0,
    backoff_max=2.7,
    dedup_window=3,
    dead_letter_limit=3,
)
OPTIONS = {
    "queue_size": RULES.queue_size,
    "retry_attempts": RULES.deliveries - 1,
    "backoff_base": RULES.backoff_base * HOUR,
    "backoff_factor": RULES.backoff_factor,
    "backoff_max": RULES.backoff_max * HOUR,
    "dedup_window": RULES.dedup_window * HOUR,
    "dead_letter_limit": RULES.dead_letter_limit,
}
CONSUMERS = 3

IDS = [f"message-{letter}" for letter in "abcdef"]
SENDER = AgentId("sender")

_examples = itertools.count()


@dataclass(frozen=True)
class World:
    """What all examples of one test share: the server, and consumers that do not know each other.

    Inboxes are new in each example, so consumers and their connections need not be.
    """

    client: Client
    prefix: str
    consumers: tuple[RedisMessageCoordinator, ...]


@dataclass(frozen=True)
class Token:
    """A token, with the inbox and the message that it is for."""

    inbox: int
    message_id: str
    text: str


consumers = st.integers(0, CONSUMERS - 1)
inboxes = st.integers(0, 1)
priorities = st.sampled_from(MessagePriority)
hours = st.integers(1, 3)
delays = st.sampled_from([0, 0, 1, 2])
some_ids = st.lists(st.sampled_from(IDS), max_size=4, unique=True)


class InboxMachine(RuleBasedStateMachine):
    """Two inboxes, three consumers, six ids; every answer is the model's."""

    world: World

    tokens = Bundle("tokens")

    def __init__(self) -> None:
        super().__init__()
        number = next(_examples)
        self.agents = (AgentId("worker", str(number)), AgentId("other", str(number)))
        self.models = (InboxModel(RULES), InboxModel(RULES))
        self.held: list[Token] = []
        self.seen_tokens: set[str] = set()
        self.letters = itertools.count()

    # Sending ---------------------------------------------------------------------------------

    @rule(
        who=consumers,
        inbox=inboxes,
        message_id=st.sampled_from(IDS),
        priority=priorities,
        delay=delays,
        ttl=st.sampled_from([None, None, None, 1, 2]),
    )
    def send(self, who, inbox, message_id, priority, delay, ttl) -> None:
        message = self._message(inbox, message_id, priority, ttl)
        answer = self._consumer(who).send_message(
            SENDER, self.agents[inbox], message, delay=delay * HOUR
        )
        assert answer == self.models[inbox].send(message, delay)

    @rule(
        who=consumers,
        letters=st.lists(st.tuples(inboxes, st.sampled_from(IDS), priorities), max_size=6),
    )
    def send_many(self, who, letters) -> None:
        messages = [self._message(*letter) for letter in letters]
        answers = self._consumer(who).send_many(SENDER, messages)
        expected = [
            self.models[inbox].send(message)
            for (inbox, *_), message in zip(letters, messages, strict=True)
        ]
        assert answers == expected

    # Receiving -------------------------------------------------------------------------------

    @rule(target=tokens, who=consumers, inbox=inboxes, lease=hours)
    def receive(self, who, inbox, lease) -> MultipleResults[Token]:
        received = self._consumer(who).receive(self.agents[inbox], lease * HOUR)
        return self._delivered(who, inbox, 1, lease, [received] if received else [])

    @rule(target=tokens, who=consumers, inbox=inboxes, most=st.integers(1, 4), lease=hours)
    def receive_many(self, who, inbox, most, lease) -> MultipleResults[Token]:
        received = self._consumer(who).receive_many(self.agents[inbox], most, lease * HOUR)
        return self._delivered(who, inbox, most, lease, received)

    def _delivered(self, who, inbox, most, lease, received) -> MultipleResults[Token]:
        expected = self.models[inbox].receive(most, lease, f"consumer-{who}")
        assert [_delivery(message) for message in received] == [
            (stored.message, stored.message.priority, stored.attempts, stored.error)
            for stored in expected
        ]
        new = [Token(inbox, item.message.message_id, item.token) for item in received]
        assert len({token.text for token in new} - self.seen_tokens) == len(new)
        for token, stored in zip(new, expected, strict=True):
            stored.token = token.text
            self.seen_tokens.add(token.text)
        self.held += new
        return multiple(*new)

    @rule(who=consumers, inbox=inboxes)
    def recover(self, who, inbox) -> None:
        moved = self._consumer(who).recover_pending(self.agents[inbox])
        assert moved == self.models[inbox].recover()

    @rule(who=consumers)
    def recover_all(self, who) -> None:
        moved = self._consumer(who).recover_pending()
        assert moved == sum(model.recover() for model in self.models)

    # Settling: any token, again and again, however old ------------------------------------------

    @rule(who=consumers, token=tokens)
    def ack(self, who, token) -> None:
        answer = self._consumer(who).ack(self.agents[token.inbox], token.text)
        assert answer is self.models[token.inbox].ack(token.message_id, token.text)

    @precondition(lambda self: self.held)
    @rule(who=consumers, token=st.runner().flatmap(lambda self: st.sampled_from(self.held[-4:])))
    def ack_a_late_one(self, who, token) -> None:
        self.ack(who, token)

    @rule(who=consumers, inbox=inboxes, chosen=st.lists(tokens, max_size=4))
    def ack_many(self, who, inbox, chosen) -> None:
        chosen = [token for token in chosen if token.inbox == inbox]
        answers = self._consumer(who).ack_many(self.agents[inbox], [item.text for item in chosen])
        model = self.models[inbox]
        assert answers == [model.ack(token.message_id, token.text) for token in chosen]

    @rule(
        who=consumers,
        token=tokens,
        failure=st.sampled_from(FailureType),
        error=st.sampled_from([None, "boom", "two words\nand a line", "-", "+"]),
        delay=st.sampled_from([None, None, 0, 2]),
    )
    def nack(self, who, token, failure, error, delay) -> None:
        answer = self._consumer(who).nack(
            self.agents[token.inbox],
            token.text,
            failure,
            error,
            delay=None if delay is None else delay * HOUR,
        )
        assert answer is self.models[token.inbox].nack(
            token.message_id,
            token.text,
            permanent=failure is FailureType.PERMANENT,
            error=error,
            delay=delay,
        )

    @precondition(lambda self: self.held)
    @rule(
        who=consumers,
        token=st.runner().flatmap(lambda self: st.sampled_from(self.held[-4:])),
        failure=st.sampled_from(FailureType),
        delay=st.sampled_from([None, 0]),
    )
    def nack_a_late_one(self, who, token, failure, delay) -> None:
        self.nack(who, token, failure, "late", delay)

    @rule(who=consumers, token=tokens, lease=st.integers(0, 3))
    def extend(self, who, token, lease) -> None:
        answer = self._consumer(who).extend(self.agents[token.inbox], token.text, lease * HOUR)
        assert answer is self.models[token.inbox].extend(token.message_id, token.text, lease)

    @rule(who=consumers, token=tokens)
    def release(self, who, token) -> None:
        answer = self._consumer(who).release(self.agents[token.inbox], token.text)
        assert answer is self.models[token.inbox].release(token.message_id, token.text)

    # Time and ends ---------------------------------------------------------------------------

    @rule(elapsed=hours)
    def let_time_pass(self, elapsed) -> None:
        for agent, model in zip(self.agents, self.models, strict=True):
            let_pass(self.world.client, self.world.prefix, agent, elapsed * HOUR)
            model.now += elapsed

    @rule(who=consumers, inbox=inboxes)
    def purge(self, who, inbox) -> None:
        assert self._consumer(who).purge(self.agents[inbox]) == self.models[inbox].purge()

    # Two that often go together, so that the ends of messages are met more often --------------

    @rule(target=tokens, who=consumers, inbox=inboxes, lease=hours)
    def receive_and_crash(self, who, inbox, lease) -> MultipleResults[Token]:
        taken = self.receive(who, inbox, lease)
        self.let_time_pass(lease)
        return taken

    @rule(target=tokens, who=consumers, inbox=inboxes)
    def receive_and_give_up(self, who, inbox) -> MultipleResults[Token]:
        taken = self.receive(who, inbox, 1)
        for token in taken.values:
            self.nack(who, token, FailureType.PERMANENT, "broken", None)
        return taken

    # Dead letters ----------------------------------------------------------------------------

    @rule(who=consumers, inbox=inboxes, limit=st.sampled_from([None, 0, 1, 2]))
    def replay_all(self, who, inbox, limit) -> None:
        moved = self._consumer(who).replay_dead_letters(self.agents[inbox], limit=limit)
        model = self.models[inbox]
        assert moved == model.replay(model.dead_in_order(), limit)

    @rule(who=consumers, inbox=inboxes, ids=some_ids)
    def replay_some(self, who, inbox, ids) -> None:
        moved = self._consumer(who).replay_dead_letters(self.agents[inbox], message_ids=ids)
        assert moved == self.models[inbox].replay(ids)

    @rule(who=consumers, inbox=inboxes, ids=st.none() | some_ids)
    def replay_elsewhere(self, who, inbox, ids) -> None:
        here, there = self.models[inbox], self.models[1 - inbox]
        to = self.agents[1 - inbox]
        moved = self._consumer(who).replay_dead_letters(self.agents[inbox], message_ids=ids, to=to)
        assert moved == here.replay_to(there, here.dead_in_order() if ids is None else ids)
        for stored in there.unfinished.values():
            stored.message = attrs.evolve(stored.message, recipient=to)

    @rule(who=consumers, inbox=inboxes, ids=st.none() | some_ids)
    def purge_dead(self, who, inbox, ids) -> None:
        gone = self._consumer(who).purge_dead_letters(self.agents[inbox], message_ids=ids)
        assert gone == self.models[inbox].purge_dead(ids)

    # What holds after each step ------------------------------------------------------------------

    @invariant()
    def counts_are_the_models(self) -> None:
        for agent, model in zip(self.agents, self.models, strict=True):
            stats = self._consumer(0).stats(agent)
            assert _counts(stats) == _expected_counts(model)

    @invariant()
    def dead_letters_are_the_models(self) -> None:
        for agent, model in zip(self.agents, self.models, strict=True):
            letters = self._consumer(0).dead_letters(agent)
            expected = [model.dead[message_id] for message_id in model.dead_in_order()]
            assert [_letter(letter) for letter in letters] == [_dead(dead) for dead in expected]

    @invariant()
    def each_message_is_in_one_place(self) -> None:
        for agent, model in zip(self.agents, self.models, strict=True):
            raw = look(self.world.client, self.world.prefix, agent)
            assert not list(raw.faults())
            for place in ("ready", "delayed", "leased"):
                expected = {i for i, stored in model.unfinished.items() if stored.place == place}
                assert getattr(raw, place) == expected
            assert raw.dead == set(model.dead)

    def teardown(self) -> None:
        for agent in self.agents:
            for key in Keys(self.world.prefix).inbox(agent).values():
                self.world.client.unlink(key)
        self.world.client.unlink(Keys(self.world.prefix).inboxes)

    def _consumer(self, number: int) -> RedisMessageCoordinator:
        return self.world.consumers[number]

    def _message(self, inbox, message_id, priority, ttl=None) -> AgentMessage:
        return AgentMessage(
            SENDER,
            self.agents[inbox],
            {"letter": next(self.letters)},
            message_id=message_id,
            priority=priority,
            ttl=None if ttl is None else ttl * HOUR,
        )


def _delivery(received) -> tuple[object, ...]:
    stored = received.queue_message
    return stored.message, stored.priority, stored.delivery_attempts, stored.last_error


def _counts(stats: InboxStats) -> tuple[object, ...]:
    ages_known = (stats.oldest_ready_age is None) == (sum(stats.ready.values()) == 0)
    assert ages_known
    return dict(stats.ready), stats.delayed, stats.leased, stats.dead, stats.dead_dropped


def _expected_counts(model: InboxModel) -> tuple[object, ...]:
    places = [stored.place for stored in model.unfinished.values()]
    ready = {
        priority: sum(
            stored.place == "ready" and stored.message.priority is priority
            for stored in model.unfinished.values()
        )
        for priority in MessagePriority
    }
    return ready, places.count("delayed"), places.count("leased"), len(model.dead), model.dropped


def _letter(letter: DeadLetter) -> tuple[object, ...]:
    stored = letter.queue_message
    assert stored is not None
    assert letter.message_id == stored.message.message_id
    return (
        stored.message,
        letter.reason,
        stored.delivery_attempts,
        stored.last_error,
        letter.last_holder,
    )


def _dead(dead: Dead) -> tuple[object, ...]:
    stored: Stored = dead.stored
    return stored.message, dead.reason, stored.attempts, dead.error, stored.holder
