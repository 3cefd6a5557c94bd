"""A producer or a consumer in a process of its own, which writes a diary and may be killed.

``python -m tests.processes.worker ROLE --url … --prefix … --folder … --name … [--clock HOURS]``

It ends by itself: after ``--seconds``, when its parent is gone, or when its standard input ends.
"""

import argparse
import datetime
import logging
import os
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path


def shift_clock(hours: float) -> None:
    """Let this process's clock be wrong; to be called before anything else is imported."""
    real_time, real_ns, real_datetime = time.time, time.time_ns, datetime.datetime
    by = hours * 3600

    class WrongDatetime(real_datetime):
        @classmethod
        def now(cls, tz=None):
            return cls.fromtimestamp(real_time() + by, tz)

        @classmethod
        def utcnow(cls):
            return cls.fromtimestamp(real_time() + by, datetime.UTC).replace(tzinfo=None)

    time.time = lambda: real_time() + by
    time.time_ns = lambda: real_ns() + round(by * 1e9)
    datetime.datetime = WrongDatetime


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["produce", "consume", "hold", "scenario"])
    parser.add_argument("--url", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--clock", type=float, default=0.0, help="hours by which it is wrong")
    return parser.parse_args(argv)


def main() -> None:
    options = arguments()
    # Whatever is said on the standard error stream counts as a failure.
    logging.disable(logging.ERROR)
    if options.clock:
        shift_clock(options.clock)
    from tests.processes.work import ROLES, Work  # noqa: PLC0415 - after the clock is wrong

    with Work(options, until_told(options.seconds)) as work:
        ROLES[options.role](work)


def until_told(seconds: float) -> Callable[[], bool]:
    """Return what says whether to go on."""
    parent, end = os.getppid(), time.monotonic() + seconds

    def go_on() -> bool:
        told = select.select([sys.stdin], [], [], 0)[0]
        return not told and os.getppid() == parent and time.monotonic() < end

    return go_on


if __name__ == "__main__":
    main()
