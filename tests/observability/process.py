"""One of several processes that count, in prometheus-client's multiprocess mode.

Arguments: the URL of Redis and a prefix. It sends one message and handles it, opens a circuit
breaker, says so, and ends when its standard input does.
"""

import sys

from tests.observability.given import ONE, SENDER, message
from tta_agent_coordination import RedisMessageCoordinator
from tta_agent_coordination.events import BreakerChanged, HandlerBegun
from tta_agent_coordination.prometheus import instrument


def main(url: str, prefix: str) -> None:
    with RedisMessageCoordinator.from_url(url, prefix) as coordinator:
        instrument(coordinator)
        coordinator.send_message(SENDER, ONE, message(to=ONE))
        received = coordinator.receive(ONE, 60.0)
        assert received is not None
        begun = HandlerBegun(agent_id=ONE, inbox=ONE, received=received)
        coordinator.events.tell(begun)
        coordinator.ack(ONE, received.token)
        coordinator.events.tell(BreakerChanged(breaker="model", old="closed", new="open"))
        print("counted", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
