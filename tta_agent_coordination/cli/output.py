"""How the commands write: tables for people, or one JSON document."""

from __future__ import annotations

import base64
import json
import signal
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NoReturn

import cattrs

from tta_agent_coordination import AgentId, MessagePriority
from tta_agent_coordination.cli.options import one_line
from tta_agent_coordination.terminal import printable

NONE = "-"
"""What stands in a table for what there is not."""

_converter = cattrs.Converter()
_converter.register_unstructure_hook(AgentId, str)
_converter.register_unstructure_hook(datetime, datetime.isoformat)
_converter.register_unstructure_hook(MessagePriority, lambda one: one.name.lower())
_converter.register_unstructure_hook(bytes, lambda raw: base64.b64encode(raw).decode())


def plain(value: object) -> Any:
    """Return one of the library's values as JSON has it, under the names of its fields.

    Agents are text as in ``AgentId.parse``, times ISO 8601, priorities lower-case names, and
    bytes base64.
    """
    return _converter.unstructure(value)


def write(lines: Iterable[str]) -> None:
    """Write lines for people."""
    for line in lines:
        print(line)


def write_json(document: dict[str, Any]) -> None:
    """Write one JSON document."""
    print(json.dumps(document, indent=2))


def complain(message: str, status: int) -> int:
    """Say in one line on standard error what is wrong; return the exit status."""
    print(f"tta-coordination: {one_line(message)}", file=sys.stderr)
    return status


def fields(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Return names and their values, aligned; a value of several lines is indented."""
    width = max(len(name) for name, _ in pairs) + 2
    lines: list[str] = []
    for name, value in pairs:
        first, *others = (printable(line) for line in value.split("\n"))
        lines += [f"{name:<{width}}{first}".rstrip(), *(" " * width + line for line in others)]
    return lines


def moment(when: datetime) -> str:
    """Return a time for people, in UTC."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def age(seconds: float | None) -> str:
    """Return a span of time for people."""
    if seconds is None:
        return NONE
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 message``, ``1,024 messages``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def shortened(text: str, limit: int) -> str:
    """Return the beginning of a text."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


@contextmanager
def tidy_when_terminated() -> Generator[None]:
    """Let SIGTERM unwind the stack, as Ctrl-C does, so that nothing is left behind."""
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)
