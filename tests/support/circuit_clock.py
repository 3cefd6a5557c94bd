"""Let time pass for a circuit breaker without waiting for it.

The server's clock cannot be moved, so the circuit is moved instead: when it opened, when it may be
tried and when the places of its probes are free again are put back. Only the times to live of
whole keys go on in real time. What a process knows of the circuit by itself stays as it is.
"""

from tests.support.servers import Client
from tta_agent_coordination.keys import Keys


def let_pass(client: Client, prefix: str, name: str, seconds: float) -> None:
    """Make a circuit what it would be ``seconds`` later."""
    keys, by = Keys(prefix).circuit(name), round(seconds * 1_000_000)
    for field in ("opened", "ends"):
        at = int(client.hget(keys["circuit"], field) or 0)
        if at:
            client.hset(keys["circuit"], field, at - by)
    for call, ends in client.zrange(keys["probes"], 0, -1, withscores=True):
        client.zadd(keys["probes"], {call: ends - by})
