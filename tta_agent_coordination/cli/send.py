"""``tta-coordination send``: one message."""

from __future__ import annotations

import argparse
import json
from typing import Any

from tta_agent_coordination import (
    AgentMessage,
    ConfigurationError,
    MessagePriority,
    MessageResult,
    MessageType,
    RoutingKey,
)
from tta_agent_coordination.cli import output
from tta_agent_coordination.cli.options import (
    Commands,
    add_common,
    agent_id,
    argument,
    coordinator_of,
    seconds,
)

REFUSED = 1

_PRIORITIES = {priority.name.lower(): priority for priority in MessagePriority}
_STATUSES = "exit status: 0 the inbox has it; 1 the inbox is full; 2 an error"


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the payload is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise TypeError('the payload must be a JSON object, such as {"path": "a.py"}')
    return value  # pyright: ignore[reportUnknownVariableType] - JSON has no types


def add_to(commands: Commands) -> None:
    """Add the command ``send``."""
    parser = commands.add_parser(
        "send", help="send a message", description="Send one message.", epilog=_STATUSES
    )
    parser.add_argument("sender", type=agent_id, metavar="SENDER", help="type or type:instance")
    parser.add_argument("recipient", type=agent_id, metavar="RECIPIENT", help="whose inbox")
    parser.add_argument(
        "payload", type=argument(_object), metavar="JSON", help="an object, in quotes"
    )
    parser.add_argument(
        "--type", choices=[one.value for one in MessageType], default="event", help="default: event"
    )
    parser.add_argument(
        "--priority", choices=list(_PRIORITIES), default="normal", help="default: normal"
    )
    parser.add_argument("--topic", help="what it is about")
    parser.add_argument(
        "--delay",
        type=seconds,
        default=0.0,
        metavar="SECONDS",
        help="before it can be received; default: 0",
    )
    parser.add_argument(
        "--id",
        metavar="MESSAGE_ID",
        help="6 to 128 characters; the inbox stores a second message of the same id only once",
    )
    add_common(parser)
    parser.set_defaults(run=carry_out)


def carry_out(arguments: argparse.Namespace) -> int:
    """Send it."""
    try:
        result = _send(arguments)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(str(error)) from error
    if arguments.json:
        output.write_json({"recipient": str(arguments.recipient), **output.plain(result)})
    elif result.delivered:
        again = ", which had it before" if result.duplicate else ""
        output.write([f"{result.message_id} sent to {arguments.recipient}{again}"])
    if not result.delivered:
        return output.complain(f"{arguments.recipient}: {result.error}", REFUSED)
    return 0


def _send(arguments: argparse.Namespace) -> MessageResult:
    identity = {} if arguments.id is None else {"message_id": arguments.id}
    message = AgentMessage(
        arguments.sender,
        arguments.recipient,
        arguments.payload,
        message_type=MessageType(arguments.type),
        priority=_PRIORITIES[arguments.priority],
        routing=RoutingKey(arguments.topic),
        **identity,
    )
    with coordinator_of(arguments) as coordinator:
        return coordinator.send_message(
            arguments.sender, arguments.recipient, message, delay=arguments.delay
        )
