"""Ask and wait; ask from many threads; ask, and let another process collect the answers."""

import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tta_agent_coordination import (
    Agent,
    AgentId,
    AgentMessage,
    AgentWorker,
    CoordinatorUnavailableError,
    InboxFullError,
    MessageType,
    RedisMessageCoordinator,
    RejectMessage,
    RemoteAgentError,
    RequestTimeoutError,
)
from tta_agent_coordination.embedded import EmbeddedServer

YOU, DESK = AgentId("you"), AgentId("desk")
CONVERTER, NOBODY = AgentId("converter"), AgentId("nobody")


class Converter(Agent):
    """Converts temperatures."""

    agent_id = CONVERTER

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Return degrees Fahrenheit."""
        if payload["celsius"] < -273.15:
            raise RejectMessage("nothing is that cold")
        return {"fahrenheit": round(payload["celsius"] * 1.8 + 32, 1)}


# [requests_ask]
def ask(coordinator: RedisMessageCoordinator, whom: AgentId, celsius: float, timeout: float) -> str:
    """Ask, and say what came of it."""
    try:
        answer = coordinator.request(YOU, whom, {"celsius": celsius}, timeout=timeout)
    except RemoteAgentError as error:
        return f"failed for good: {error.error_type} at attempt {error.attempts}"
    except RequestTimeoutError:
        return "no answer in time; it may have been handled"
    except InboxFullError:
        return "too busy; it was not stored"
    except CoordinatorUnavailableError:
        return "Redis is away; it may have been handled"
    return f"{answer.payload['fahrenheit']} °F, says {answer.sender}"


# [/requests_ask]


# [requests_many]
def ask_many(coordinator: RedisMessageCoordinator, all_celsius: list[float]) -> list[float]:
    """Ask from many threads; the answers come in the order of the questions."""

    def convert(celsius: float) -> float:
        answer = coordinator.request(YOU, CONVERTER, {"celsius": celsius}, timeout=30.0)
        return answer.payload["fahrenheit"]

    with ThreadPoolExecutor(8) as askers:
        return list(askers.map(convert, all_celsius))


# [/requests_many]


# [requests_durable]
def leave_a_question(coordinator: RedisMessageCoordinator, name: str, celsius: float) -> None:
    """Ask without waiting: the answer goes to the inbox of the desk, and stays there."""
    question = AgentMessage(
        YOU,
        CONVERTER,
        {"celsius": celsius},
        message_type=MessageType.REQUEST,
        message_id=f"question-{name}",  # the answer has it as its correlation_id
        reply_to=DESK,
    )
    if not coordinator.send_message(YOU, CONVERTER, question).delivered:
        print("too busy; it was not stored")


def collect_an_answer(coordinator: RedisMessageCoordinator) -> None:
    """Take one answer at the desk, in this process or another."""
    received = coordinator.receive(DESK, visibility_timeout=30.0, wait=10.0)
    if received is None:
        return
    answer = received.message
    failed = answer.headers.get("tta-error-type")  # what was raised, when it failed for good
    print(f"to question {answer.correlation_id}: {failed or 'answered'}, {answer.payload}")
    coordinator.ack(DESK, received.token)  # when it is put where it belongs, and not before


# [/requests_durable]


def main() -> None:
    """Ask in each way."""
    with (
        EmbeddedServer() as server,
        RedisMessageCoordinator.from_url(server.url, call_timeout=2.0) as coordinator,
    ):
        with AgentWorker(Converter(), coordinator):
            print(ask(coordinator, CONVERTER, 37.0, timeout=30.0))
            print(ask(coordinator, CONVERTER, -300.0, timeout=30.0))
            print(ask(coordinator, NOBODY, 20.0, timeout=0.5))
            print(ask_many(coordinator, [0.0, 10.0, 20.0]))

            for name, celsius in (("mild", 21.0), ("cold", -500.0)):
                leave_a_question(coordinator, name, celsius)
                collect_an_answer(coordinator)

        coordinator.configure(queue_size=1)  # nobody converts now, and one question may wait
        leave_a_question(coordinator, "first", 0.0)
        leave_a_question(coordinator, "second", 0.0)
        print(ask(coordinator, CONVERTER, 37.0, timeout=0.5))
        server.stop()
        print(ask(coordinator, CONVERTER, 37.0, timeout=0.5))


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, level=logging.ERROR)
    main()
