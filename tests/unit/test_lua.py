"""The scripts keep to their headers, and the headers to the code."""

import re
from functools import cache
from pathlib import Path

import pytest

import tta_agent_coordination
from tta_agent_coordination.keys import AGENT_KEYS, CIRCUIT_KEYS, INBOX_KEYS
from tta_agent_coordination.transport import scripts
from tta_agent_coordination.transport.scripts import Script

FOLDER = Path(tta_agent_coordination.__file__).parent / "lua"
MOVES = sorted(path.stem for path in FOLDER.glob("*.lua"))
PARTS = sorted(path.stem for path in (FOLDER / "lib").glob("*.lua"))

pytestmark = pytest.mark.guarantee("2.15")

every_move = pytest.mark.parametrize("move", MOVES)
every_part = pytest.mark.parametrize("part", PARTS)
SHARED = {"inboxes"}
"""Keys that belong to no inbox."""
FOREIGN = (
    "old_high", "old_normal", "old_low", "old_reserved", "old_deadlines", "old_dlq", "old_list",
    "migrated",
)  # fmt: skip
"""Keys that only a migration uses."""
FAMILIES = (INBOX_KEYS, SHARED, AGENT_KEYS, CIRCUIT_KEYS)
"""Keys that one script may use together: those under one hash tag."""
MIGRATION = (*FOREIGN, *INBOX_KEYS)
"""Keys that a migration uses together, on one server."""


@cache
def source(name: str) -> str:
    return (FOLDER / f"{name}.lua").read_text("utf-8")


def code(text: str) -> str:
    """A script without comments and without what stands in quotes."""
    return re.sub(r"'(?:\\.|[^'\\])*'", "''", re.sub(r"--[^\n]*", "", text))


def header(move: str) -> dict[str, str]:
    found = re.findall(r"^-- (KEYS|ARGV|RETURNS|INCLUDE)\s+(.*)$", source(move), re.MULTILINE)
    kinds = [kind for kind, _ in found]
    assert len(kinds) == len(set(kinds)), f"a line of {move} is there twice"
    return dict(found)


def included(move: str) -> list[str]:
    return header(move).get("INCLUDE", "").split()


def whole(move: str) -> str:
    """The code of a move and of its parts."""
    return "\n".join(code(source(name)) for name in [*(f"lib/{p}" for p in included(move)), move])


def fixed_arguments(move: str) -> list[tuple[str, str]]:
    words = header(move)["ARGV"].partition("then")[0].split()
    return [(name, kind) for name, _, kind in (word.partition(":") for word in words)]


def keys_used(text: str) -> set[str]:
    return set(re.findall(r"\bk_(\w+)", text))


def defined(text: str) -> set[str]:
    """Names that a file makes at its outermost level."""
    names = set(re.findall(r"^local function (\w+)", text, re.MULTILINE))
    for line in re.findall(r"^local ([\w, ]+?)(?: =|$)", text, re.MULTILINE):
        names |= {name.strip() for name in line.split(",")}
    return names - {""} - {name for name in names if name.startswith("function")}


# Headers --------------------------------------------------------------------------------------


@every_move
def test_a_header_says_name_keys_arguments_and_answer(move: str) -> None:
    assert re.match(rf"-- {move}: \S", source(move)), "the first line names the move"
    assert header(move).keys() >= {"KEYS", "ARGV", "RETURNS"}
    assert all(kind in {"text", "number"} for _, kind in fixed_arguments(move))
    names = [name for name, _ in fixed_arguments(move)]
    assert len(names) == len(set(names))


@every_move
def test_every_key_that_is_declared_is_one_and_is_used(move: str) -> None:
    declared = header(move)["KEYS"].split()
    assert len(declared) == len(set(declared))
    families = (MIGRATION,) if move.startswith("migrate") else FAMILIES
    assert any(set(declared) <= set(family) for family in families)
    assert keys_used(whole(move)) == set(declared)


@every_move
def test_keys_are_declared_in_the_one_order(move: str) -> None:
    declared = header(move)["KEYS"].split()
    families = (MIGRATION, *FAMILIES)
    orders = ([name for name in family if name in declared] for family in families)
    assert declared in orders


@every_move
def test_every_argument_that_is_declared_is_used(move: str) -> None:
    for name, _ in fixed_arguments(move):
        assert re.search(rf"\b{name}\b", whole(move)), f"{move} does not use {name}"


@every_move
def test_what_is_repeated_is_read_from_where_it_begins(move: str) -> None:
    fixed, then, rest = header(move)["ARGV"].partition("then")
    text = code(source(move))
    starts = {int(found) for found in re.findall(r"for i = (\d+), #ARGV", text)}
    if not then:
        assert "ARGV" not in text
        return
    assert "repeated" in rest
    assert starts <= {len(fixed.split()) + 1}
    steps = {int(found) for found in re.findall(r"#ARGV, (\d+) do", text)} or {1}
    assert steps == {len(rest.replace(", repeated", "").split())}


@every_move
def test_every_part_that_is_included_is_used_and_stands_behind_what_it_uses(move: str) -> None:
    parts = included(move)
    assert set(parts) <= set(PARTS)
    for place, part in enumerate(parts):
        mine = defined(source(f"lib/{part}"))
        users = [code(source(f"lib/{later}")) for later in parts[place + 1 :]] + [
            code(source(move))
        ]
        assert any(re.search(rf"\b{name}\b", user) for name in mine for user in users), (
            f"{move} does not use {part}"
        )
        for earlier in parts[:place]:
            theirs = defined(source(f"lib/{earlier}"))
            assert not mine & theirs, f"{part} and {earlier} define the same"
        for later in parts[place + 1 :]:
            for name in defined(source(f"lib/{later}")):
                called = re.search(rf"(?<![.\w]){name}\(", code(source(f"lib/{part}")))
                assert not called, f"{part} uses {name}, which comes later in {move}"


