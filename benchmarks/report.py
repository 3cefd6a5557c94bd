"""Rows of the result, and the ways they are shown."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    import redis

_PACKAGES = ("tta-agent-coordination", "redis", "hiredis", "attrs", "cattrs", "huey", "dramatiq")


@attrs.frozen
class Row:
    """One figure and what it has to be.

    Attributes:
        name: What was measured.
        measured: As it is shown.
        target: As it is shown; empty when there is none.
        met: Whether it is met; None when there is none.
        figures: The numbers behind it, for the JSON file.
    """

    name: str
    measured: str
    target: str = ""
    met: bool | None = None
    figures: dict[str, Any] = attrs.field(factory=dict)


def at_least(name: str, ratio: float, target: float | None, note: str, **figures: Any) -> Row:
    """Return the row of a ratio that shall not be smaller than `target`."""
    shown = "" if target is None else f">= {target:.2f}"
    met = None if target is None else ratio >= target
    return Row(name, f"{ratio:.2f} ({note})", shown, met, {"ratio": ratio, **figures})


def at_most(name: str, value: float, target: float, unit: str, note: str, **figures: Any) -> Row:
    """Return the row of a figure that shall not be larger than `target`."""
    measured = f"{value:.2f} {unit} ({note})" if note else f"{value:.2f} {unit}"
    return Row(
        name, measured, f"<= {target:g} {unit}", value <= target, {"value": value, **figures}
    )


def table(rows: Iterable[Row]) -> str:
    """Return rows as a Markdown table."""
    verdicts = {True: "yes", False: "NO", None: ""}
    lines = [("row", "measured", "target", "met"), ("---",) * 4]
    lines += [(row.name, row.measured, row.target, verdicts[row.met]) for row in rows]
    return _aligned(lines)


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def environment(client: redis.Redis) -> dict[str, str]:
    """Return the versions of all that took part."""
    server: dict[str, Any] = client.info("server")
    kind = "Valkey" if "valkey_version" in server else "Redis"
    found = {
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "server": f"{kind} {server.get('valkey_version', server['redis_version'])}",
        "OS": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": str(os.cpu_count()),
        "load before (1 min)": f"{os.getloadavg()[0]:.1f}",
    }
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
