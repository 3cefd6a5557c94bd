"""A consumer in a process of its own, whose clock may be wrong.

``python -m tests.processes.worker ROLE URL PREFIX HOURS``
"""

import importlib.util
import logging
import runpy
import sys
from pathlib import Path


def shift_clock(hours: float) -> None:
    """Let this process's clock be wrong, before anything of the package is imported."""
    spec = importlib.util.find_spec("tta_agent_coordination")
    child = Path(spec.origin).parent / "chaos" / "child.py"
    runpy.run_path(str(child), run_name="child")["shift_clock"](hours)


def main() -> None:
    role, url, prefix, hours = sys.argv[1:]
    # Whatever is said on the standard error stream counts as a failure.
    logging.disable(logging.ERROR)
    if float(hours):
        shift_clock(float(hours))
    from tests.processes.work import ROLES  # noqa: PLC0415 - after the clock is wrong
    from tta_agent_coordination import RedisMessageCoordinator  # noqa: PLC0415 - as above

    with RedisMessageCoordinator.from_url(url, prefix, retry_attempts=4) as coordinator:
        ROLES[role](coordinator)


if __name__ == "__main__":
    main()