@every_part
def test_every_part_is_included_somewhere(part: str) -> None:
    assert any(part in included(move) for move in MOVES)


# Code -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*MOVES, *(f"lib/{part}" for part in PARTS)])
def test_no_key_is_named_but_by_its_declared_name(name: str) -> None:
    text = code(source(name))
    assert "KEYS" not in text.replace("ipairs(KEYS)", "")  # all that are declared
    called = re.findall(r"redis\.call\(\s*''\s*(?:,\s*([^,)]+))?", text)
    for first in called:
        assert first in {"", "key"} or "k_" in first, f"{name}: {first}"
    assert "redis.pcall" not in text


@pytest.mark.parametrize("name", [*MOVES, *(f"lib/{part}" for part in PARTS)])
def test_a_file_is_short_and_has_no_trailing_blanks(name: str) -> None:
    lines = source(name).split("\n")
    assert len(lines) < 120
    assert not [line for line in lines if line != line.rstrip() or "\t" in line]
    assert lines[-1] == ""
    assert lines[0].startswith("-- ")


COMMANDS = {
    "DEL", "EXISTS", "GET", "HDEL", "HEXISTS", "HGET", "HLEN", "HSET", "INCR", "INCRBY", "PEXPIRE",
    "PEXPIREAT", "ZREVRANGE", "LINDEX", "LPOP", "RPUSH",
    "PTTL", "RENAME", "TIME", "UNLINK", "ZADD", "ZCARD", "ZCOUNT", "ZPOPMIN", "ZRANGE",
    "ZRANGEBYSCORE", "ZREM", "ZREMRANGEBYSCORE", "ZSCORE", "HMGET",
}  # fmt: skip
"""None of them is slow by the size of an inbox, or concerns a key that it does not name."""


@pytest.mark.parametrize("name", [*MOVES, *(f"lib/{part}" for part in PARTS)])
def test_only_commands_that_are_quick_and_name_their_keys_are_called(name: str) -> None:
    text = re.sub(r"--[^\n]*", "", source(name))
    called = set(re.findall(r"redis\.call\(\s*'(\w+)'", text))
    assert len(re.findall(r"redis\.call\(", text)) == len(re.findall(r"redis\.call\(\s*'", text))
    assert called <= COMMANDS


@every_move
def test_every_name_is_local(move: str) -> None:
    text = whole(move)
    assert not re.findall(r"^\s*function \w+", text, re.MULTILINE)
    assigned = set(re.findall(r"^\s*([A-Za-z_]\w*(?:, \w+)*) = ", text, re.MULTILINE))
    names = {name.strip() for group in assigned for name in group.split(",")}
    local = set(re.findall(r"\blocal (?:function )?([\w, ]+)", text))
    known = {name.strip() for group in local for name in group.split(",")}
    known |= set(re.findall(r"\bfor ([\w, ]+?) (?:=|in)", text))
    known |= {name for name, _ in fixed_arguments(move)}
    assert names <= known | inside_tables(text)


def inside_tables(text: str) -> set[str]:
    """Fields of table constructors that begin a line."""
    return {
        name for table in re.findall(r"\{[^{}]*\}", text) for name in re.findall(r"(\w+) = ", table)
    }


# Scripts and documentation --------------------------------------------------------------------

LOADED = {value.name: value for value in vars(scripts).values() if isinstance(value, Script)}


def test_every_move_is_loaded_under_its_name() -> None:
    assert sorted(LOADED) == MOVES
    assert all(getattr(scripts, name.upper()) is script for name, script in LOADED.items())


@every_move
def test_a_loaded_script_has_what_its_header_declares(move: str) -> None:
    script = LOADED[move]
    assert list(script.keys) == header(move)["KEYS"].split()
    assert list(script.arguments) == [name for name, _ in fixed_arguments(move)]
    assert script.source.endswith(source(move))


README = (FOLDER / "README.md").read_text("utf-8")


def in_first_column(section: str) -> set[str]:
    """The names in the first column of a section's table."""
    text = README.partition(f"## {section}\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_the_table_of_keys_is_complete() -> None:
    assert in_first_column("Keys") == {key for family in (*FAMILIES, FOREIGN) for key in family}


@every_move
def test_the_table_of_arguments_is_complete(move: str) -> None:
    plain = {"id", "body", "nonce", "inbox"}
    rest = header(move)["ARGV"].partition("then")[2].replace(", repeated", "").split()
    named = {name for name, _ in fixed_arguments(move)} | set(rest)
    assert named - plain <= in_first_column("Arguments")


def test_the_table_of_codes_has_the_numbers_of_the_code() -> None:
    numbers: dict[str, int] = {}
    for names, values in re.findall(
        r"^local ([A-Z_, ]+) = ([-\d, ]+)$", source("lib/codes"), re.MULTILINE
    ):
        pairs = zip(names.split(", "), values.split(", "), strict=True)
        numbers |= {name: int(value) for name, value in pairs}
    told = dict(re.findall(r"^\| `([A-Z_]+)` \| (-?\d+) \|", README, re.MULTILINE))
    outcomes = {name: number for name, number in numbers.items() if name not in {"LEVEL", "BATCH"}}
    assert {name: int(number) for name, number in told.items()} == outcomes


@every_move
def test_the_documentation_tells_of_every_move(move: str) -> None:
    assert re.search(rf"\b{move}\b", README)
