"""A process as it runs in production: it checks the server, serves, and drains when it is told to.

The process is started, given work, and sent a SIGTERM in the middle of it, as at each deployment.
"""

import logging
import os
import socket
import subprocess
import sys
import time
from typing import Any

from tta_agent_coordination import (
    Agent,
    AgentId,
    AgentMessage,
    AgentWorker,
    RedisAgentRegistry,
    RedisMessageCoordinator,
)
from tta_agent_coordination.embedded import EmbeddedServer

SHOP = AgentId("shop")

# [packer]
PACKER = AgentId("packer")  # what all packers share: send to it


class Packer(Agent):
    """Packs parcels, which takes a while."""

    def __init__(self) -> None:
        """Be one of several: the packer of this process has an id that no other has."""
        super().__init__(AgentId(PACKER.type, f"{socket.gethostname()}-{os.getpid()}"))

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Pack one."""
        print(f"packing {payload['parcel']}", flush=True)
        time.sleep(1.0)
        print(f"packed {payload['parcel']}", flush=True)
        return {}


# [/packer]


# [serve]
def serve(url: str) -> None:
    """Serve until SIGTERM or SIGINT; return when what was in hand is finished."""
    logging.basicConfig(stream=sys.stdout, level=logging.WARNING)
    with (
        RedisMessageCoordinator.from_url(url, strict=True) as coordinator,  # or refuse to start
        RedisAgentRegistry.from_url(url) as registry,
    ):
        AgentWorker(Packer(), coordinator, registry, threads=1, drain_timeout=25.0).run()


# [/serve]


def main() -> None:
    """Start a process, and stop it while it works."""
    with (
        EmbeddedServer(options=("--appendonly", "yes")) as server,
        RedisMessageCoordinator.from_url(server.url) as coordinator,
    ):
        command = [sys.executable, __file__, server.url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for number in (1, 2):
                parcel = AgentMessage(SHOP, PACKER, {"parcel": number})
                coordinator.send_message(SHOP, PACKER, parcel)
            print(process.stdout.readline(), end="")  # it has begun
            process.terminate()
            print(process.stdout.read(), end="")
        print(f"ended with status {process.returncode}")
        waiting = sum(coordinator.stats(PACKER).ready.values())
        print(f"{waiting} message waits for the next process")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(sys.argv[1])
    else:
        main()
