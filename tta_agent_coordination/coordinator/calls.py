"""The scripts, bound to the keys of an inbox and to the gates."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import attrs

from tta_agent_coordination import checks, policy
from tta_agent_coordination.coordinator.replication import Replicas
from tta_agent_coordination.identity import REPLY_TYPE, AgentId
from tta_agent_coordination.keys import Keys
from tta_agent_coordination.policy import InboxPolicy
from tta_agent_coordination.transport.command import Command, Ready, Word
from tta_agent_coordination.transport.gate import Gate
from tta_agent_coordination.transport.link import Link
from tta_agent_coordination.transport.scripts import Script

Argument = Word


def microseconds(seconds: float) -> int:
    """Return a duration as the scripts take it."""
    return round(seconds * 1_000_000)


def milliseconds(seconds: float) -> int:
    """Return a time to live as Redis takes it: whole milliseconds, at least one."""
    return max(round(seconds * 1000), 1)


_dice = random.Random()
os.register_at_fork(after_in_child=_dice.seed)


def new_call_id() -> str:
    """Return what a script recognizes a repeated call by; also the nonce of a lease."""
    # To ask the system each time would give the interpreter to another thread in mid-call.
    return f"{_dice.getrandbits(64):016x}"


def lifetime(agent_id: AgentId) -> int:
    """Return milliseconds for which an inbox lives after its last use; 0: it stays."""
    return milliseconds(policy.REPLY_LIFETIME) if agent_id.type == REPLY_TYPE else 0


def wait_times(left: float, due: float | None) -> tuple[float, float | None]:
    """Return how long to block for, and when to nudge if that is before; both in seconds."""
    seconds = max(min(left, policy.WAIT_SLICE), SHORTEST_WAIT)
    return seconds, None if due is None or due >= seconds else max(due, SHORTEST_WAIT)


SHORTEST_WAIT = 0.001
"""Seconds; servers take a time-out of 0 for none."""
HORIZON = microseconds(policy.WAIT_SLICE)
"""What becomes due within this time is announced to those who wait."""


_HOST = "".join(socket.gethostname().split()) or "localhost"


def _check_name(_owner: object, _attribute: object, value: object) -> None:
    if value is None:
        return
    name = checks.instance_of("consumer_name", value, str)
    if not 1 <= len(name) <= 128 or not name.isprintable() or " " in name or name == "-":
        raise ValueError(
            "consumer_name must be 1 to 128 printable characters without spaces, "
            f"not {checks.describe(name)}"
        )


@attrs.define
class Calls:
    """Runs scripts on inboxes under the policy in force.

    Attributes:
        link: The connections.
        keys: The names of keys.
        policy: What is asked of inboxes; replaced as a whole by ``configure``.
        consumer_name: The name under which messages are leased; None for ``host:pid``.
        replicas: What waits for replicas after a send; None: nothing does.
        key: Returns a key of an inbox, to find its server by.
    """

    link: Link
    keys: Keys
    policy: InboxPolicy
    consumer_name: str | None = attrs.field(validator=_check_name)
    replicas: Replicas | None = None
    key: Callable[[AgentId], str] = attrs.field(init=False)
    _heads: Any = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Cache what begins the same command again and again, and where it goes."""
        self._heads = lru_cache(maxsize=4096)(self._head)
        self.key = lru_cache(maxsize=4096)(self._key)

    @property
    def holder(self) -> str:
        """The name under which messages are leased, in this process."""
        return self.consumer_name or f"{_HOST}:{os.getpid()}"

    def command(self, script: Script, agent_id: AgentId, arguments: Sequence[Argument]) -> Command:
        """Return the command that runs `script` on the inbox of `agent_id`."""
        return Command(tuple(arguments), script, self._heads(script, agent_id))

    def run(self, script: Script, agent_id: AgentId, *arguments: Argument) -> Any:
        """Run `script` through the gate for commands and return its reply."""
        return self._run(self.link.commands, script, agent_id, arguments)

    def run_on_lease(self, script: Script, agent_id: AgentId, *arguments: Argument) -> Any:
        """Run `script` through the gate for leases and return its reply."""
        return self._run(self.link.leases, script, agent_id, arguments)

    def run_each(self, runs: Sequence[tuple[AgentId, Command]]) -> list[tuple[Any, int | None]]:
        """Store in several inboxes, in as few round trips as the servers allow.

        They go through the gate for commands, in the order given on each inbox.

        Returns:
            For each the reply, and how many replicas have it if that is asked.
        """
        if self.link.route().spread:
            groups: dict[object, list[int]] = {}
            for position, (agent_id, _) in enumerate(runs):
                groups.setdefault(agent_id, []).append(position)
        else:
            groups = {None: list(range(len(runs)))}
        replies: list[tuple[Any, int | None]] = [(None, None)] * len(runs)
        for positions in groups.values():
            agent_id = runs[positions[0]][0]
            answers, replicas = self._store(agent_id, [runs[i][1] for i in positions])
            for position, answer in zip(positions, answers, strict=True):
                replies[position] = answer, replicas
        return replies

    def ask_each(self, runs: Sequence[tuple[AgentId, Command]]) -> list[Any]:
        """Ask several inboxes something, in as few round trips as the servers allow."""
        run = self.link.commands.run
        if self.link.route().spread:
            return [run(self.key(agent_id), command)[0] for agent_id, command in runs]
        return run(self.key(runs[0][0]), *(command for _, command in runs)) if runs else []

    def store(self, agent_id: AgentId, command: Command) -> tuple[Any, int | None]:
        """Run a command that stores in an inbox, through the gate for commands.

        Returns:
            Its reply, and how many replicas have it if that is asked.
        """
        if self.replicas is None:
            return self.run_command(agent_id, command)[0], None
        answers, replicas = self._store(agent_id, [command])
        return answers[0], replicas

    def _store(
        self, agent_id: AgentId, commands: Sequence[Command]
    ) -> tuple[list[Any], int | None]:
        run, key = self.link.commands.run, self.key(agent_id)
        if self.replicas is None:
            return run(key, *commands), None
        answers = run(key, *commands, *self.replicas.after(agent_id))
        return answers[: len(commands)], self.replicas.count(answers)

    def run_command(self, agent_id: AgentId, command: Command) -> list[Any]:
        """Run one command on an inbox through the gate for commands; its reply is the only one."""
        return self.link.commands.run(self.key(agent_id), command)

    def _run(
        self, gate: Gate, script: Script, agent_id: AgentId, arguments: Sequence[Argument]
    ) -> Any:
        command = self.command(script, agent_id, arguments)
        return gate.run(self.key(agent_id), command)[0]

    def _key(self, agent_id: AgentId) -> str:
        return self.keys.inbox(agent_id)["messages"]

    def _head(self, script: Script, agent_id: AgentId) -> Ready:
        keys = self.keys.inbox(agent_id)
        names = (keys[name] for name in script.keys)
        return Ready.of(("EVALSHA", script.sha, len(script.keys), *names))
