"""Registrations in Redis: read, written and removed, many at a time."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from typing import Any, cast

import attrs
import cattrs

from tta_agent_coordination import codec
from tta_agent_coordination.agents.capability import AgentCapability
from tta_agent_coordination.agents.record import RUNNING, AgentLoad, AgentRecord, Liveness
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.keys import Keys
from tta_agent_coordination.transport import scripts
from tta_agent_coordination.transport.gate import Command, Gate
from tta_agent_coordination.transport.scripts import Script

_AGENTS_A_SCRIPT = 100
_RECORDS_A_COMMAND = 1000
_ENDED = b"-"

_converter = cattrs.Converter(detailed_validation=False)


@attrs.frozen
class Registration:
    """What an agent's own process says of it at each beat.

    Attributes:
        name: For people.
        ttl: Seconds that a beat is good for.
        status: What it says of itself.
        capabilities: What it can do.
        load: How busy it is.
        process: Where it runs.
        registry: The registry object that said it, by a name that no other has.
    """

    name: str
    ttl: float
    status: str = RUNNING
    capabilities: tuple[AgentCapability, ...] = ()
    load: AgentLoad = attrs.field(factory=AgentLoad)
    process: str = ""
    registry: str = ""


@attrs.frozen
class Beat:
    """One beat of one agent.

    Attributes:
        agent_id: Whose.
        registration: What is said of it.
        state: The last state that is known of it, as JSON; empty for none.
        epoch: Of its registration; 0 before there is one.
    """

    agent_id: AgentId
    registration: Registration
    state: str = ""
    epoch: int = 0


@attrs.frozen
class Look:
    """All registrations at one moment, in the order of ids.

    Attributes:
        present: Those that hold.
        ended: Those that were ended within the grace time, as they were; their last beats are
            when that was.
    """

    present: list[AgentRecord]
    ended: list[AgentRecord]


class Store:
    """The registrations under one prefix."""

    def __init__(self, gate: Gate, keys: Keys, *, grace: float) -> None:
        """Reach Redis through `gate`; what has not beaten for `grace` seconds is forgotten."""
        self._gate = gate
        self._keys = keys.agents
        self._grace = round(grace * 1_000_000)

    def register(self, first: Beat) -> AgentRecord:
        """Begin a registration and return its record."""
        epoch, now = self._run(
            scripts.AGENTS_REGISTER,
            str(first.agent_id),
            _encode(first.registration),
            first.state,
            self._grace,
        )
        return _known(first.agent_id, first.registration, int(epoch), int(now), int(now))

    def beat(self, beats: Sequence[Beat]) -> list[bool]:
        """Carry out beats in one round trip; False where it is not ours any more."""
        replies = self._gate.run(self._keys["records"], *self._beat_commands(beats))
        return [bool(answer) for reply in replies for answer in reply]

    def remove(self, agent_id: AgentId, *, epoch: int = 0, state: str = "") -> bool:
        """End a registration: that of `epoch`, or any; keep its state, or what it was before."""
        call = secrets.token_hex(8)
        words = (str(agent_id), str(epoch), state, self._grace, call)
        return bool(self._run(scripts.AGENTS_REMOVE, *words))

    def read(self, agent_id: AgentId) -> AgentRecord | None:
        """Return one record."""
        now, raw = self._read_one(self._keys["records"], agent_id)
        if raw is None or _is_ended(raw):
            return None
        return _record(str(agent_id).encode(), raw, now)

    def epoch_by(self, registry: str, agent_id: AgentId) -> int | None:
        """Return the epoch of a registration that holds, if this registry object made it."""
        _, raw = self._read_one(self._keys["records"], agent_id)
        stored = None if raw is None or _is_ended(raw) else _parsed(raw)
        return stored[0] if stored is not None and stored[2].registry == registry else None

    def state(self, agent_id: AgentId) -> dict[str, Any] | None:
        """Return what an agent exported last."""
        _, raw = self._read_one(self._keys["states"], agent_id)
        try:
            state: object = None if raw is None else json.loads(raw)
        except ValueError:  # written by somebody else
            return None
        return cast("dict[str, Any]", state) if isinstance(state, dict) else None

    def read_all(self) -> list[AgentRecord]:
        """Return all records in the order of ids, in two round trips."""
        return self.look().present

    def look(self) -> Look:
        """Return all records, and those that were ended lately, in two round trips."""
        time, ends = self._gate.run(
            self._keys["ends"],
            Command(("TIME",)),
            Command(("ZRANGE", self._keys["ends"], 0, -1, "WITHSCORES")),
        )
        now = _microseconds(time)
        names = sorted(
            raw for raw, end in zip(ends[::2], ends[1::2], strict=True) if float(end) > now
        )
        look = Look([], [])
        for name, raw in zip(names, self._stored(names), strict=True):
            record = None if raw is None else _record(name, raw, now)
            if raw is not None and record is not None:
                (look.ended if _is_ended(raw) else look.present).append(record)
        return look

    def _read_one(self, key: str, agent_id: AgentId) -> tuple[int, bytes | None]:
        name = str(agent_id)
        time, raw, end = self._gate.run(
            key,
            Command(("TIME",)),
            Command(("HGET", key, name)),
            Command(("ZSCORE", self._keys["ends"], name)),
        )
        now = _microseconds(time)
        return now, raw if end is not None and float(end) > now else None

    def _beat_commands(self, beats: Sequence[Beat]) -> Iterator[Command]:
        for start in range(0, len(beats), _AGENTS_A_SCRIPT):
            words: list[str | int] = [self._grace]
            for beat in beats[start : start + _AGENTS_A_SCRIPT]:
                body = _encode(beat.registration)
                words += (str(beat.agent_id), str(beat.epoch), body, beat.state)
            yield self._command(scripts.AGENTS_BEAT, *words)

    def _stored(self, names: Sequence[bytes]) -> Iterator[bytes | None]:
        key = self._keys["records"]
        commands = [
            Command(("HMGET", key, *names[start : start + _RECORDS_A_COMMAND]))
            for start in range(0, len(names), _RECORDS_A_COMMAND)
        ]
        for reply in self._gate.run(key, *commands) if commands else ():
            yield from reply

    def _run(self, script: Script, *arguments: str | int) -> Any:
        return self._gate.run(self._keys["records"], self._command(script, *arguments))[0]

    def _command(self, script: Script, *arguments: str | int) -> Command:
        keys = [self._keys[name] for name in script.keys]
        return Command(("EVALSHA", script.sha, len(keys), *keys, *arguments), script)


def liveness(age: float, ttl: float) -> Liveness:
    """Return how an agent is whose last beat is `age` seconds old."""
    if age < ttl:
        return Liveness.ALIVE
    return Liveness.SUSPECT if age < 2 * ttl else Liveness.DEAD


def _is_ended(raw: bytes) -> bool:
    return raw.split(b" ", 2)[1:2] == [_ENDED]


def _record(name: bytes, raw: bytes, now: int) -> AgentRecord | None:
    """Return the record that is stored, or that was when it was ended; None if it is none of ours.

    The last beat of one that was ended is its end.
    """
    stored = _parsed(raw)
    try:
        agent_id = codec.parse_agent_id(name.decode())
    except ValueError:
        return None
    return None if stored is None else _known(agent_id, stored[2], stored[0], stored[1], now)


def _parsed(raw: bytes) -> tuple[int, int, Registration] | None:
    """Return epoch, last beat or end, and what was said; None if it is none of ours."""
    epoch, _, rest = raw.partition(b" ")
    beat, _, body = rest.partition(b" ")
    if beat == _ENDED:
        beat, _, body = body.partition(b" ")[2].partition(b" ")
    try:
        return int(epoch), int(beat), _converter.structure(json.loads(body), Registration)
    except Exception:  # noqa: BLE001 - what somebody else wrote is passed over, whatever it is
        return None


def _known(
    agent_id: AgentId, registration: Registration, epoch: int, beat: int, now: int
) -> AgentRecord:
    return AgentRecord(
        agent_id,
        registration.name,
        epoch,
        liveness((now - beat) / 1_000_000, registration.ttl),
        codec.from_microseconds(epoch),
        codec.from_microseconds(beat),
        registration.ttl,
        registration.status,
        registration.capabilities,
        registration.load,
        registration.process,
    )


def _encode(registration: Registration) -> str:
    return json.dumps(_converter.unstructure(registration), separators=(",", ":"))


def _microseconds(time: Sequence[bytes]) -> int:
    return int(time[0]) * 1_000_000 + int(time[1])
