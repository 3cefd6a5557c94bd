"""Let time pass in a registry without waiting for it.

The server's clock cannot be moved, so the registry is moved instead: last beats, and the ends of
registrations and of grace times, are put back. Only the times to live of whole keys go on in real
time. Only for registries of the tests' own that nobody else uses at the moment.
"""

from tests.support.servers import Client
from tta_agent_coordination.keys import Keys


def let_pass(client: Client, prefix: str, seconds: float, *, agent: object = None) -> None:
    """Make the registration of an agent, or all, what it would be ``seconds`` later."""
    keys, by = Keys(prefix).agents, round(seconds * 1_000_000)
    chosen = None if agent is None else str(agent).encode()
    for name, record in client.hgetall(keys["records"]).items():
        if chosen in (None, name):
            client.hset(keys["records"], name, _earlier(record, by))
    for name, end in client.zrange(keys["ends"], 0, -1, withscores=True):
        if chosen in (None, name):
            client.zadd(keys["ends"], {name: end - by})


def _earlier(record: bytes, by: int) -> bytes:
    """`epoch beat body`, or `epoch - call ended body`, with the beat or the end put back."""
    words = record.split(b" ", 4)
    place = 3 if words[1] == b"-" else 1
    words[place] = b"%d" % (int(words[place]) - by)
    return b" ".join(words)
