"""A look at the bare keys of an inbox through a client of redis-py."""

from collections.abc import Sequence

from tests.support.servers import Client
from tta_agent_coordination.chaos import raw_inbox
from tta_agent_coordination.chaos.raw_inbox import PLACES, RawInbox
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.keys import Keys


def look(client: Client, prefix: str, agent_id: AgentId) -> RawInbox:
    """Read the keys of an inbox in one round trip; changes nothing."""

    def ask(commands: Sequence[Sequence[str]]) -> list[object]:
        pipe = client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        return pipe.execute()

    return raw_inbox.look(ask, Keys(prefix), agent_id)


def places_of(inbox: RawInbox, message_id: str) -> list[str]:
    """Return where a message is; guarantee 2.3 allows one place at most."""
    return [place for place in PLACES if message_id in getattr(inbox, place)]
