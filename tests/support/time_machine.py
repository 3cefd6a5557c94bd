"""Let time pass in an inbox without waiting for it.

The server's clock cannot be moved, so the inbox is moved instead: every time that is stored in
it is put back by as many seconds. All comparisons come out as they would after that time, but
for the times to live of whole keys (`marks`), which go on in real time. Only for inboxes of the
tests' own that nobody else uses at the moment.
"""

import re
from collections.abc import Callable

from tests.support.servers import Client
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.keys import Keys

_NEVER = 0  # the time at which a message without a time to live expires


def let_pass(client: Client, prefix: str, agent_id: AgentId, seconds: float) -> None:
    """Make an inbox what it would be ``seconds`` later."""
    names = Keys(prefix).inbox(agent_id)
    by = round(seconds * 1_000_000)
    for name in ("delayed", "leased"):
        earlier = {
            member: score - by
            for member, score in client.zrange(names[name], 0, -1, withscores=True)
        }
        if earlier:
            client.zadd(names[name], earlier)
    _rewrite(client, names["messages"], lambda record: _earlier_record(record, by))
    for name in ("marks", "marks_old"):
        _rewrite(client, names[name], lambda mark: _earlier_mark(mark, by))


def _rewrite(client: Client, key: str, change: Callable[[bytes], bytes]) -> None:
    earlier = {field: change(value) for field, value in client.hgetall(key).items()}
    if earlier:
        client.hset(key, mapping=earlier)


def _earlier_record(record: bytes, by: int) -> bytes:
    stored, expires, rest = record.split(b" ", 2)
    ends = int(expires) - by if int(expires) != _NEVER else _NEVER
    return b"%d %d %s" % (int(stored) - by, ends, rest)


def _earlier_mark(mark: bytes, by: int) -> bytes:
    """A mark of a message begins with a time; the answer to a call stands alone."""
    match = re.match(rb"(\d+)( .*)", mark)
    return b"%d%s" % (int(match[1]) - by, match[2]) if match else mark
