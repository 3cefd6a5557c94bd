"""What the tests of the migration have in common."""

from tests.migrate.old import OldInbox
from tta_agent_coordination import AgentId, DeadLetter, ReceivedMessage, RedisMessageCoordinator

WORKER, PLANNER = AgentId("worker"), AgentId("planner")


def drain(coordinator: RedisMessageCoordinator, inbox: AgentId = WORKER) -> list[ReceivedMessage]:
    return coordinator.receive_many(inbox, 1000, 60.0)


def ids(received: list[ReceivedMessage]) -> list[str]:
    return [one.message.message_id for one in received]


def dead_ids(letters: list[DeadLetter]) -> list[str]:
    return [one.message_id for one in letters]


def everything(old: OldInbox) -> dict[bytes, bytes]:
    return {key: old.client.dump(key) for key in old.client.keys("*")}
