"""Makes one call of those in `tests.faults.calls` in a process of its own, which is killed in it.

``python -m tests.processes.caller DIRECT_URL PROXIED_URL``; the standard input brings the name of
the call and a prefix, then a line to begin. It says ``ready`` and ``done``.
"""

import logging
import sys
from typing import Any, cast

from tests.faults.calls import CALLS, Stage
from tta_agent_coordination import RedisMessageCoordinator
from tta_agent_coordination.proxy import FaultProxy


def main() -> None:
    logging.disable(logging.ERROR)
    direct, proxied = sys.argv[1:]
    name, prefix = sys.stdin.readline().split()
    [call] = [call for call in CALLS if call.name == name]
    options: dict[str, Any] = call.options
    with (
        RedisMessageCoordinator.from_url(direct, prefix, **options) as helper,
        RedisMessageCoordinator.from_url(proxied, prefix, **options) as coordinator,
    ):
        stage = Stage(coordinator, helper, cast("FaultProxy", None), call.arrange(helper))
        print("ready", flush=True)
        sys.stdin.readline()
        call.act(stage)
    print("done", flush=True)


if __name__ == "__main__":
    main()
