"""Measure the library against its targets, and print a table.

Run it as ``uv run --group bench python -m benchmarks.ratios``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import attrs

from benchmarks.backlog import backlog
from benchmarks.gate import gate
from benchmarks.imports import importing
from benchmarks.latency import latency
from benchmarks.rates import consuming, sending
from benchmarks.report import Row, environment, table
from benchmarks.resources import idle, memory
from benchmarks.server import Ground, ground
from benchmarks.worker import working

PARTS: Mapping[str, Callable[[Ground], Iterator[Row]]] = {
    "send": sending,
    "consume": consuming,
    "latency": latency,
    "gate": gate,
    "import": importing,
    "memory": memory,
    "idle": idle,
    "worker": working,
    "backlog": backlog,
}


def main() -> None:
    """Measure what is asked for, and print and write the result."""
    wishes = _parse()
    with ground(quick=wishes.quick) as place:
        with place.client() as client:
            versions = environment(client)
        rows = list(_measure(place, wishes.only or PARTS))
    print("\n".join(f"{name}: {version}" for name, version in versions.items()), end="\n\n")
    print(table(rows))
    if wishes.json is not None:
        result = {"environment": versions, "rows": [attrs.asdict(row) for row in rows]}
        wishes.json.write_text(json.dumps(result, indent=2) + "\n", "utf-8")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ratios", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, shorter blocks")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument(
        "--only", action="append", choices=PARTS, metavar="NAME",
        help=f"measure only this; may be repeated: {', '.join(PARTS)}",
    )  # fmt: skip
    return parser.parse_args()


def _measure(place: Ground, parts: Iterable[str]) -> Iterator[Row]:
    for part in parts:
        print(f"measuring {part} ...", file=sys.stderr, flush=True)
        yield from PARTS[part](place)


if __name__ == "__main__":
    main()
