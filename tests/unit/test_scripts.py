"""The Lua files say in their headers what they do, and the server knows them by the same name."""

import re
from importlib import resources
from pathlib import Path

import attrs
import pytest

from tests.support.backends import Backend
from tta_agent_coordination.keys import AGENT_KEYS, CIRCUIT_KEYS, INBOX_KEYS
from tta_agent_coordination.transport import scripts
from tta_agent_coordination.transport.scripts import Script

LUA = Path(str(resources.files("tta_agent_coordination") / "lua"))
NAMES = sorted(path.stem for path in LUA.glob("*.lua"))
PARTS = sorted(path.stem for path in (LUA / "lib").glob("*.lua"))
MOST_LINES = 120

EVERY_FILE = pytest.mark.parametrize("name", NAMES)


def file(name: str) -> str:
    return (LUA / f"{name}.lua").read_text("utf-8")


def code(source: str) -> str:
    """Return a source without its comments."""
    return "\n".join(line for line in source.splitlines() if not line.startswith("--"))


@EVERY_FILE
def test_each_file_is_bound_to_the_constant_of_its_name(name: str) -> None:
    script = getattr(scripts, name.upper())
    assert isinstance(script, Script)
    assert script.name == name
    assert attrs.asdict(script) == attrs.asdict(scripts.load(name))


@EVERY_FILE
def test_each_header_names_the_move_its_keys_arguments_and_reply(name: str) -> None:
    text = file(name)
    assert text.startswith(f"-- {name}: ")
    for line in ("KEYS   ", "ARGV   ", "RETURNS"):
        assert f"\n-- {line} " in text
    assert len(text.splitlines()) <= MOST_LINES


@EVERY_FILE
def test_each_script_uses_the_keys_it_declares_and_no_others(name: str) -> None:
    script = scripts.load(name)
    used = set(re.findall(r"\bk_(\w+)", code(script.source).partition("\n")[2]))
    assert used <= set(script.keys)
    ours = {key for key in script.keys if not key.startswith("old_")}
    assert ours <= {*INBOX_KEYS, *AGENT_KEYS, *CIRCUIT_KEYS, "inboxes", "migrated"}
    assert ours == set(script.keys) or name.startswith("migrate")
    assert "KEYS[" not in file(name)


@EVERY_FILE
def test_each_script_uses_every_argument_it_declares(name: str) -> None:
    script = scripts.load(name)
    for argument in script.arguments:
        assert len(re.findall(rf"\b{argument}\b", code(script.source))) >= 2, argument


@EVERY_FILE
def test_no_script_calls_what_a_shared_server_forbids(name: str) -> None:
    called = set(re.findall(r"redis\.call\('(\w+)'", scripts.load(name).source))
    assert not called & {"KEYS", "SCAN", "FLUSHALL", "FLUSHDB", "CONFIG"}


def test_every_part_is_included_somewhere_and_short() -> None:
    included = {
        part
        for name in NAMES
        for part in re.findall(r"^-- INCLUDE (.*)$", file(name), re.MULTILINE)
    }
    assert {part for parts in included for part in parts.split()} == set(PARTS)
    assert all(len(file(f"lib/{part}").splitlines()) <= MOST_LINES for part in PARTS)


def test_what_a_header_declares_becomes_local_names() -> None:
    script = scripts.load("release")
    assert script.arguments == ("call", "id", "nonce", "retention")
    assert script.source.startswith("local k_messages, k_ready, ")
    assert "local nonce = ARGV[3]" in script.source
    assert "local retention = tonumber(ARGV[4])" in script.source


def test_what_is_repeated_is_left_to_the_code() -> None:
    assert scripts.load("stats").arguments == ()
    assert scripts.load("ack").arguments == ("call", "window", "retention")


@pytest.mark.backend("valkey", "redis62", "path", "fakeredis")
@EVERY_FILE
def test_servers_know_each_script_by_the_same_digest(backend: Backend, name: str) -> None:
    script = scripts.load(name)
    assert backend.client(decode_responses=True).script_load(script.source) == script.sha
