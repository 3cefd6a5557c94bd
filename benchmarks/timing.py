"""Blocks of work timed in turn, and what is read from them."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter

import attrs


@attrs.frozen
class Block:
    """Work of one system that is timed as a whole.

    Attributes:
        work: What is timed; takes how many messages, and does them all.
        prepare: Done before the clock starts, with the same number.
        rest: Likewise, after it has stopped.
    """

    work: Callable[[int], object]
    prepare: Callable[[int], object] = lambda _count: None
    rest: Callable[[int], object] = lambda _count: None

    def rate(self, count: int) -> float:
        """Do it once; return how many a second."""
        self.prepare(count)
        gc.collect()  # nobody pays for what another left behind; collection stays on, as it is
        start = perf_counter()
        self.work(count)
        seconds = perf_counter() - start
        self.rest(count)
        return count / seconds


def interleave(blocks: Mapping[str, Block], count: int, rounds: int) -> dict[str, list[float]]:
    """Return the rates of each system, one a round; the order turns from round to round."""
    names = list(blocks)
    for name in names:
        blocks[name].rate(max(count // 4, 1))  # connections, scripts, caches
    rates: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            rates[name].append(blocks[name].rate(count))
    return rates


def median_ratio(rates: Sequence[float], floor: Sequence[float]) -> float:
    """Return the median of the ratios of the same round: what slows a round slows both."""
    return statistics.median(a / b for a, b in zip(rates, floor, strict=True))


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that `percent` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(round(len(ordered) * percent / 100), len(ordered) - 1)]
