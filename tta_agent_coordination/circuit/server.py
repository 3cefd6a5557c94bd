"""The circuit in Redis: one script for each decision."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tta_agent_coordination import policy
from tta_agent_coordination.circuit.config import CircuitBreakerConfig, CircuitBreakerState
from tta_agent_coordination.circuit.view import Outcome, View
from tta_agent_coordination.transport import scripts
from tta_agent_coordination.transport.gate import Command, Gate
from tta_agent_coordination.transport.scripts import Script

_MICROSECONDS = 1_000_000
_RETENTION_MS = round(policy.REPLAY_WINDOW * 1000)
_LIFETIME_MS = round(policy.CIRCUIT_LIFETIME * 1000)


class ServerCircuit:
    """The circuit that all processes share. Every method can be repeated; times are the server's.

    All raise `CoordinationError` when Redis cannot be reached, or refuses.
    """

    def __init__(self, gate: Gate, keys: Mapping[str, str]) -> None:
        """Reach Redis through `gate`."""
        self._gate = gate
        self._keys = keys

    def admit(self, call: str, config: CircuitBreakerConfig) -> View:
        """Let a call through, or not; a probe has a place from then on."""
        most = config.half_open_max_calls
        return self._look(scripts.CIRCUIT_ADMIT, call, most, _lease(), _LIFETIME_MS)

    def settle(
        self, call: str, period: int, outcome: Outcome, config: CircuitBreakerConfig
    ) -> View:
        """Count what came of a call, once, and give its place back."""
        return self._look(
            scripts.CIRCUIT_SETTLE,
            *(call, period, outcome.value, config.failure_threshold, config.success_threshold),
            *(_timeout(config), _LIFETIME_MS, _RETENTION_MS),
        )

    def read(self, config: CircuitBreakerConfig) -> View:
        """Look at it, and change nothing."""
        return self._look(scripts.CIRCUIT_READ, config.half_open_max_calls)

    def set(self, phase: CircuitBreakerState, config: CircuitBreakerConfig) -> View:
        """Put it into a phase."""
        call, timeout = secrets.token_hex(8), _timeout(config)
        return self._look(
            scripts.CIRCUIT_SET, call, phase.value, timeout, _LIFETIME_MS, _RETENTION_MS
        )

    def renew(self, calls: Sequence[str]) -> list[bool]:
        """Keep the places of probes; False where one is lost."""
        kept = self._run(scripts.CIRCUIT_RENEW, _lease(), _LIFETIME_MS, *calls)
        return [bool(each) for each in kept]

    def _look(self, script: Script, *words: str | int) -> View:
        asked_at = time.monotonic()
        admitted, phase, period, failures, successes, probes, left, opened, now = self._run(
            script, *words
        )
        known_at = time.monotonic()
        return View(
            phase=CircuitBreakerState(phase.decode()),
            period=int(period),
            failures=failures,
            successes=successes,
            probes=probes,
            opened_at=opened / _MICROSECONDS,
            ends=known_at + left / _MICROSECONDS,
            asked_at=asked_at,
            known_at=known_at,
            stamp=now,
            admitted=bool(admitted),
        )

    def _run(self, script: Script, *words: str | int) -> Any:
        keys = [self._keys[name] for name in script.keys]
        command = Command(("EVALSHA", script.sha, len(keys), *keys, *words), script)
        return self._gate.run(keys[0], command)[0]


def _timeout(config: CircuitBreakerConfig) -> int:
    return round(config.timeout_seconds * _MICROSECONDS)


def _lease() -> int:
    return round(policy.PROBE_LEASE * _MICROSECONDS)
