"""The report at the end: what was done, what was lost and found, and whether it is right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

import attrs

from tta_agent_coordination import DeadLetter, RejectMessage
from tta_agent_coordination.demo.analysis import Analysis, Outcome
from tta_agent_coordination.demo.corpus import Task
from tta_agent_coordination.demo.stage import Tally

MOST_DEAD_LETTERS = 30
MOST_DIFFERENCES = 10


@attrs.frozen
class Report:
    """Two ways to the same results.

    Attributes:
        tasks: What was to be done.
        tally: Of the processes.
        plain: What one process found out by itself.
        plain_seconds: How long that took.
        analysts: How many there were.
    """

    tasks: Sequence[Task]
    tally: Tally
    plain: Outcome
    plain_seconds: float
    analysts: int

    @property
    def differences(self) -> list[str]:
        """What is not the same; empty when all is well."""
        return differences(outcome_of(self.tally), self.plain)

    def lines(self) -> list[str]:
        """Return the report."""
        return ["", "Report", *self._work(), *self._kill(), *self._dead(), *self._comparison()]

    def _work(self) -> Iterator[str]:
        tally = self.tally
        poisons = sum(task.source is not None for task in self.tasks)
        yield _entry(
            "requests sent",
            f"{tally.sent}: {tally.sent - poisons} files, {poisons} of poison",
        )
        yield _entry("answers", f"{tally.answered}, {tally.errors} of them errors")
        yield _entry("results", f"{len(tally.results)}, {tally.repeated} of them twice")
        yield _entry("HIGH priority", _waits(tally, urgent=True))
        yield _entry("NORMAL", _waits(tally, urgent=False))

    def _kill(self) -> Iterator[str]:
        tally = self.tally
        if tally.killed is None:
            yield _entry("killed", "nobody")
            return
        yield _entry("killed", f"{tally.killed} by SIGKILL, while it held {tally.held}")
        if tally.found_dead is not None:
            yield _entry("replaced", f"{tally.found_dead:.1f} s after the kill, by the registry")
        if tally.redelivered is not None:
            known = "known: it was not stored again" if tally.duplicate else "new"
            yield _entry("redelivered", f"{tally.held}, {tally.redelivered:.1f} s after the kill; "
                         f"its result was {known}")  # fmt: skip
        if tally.late:
            yield _entry("", f"{tally.late} more, whose leases passed: the machine is busy")

    def _dead(self) -> Iterator[str]:
        dead = self.tally.dead
        yield _entry("dead letters", str(len(dead)))
        for letter in dead[:MOST_DEAD_LETTERS]:
            yield f"    {letter.reason}  {file_of(letter)}: {reason_of(letter)}"
        if len(dead) > MOST_DEAD_LETTERS:
            yield f"    and {len(dead) - MOST_DEAD_LETTERS} more"

    def _comparison(self) -> Iterator[str]:
        yield _entry("time", f"{self.tally.seconds:.1f} s with {self.analysts} analysts, "
                     f"{self.plain_seconds:.1f} s in one plain process")  # fmt: skip
        different = self.differences
        if not different:
            yield _entry("comparison", f"equal to the plain run: {_totals(self.plain)}")
            return
        yield _entry("comparison", f"NOT EQUAL to the plain run in {len(different)} files")
        yield from (f"    {line}" for line in different[:MOST_DIFFERENCES])


def outcome_of(tally: Tally) -> Outcome:
    """Return what the processes found out, in the form of the plain run."""
    results = {file: _analysis(result["found"]) for file, result in tally.results.items()}
    return Outcome(results, {file_of(letter): reason_of(letter) for letter in tally.dead})


def differences(found: Outcome, plain: Outcome) -> list[str]:
    """Name each file of which two outcomes say different things, with both."""
    left, right = _sayings(found), _sayings(plain)
    return [
        f"{file}: {left.get(file, 'nothing')}, but plainly {right.get(file, 'nothing')}"
        for file in sorted(left.keys() | right.keys())
        if left.get(file) != right.get(file)
    ]


def file_of(letter: DeadLetter) -> str:
    """Return which file a dead letter is about; its message id, when it does not decode."""
    stored = letter.queue_message
    return letter.message_id if stored is None else stored.message.payload["file"]


def reason_of(letter: DeadLetter) -> str:
    """Return why its last holder gave it up; why the library did, when nobody said."""
    stored = letter.queue_message
    if stored is None or stored.last_error is None:
        return letter.reason
    return stored.last_error.removeprefix(f"{RejectMessage.__name__}: ")


def _sayings(outcome: Outcome) -> dict[str, list[Analysis | str]]:
    """Return all that is said of each file: one that is both done and refused is wrong."""
    sayings: dict[str, list[Analysis | str]] = {}
    for said in (outcome.results, outcome.refused):
        for file, what in said.items():
            sayings.setdefault(file, []).append(what)
    return sayings


def _analysis(found: dict[str, Any]) -> Analysis:
    return Analysis(found["functions"], found["classes"], tuple(found["imports"]))


def _waits(tally: Tally, *, urgent: bool) -> str:
    waits = [one["waited"] for one in tally.results.values() if one["urgent"] is urgent]
    middle = median(waits) if waits else 0.0
    return f"{len(waits)} files waited in the inbox for {middle:.2f} s (median)"


def _totals(outcome: Outcome) -> str:
    results = outcome.results.values()
    modules = {module for one in results for module in one.imports}
    return (
        f"{len(results)} files with {sum(one.functions for one in results)} functions and "
        f"{sum(one.classes for one in results)} classes that import {len(modules)} modules; "
        f"{len(outcome.refused)} refused"
    )


def _entry(name: str, text: str) -> str:
    return f"  {name:<16}{text}"
