"""Where each process of a run begins: ``python child.py FILE``, with its `Settings` as JSON.

It is run as a file and not as a module: its clock has to be wrong before anything of the package
is imported. SIGTERM tells it to finish, SIGUSR1 to fork.
"""

from __future__ import annotations

import datetime
import json
import sys
import time
from pathlib import Path


def shift_clock(hours: float) -> None:
    """Let this process's clock be wrong; to be called before anything else is imported."""
    real_time, real_ns, real_datetime = time.time, time.time_ns, datetime.datetime
    by = hours * 3600

    class WrongDatetime(real_datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> WrongDatetime:
            return cls.fromtimestamp(real_time() + by, tz)

    time.time = lambda: real_time() + by
    time.time_ns = lambda: real_ns() + round(by * 1e9)
    datetime.datetime = WrongDatetime


def main() -> None:
    """Do what the settings say."""
    file = Path(sys.argv[1])
    told = json.loads(file.read_text())
    file.unlink()
    if told["clock"]:
        shift_clock(told["clock"])
    from tta_agent_coordination.chaos import roles  # noqa: PLC0415 - after the clock is wrong

    roles.play(told)


if __name__ == "__main__":
    main()
