"""Shows a `Matrix`: as a table for people, as JSON for programs, as Markdown for the docs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import cattrs

from tta_agent_coordination.chaos.duplicates import RULES, Cause
from tta_agent_coordination.chaos.run import Matrix, Outcome
from tta_agent_coordination.terminal import RED, Column, Row, Table

_NONE = "-"
_COLUMNS = (
    Column("fault", width=22),
    Column("faults", right=True, width=6),
    Column("sent", right=True, width=6),
    Column("confirmed", right=True),
    Column("handled", right=True, width=7),
    Column("again", right=True),
    Column("duplicates", right=True),
    Column("p50", right=True, width=5),
    Column("p99", right=True, width=5),
    Column("max", right=True, width=5),
    Column("calm", right=True, width=5),
    Column("keys", right=True),
    Column("lost", right=True),
    Column("", width=4),
)


def table(outcomes: Sequence[Outcome]) -> Table:
    """Return the table of some outcomes."""
    return Table(_COLUMNS, [Row(_cells(one), "" if one.is_good else RED) for one in outcomes])


def _cells(one: Outcome) -> list[str]:
    counts, took = one.counts, one.counts.redelivery
    times = (took.p50, took.p99, took.longest) if took else (None, None, None)
    return [
        one.name,
        str(one.faults),
        str(counts.sent),
        str(counts.confirmed),
        str(counts.handled),
        str(sum(counts.redelivered.values())),
        str(sum(counts.duplicates.values())),
        *(_NONE if time is None else f"{time:.2f}" for time in times),
        f"{one.drained:.1f}",
        str(len(one.keys_left)),
        _lost(one),
        "ok" if one.is_good else "FAIL",
    ]


def _lost(one: Outcome) -> str:
    by_server = one.judgment.lost_by_server
    return f"{one.judgment.lost}" + (f" + {by_server} by the server" if by_server else "")


def lines(matrix: Matrix, *, color: bool = False) -> list[str]:
    """Return the whole report as text."""
    told = [
        *table(matrix.outcomes).lines(color=color),
        "",
        "again: handed out again; duplicates: handled again; p50, p99, max: seconds until the next",
        f"delivery where a lease of {matrix.lease:g} s had to pass; calm: seconds after the faults",
        "until all was handled; keys: left in Redis that should not be. What was confirmed and not",
        "handled is a dead letter, made on purpose",
    ]
    told += ["", "duplicates by cause:", *(f"  {line}" for line in _causes(matrix))]
    if matrix.skipped:
        told += ["", f"not for a given server: {', '.join(matrix.skipped)}"]
    for one in matrix.outcomes:
        told += [f"{one.name}: {text}" for text in wrong(one)]
    verdict = "nothing lost, nothing unexplained" if matrix.is_good else "FAILED"
    versions = ", ".join(f"{name} {version}" for name, version in matrix.versions.items())
    return [*told, "", f"seed {matrix.seed}, {versions}", verdict]


def wrong(one: Outcome) -> list[str]:
    """Return what is wrong, one text each."""
    keys = [f"key left: {key}" for key in one.keys_left]
    return [*one.judgment.unexplained, *keys, *one.failures]


def _causes(matrix: Matrix) -> list[str]:
    totals = causes(matrix)
    if not totals:
        return ["none"]
    return [f"{number:5} {cause}: {RULES[cause]}" for cause, number in totals.items()]


def causes(matrix: Matrix) -> Mapping[Cause, int]:
    """Return how many duplicates there were of each cause."""
    counted = {
        cause: sum(one.counts.duplicates.get(cause, 0) for one in matrix.outcomes)
        for cause in Cause
    }
    return {cause: number for cause, number in counted.items() if number}


def to_json(matrix: Matrix) -> str:
    """Return it as one JSON document, under the names of the fields."""
    document = cattrs.unstructure(matrix)
    for told, outcome in zip(document["outcomes"], matrix.outcomes, strict=True):
        told["good"] = outcome.is_good
    return json.dumps({**document, "good": matrix.is_good}, indent=1)


def from_json(text: str) -> Matrix:
    """Read a document of `to_json`.

    Raises:
        ValueError: It is none.
    """
    try:
        return cattrs.structure(json.loads(text), Matrix)
    except (cattrs.BaseValidationError, TypeError, KeyError) as error:
        raise ValueError(f"it is no report of this command: {type(error).__name__}") from error


def markdown(matrix: Matrix) -> str:
    """Return the tables of docs/fault-matrix.md."""
    heads = ["fault", "faults", "sent / confirmed", "handled", "again", "duplicates, by cause",
             "p50 / p99 / max (s)", "answers / empty (s)", "keys left", "lost"]  # fmt: skip
    rows = [heads, ["---"] * len(heads), *(_markdown_cells(one) for one in matrix.outcomes)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _markdown_cells(one: Outcome) -> list[str]:
    counts, took = one.counts, one.counts.redelivery
    duplicates = ", ".join(f"{number} {cause}" for cause, number in counts.duplicates.items())
    return [
        f"**{one.name}**: {one.about}",
        f"{one.faults:,}",
        f"{counts.sent:,} / {counts.confirmed:,}",
        f"{counts.handled:,}",
        f"{sum(counts.redelivered.values()):,}",
        duplicates or "0",
        f"{took.p50:.2f} / {took.p99:.2f} / {took.longest:.2f}" if took else _NONE,
        f"{one.recovered:.1f} / {one.drained:.1f}",
        str(len(one.keys_left)),
        f"**{_lost(one)}**",
    ]
