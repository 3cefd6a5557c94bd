"""``tta-coordination dead``: the dead letters of an inbox."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import Any

from tta_agent_coordination import AgentId, DeadLetter, MessageCoordinator
from tta_agent_coordination.cli import output
from tta_agent_coordination.cli.options import (
    Commands,
    Parser,
    add_common,
    add_inbox,
    agent_id,
    coordinator_of,
    count,
)
from tta_agent_coordination.terminal import Column, Row, Table

MISSING = 1
DEFAULT_LIMIT = 100
LONGEST_ERROR = 60
"""Characters of an error in the table."""

_A_PAGE = 100
_COLUMNS = (
    Column("id"),
    Column("reason"),
    Column("died"),
    Column("attempts", right=True),
    Column("last holder"),
    Column("last error"),
)
_STATUSES = "exit status: 0 all is well; 1 some of the ids were not found or not moved; 2 an error"

Carry = Callable[[argparse.Namespace, MessageCoordinator], int]


def add_to(commands: Commands) -> None:
    """Add the command ``dead`` with its four actions."""
    parser = commands.add_parser(
        "dead",
        help="list, show, replay or purge dead letters",
        description="Dead letters: messages that were given up, and kept to be looked at.",
    )
    actions = parser.add_subparsers(
        title="actions", metavar="ACTION", required=True, parser_class=Parser
    )
    listing = _add(actions, "list", "list them, the oldest first", list_letters)
    showing = _add(actions, "show", "show all that is known of them", show_letters)
    replaying = _add(actions, "replay", "make them receivable again", replay_letters)
    purging = _add(actions, "purge", "drop them", purge_letters)
    for one in (listing, showing):
        one.add_argument("--limit", type=count, default=DEFAULT_LIMIT, help="default: %(default)s")
        one.add_argument("--offset", type=count, default=0, help="how many to pass over")
    for one in (showing, replaying, purging):
        one.add_argument(
            "--id", action="append", dest="ids", metavar="MESSAGE_ID", help="which; can be repeated"
        )
    replaying.add_argument("--limit", type=count, help="how many at most; default: all")
    replaying.add_argument("--to", type=agent_id, metavar="ID", help="another inbox for them")


def _add(actions: Commands, name: str, text: str, carry: Carry) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text, description=f"Dead letters: {text}.",
                                epilog=_STATUSES)  # fmt: skip
    add_inbox(parser)
    add_common(parser)

    def run(arguments: argparse.Namespace) -> int:
        with coordinator_of(arguments) as coordinator:
            return carry(arguments, coordinator)

    parser.set_defaults(run=run)
    return parser


def list_letters(arguments: argparse.Namespace, coordinator: MessageCoordinator) -> int:
    """List dead letters."""
    total = coordinator.stats(arguments.inbox).dead
    letters = coordinator.dead_letters(
        arguments.inbox, limit=arguments.limit, offset=arguments.offset
    )
    if arguments.json:
        output.write_json({**_document(arguments, letters), "dead": total})
    elif letters:
        output.write(Table(_COLUMNS, [_row(letter) for letter in letters]).lines())
        if len(letters) < total:
            first = arguments.offset + 1
            output.write([f"{first:,} to {arguments.offset + len(letters):,} of {total:,}"])
    else:
        output.write([f"{output.counted(total, 'dead letter')} in {arguments.inbox}"])
    return 0


def show_letters(arguments: argparse.Namespace, coordinator: MessageCoordinator) -> int:
    """Show dead letters with all that is known of them."""
    found = _found(arguments, coordinator)
    if arguments.json:
        output.write_json(_document(arguments, found))
    else:
        for number, letter in enumerate(found):
            output.write([*([""] if number else []), *output.fields(_fields(letter))])
    missing = [one for one in arguments.ids or () if one not in {hit.message_id for hit in found}]
    if missing:
        names = ", ".join(missing)
        return output.complain(f"no dead letter of {arguments.inbox} has the id {names}", MISSING)
    if not found and not arguments.json:
        output.write([f"no dead letters in {arguments.inbox}"])
    return 0


def replay_letters(arguments: argparse.Namespace, coordinator: MessageCoordinator) -> int:
    """Make dead letters receivable again."""
    ids = _named(arguments)
    replayed = coordinator.replay_dead_letters(
        arguments.inbox, message_ids=ids, to=arguments.to, limit=arguments.limit
    )
    to = arguments.to or arguments.inbox
    if arguments.json:
        document = {"inbox": arguments.inbox, "to": to, "replayed": replayed}
        output.write_json(output.plain(document))
    else:
        output.write([f"{output.counted(replayed, 'dead letter')} replayed to {to}"])
    wanted = (ids or [])[: arguments.limit]
    why = f"{arguments.inbox} has no such dead letter, or there is no room for it in {to}"
    return _status(wanted, replayed, "replayed", why)


def purge_letters(arguments: argparse.Namespace, coordinator: MessageCoordinator) -> int:
    """Drop dead letters."""
    ids = _named(arguments)
    purged = coordinator.purge_dead_letters(arguments.inbox, message_ids=ids)
    if arguments.json:
        output.write_json({"inbox": str(arguments.inbox), "purged": purged})
    else:
        output.write([f"{output.counted(purged, 'dead letter')} of {arguments.inbox} dropped"])
    return _status(ids or [], purged, "dropped", f"{arguments.inbox} has no such dead letter")


def _named(arguments: argparse.Namespace) -> list[str] | None:
    return None if arguments.ids is None else list(dict.fromkeys(arguments.ids))


def _status(named: list[str], done: int, what: str, why: str) -> int:
    if done >= len(named):
        return 0
    which = f"{len(named) - done} of {len(named)} ids" if done else ", ".join(named)
    return output.complain(f"not {what}: {which}: {why}", MISSING)


def _found(arguments: argparse.Namespace, coordinator: MessageCoordinator) -> list[DeadLetter]:
    """Return those named, or a page of all."""
    if arguments.ids is None:
        return coordinator.dead_letters(
            arguments.inbox, limit=arguments.limit, offset=arguments.offset
        )
    wanted: Collection[str] = set(arguments.ids)
    hits = (one for one in _all(coordinator, arguments.inbox) if one.message_id in wanted)
    return list(islice(hits, len(wanted)))


def _all(coordinator: MessageCoordinator, inbox: AgentId) -> Iterator[DeadLetter]:
    offset = 0
    while page := coordinator.dead_letters(inbox, limit=_A_PAGE, offset=offset):
        yield from page
        offset += len(page)


def _document(arguments: argparse.Namespace, letters: list[DeadLetter]) -> dict[str, Any]:
    return {"inbox": str(arguments.inbox), "dead_letters": output.plain(letters)}


def _row(letter: DeadLetter) -> Row:
    stored = letter.queue_message
    return Row(
        (
            letter.message_id,
            letter.reason,
            output.moment(letter.dead_at),
            output.NONE if stored is None else str(stored.delivery_attempts),
            letter.last_holder or output.NONE,
            output.shortened((stored and stored.last_error) or output.NONE, LONGEST_ERROR),
        )
    )


def _fields(letter: DeadLetter) -> list[tuple[str, str]]:
    known = [
        ("id", letter.message_id),
        ("reason", letter.reason),
        ("died", output.moment(letter.dead_at)),
        ("last holder", letter.last_holder or output.NONE),
    ]
    stored = letter.queue_message
    if stored is None:
        return [*known, ("raw", (letter.raw or b"").decode("utf-8", "backslashreplace"))]
    message = stored.message
    return [
        *known,
        ("last error", stored.last_error or output.NONE),
        ("attempts", str(stored.delivery_attempts)),
        ("stored", output.moment(stored.enqueued_at)),
        ("sender", str(message.sender)),
        ("recipient", str(message.recipient)),
        ("type", message.message_type.value),
        ("priority", message.priority.name),
        ("topic", message.routing.topic or output.NONE),
        ("tags", ", ".join(message.routing.tags) or output.NONE),
        ("correlation", message.correlation_id or output.NONE),
        ("reply to", str(message.reply_to or output.NONE)),
        ("ttl", output.age(message.ttl)),
        ("headers", _json(message.headers) if message.headers else output.NONE),
        ("payload", _json(message.payload)),
    ]


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
