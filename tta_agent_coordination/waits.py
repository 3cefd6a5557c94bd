"""How long to wait between two attempts; the gate to Redis and `retry` share it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import cast

import backoff


def pauses(first: float, longest: float) -> Iterator[float]:
    """Return pauses in seconds without end: full jitter below a bound that doubles.

    Each is drawn evenly from nothing to the bound, so that those who failed together do not come
    back together ("full jitter" of Marc Brooker, AWS Architecture Blog, 2015).

    Args:
        first: Bound of the first pause.
        longest: Where the bound stops growing.
    """
    bounds = cast("Generator[float]", backoff.expo(base=2, factor=first, max_value=longest))
    next(bounds)  # the generators of backoff begin with a None
    return map(backoff.full_jitter, bounds)
